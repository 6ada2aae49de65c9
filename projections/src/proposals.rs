//! What language models proposed and what became of it. A proposal's text is its own and goes with any of its sources, and
//! with the fact it became: whoever erases one of those erases what was made of it.

use crate::items::Head;
use crate::store::{Batch, Fold, Order, Store, StoreError, Table, decode};
use athena_schemas::context::Context;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, time};
use athena_schemas::layers::consolidation::{self, Proposal, Proposed, Standing};
use athena_schemas::layers::{episodic, semantic};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRow {
    /// Where and when.
    pub head: Head,
    /// What was proposed.
    pub body: Proposed,
    /// By which model.
    pub model: String,
    /// What became of it.
    pub standing: Standing,
    /// The fact it became.
    pub fact: Option<Id>,
}

impl ProposalRow {
    /// The proposal as it is answered.
    pub fn item(&self) -> Proposal {
        Proposal {
            id: self.body.id.clone(),
            run: self.body.run.clone(),
            content: self.body.content.clone(),
            sources: self.body.sources.clone(),
            confidence: f64::from(self.body.confidence) / 1e3,
            model: self.model.clone(),
            at: time(self.head.recorded_ms as i64),
            standing: self.standing,
            fact: self.fact.clone(),
        }
    }
}

/// The tables of proposals.
#[derive(Clone)]
pub struct Proposals {
    /// By id, which sorts by time.
    rows: Table,
    /// `pass 0 proposal`, and `item 0 proposal` for each source and for the fact.
    leads: Table,
    /// The model by pass.
    models: Table,
}

fn lead(from: &Id, to: &Id) -> Vec<u8> {
    [from.as_str().as_bytes(), &[0], to.as_str().as_bytes()].concat()
}

/// What leads to a proposal.
fn leading(row: &ProposalRow) -> impl Iterator<Item = &Id> {
    row.body.sources.iter().chain(&row.fact).chain([&row.body.run])
}

impl Proposals {
    /// A proposal, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn one(&self, cx: &Context, id: &Id) -> Result<Option<ProposalRow>, StoreError> {
        Ok(self.rows.row::<ProposalRow>(id.as_str().as_bytes())?.filter(|row| row.head.visible(cx)))
    }

    /// Visits the proposals that who asks may see, newest first, from before `before` on, until `visit` says `false`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn newest(
        &self,
        cx: &Context,
        before: Option<&Id>,
        visit: &mut dyn FnMut(ProposalRow) -> bool,
    ) -> Result<(), StoreError> {
        let until = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str().as_bytes().to_vec()));
        let mut failed = None;
        self.rows.scan(&[], (Bound::Unbounded, until), Order::Descending, &mut |_, row| {
            match decode::<ProposalRow>(row) {
                Ok(row) if row.head.visible(cx) => return visit(row),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn proposed(&self, batch: &mut Batch, event: &Proposed, recorded: &Recorded) -> Result<(), StoreError> {
        let model = batch.get(&self.models, event.run.as_str().as_bytes())?.unwrap_or_default();
        let row = ProposalRow {
            head: Head::of(recorded),
            body: event.clone(),
            model: String::from_utf8_lossy(&model).into_owned(),
            standing: Standing::Pending,
            fact: None,
        };
        for from in leading(&row) {
            batch.put(&self.leads, lead(from, &event.id), Vec::new());
        }
        batch.put_row(&self.rows, event.id.as_str(), &row)
    }

    fn judged(&self, batch: &mut Batch, event: &consolidation::Judged) -> Result<(), StoreError> {
        let Some(mut row) = batch.row::<ProposalRow>(&self.rows, event.id.as_str().as_bytes())? else {
            return Ok(());
        };
        row.standing = if event.fact.is_some() { Standing::Accepted } else { Standing::Rejected };
        row.fact.clone_from(&event.fact);
        for from in leading(&row) {
            batch.put(&self.leads, lead(from, &event.id), Vec::new());
        }
        batch.put_row(&self.rows, event.id.as_str(), &row)
    }

    /// Takes out every proposal that an item or a pass leads to.
    fn gone(&self, batch: &mut Batch, from: &Id) -> Result<(), StoreError> {
        let prefix = [from.as_str().as_bytes(), &[0]].concat();
        for (key, _) in batch.rows(&self.leads, &prefix)? {
            let id = key.get(prefix.len()..).unwrap_or_default().to_vec();
            if let Some(row) = batch.row::<ProposalRow>(&self.rows, &id)? {
                for from in leading(&row) {
                    batch.remove(&self.leads, lead(from, &row.body.id));
                }
            }
            batch.remove(&self.rows, id);
        }
        Ok(())
    }
}

impl Fold for Proposals {
    const NAME: &'static str = "proposals";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            rows: store.table("proposals")?,
            leads: store.table("proposal_leads")?,
            models: store.table("proposal_models")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        match event {
            Event::Consolidation(consolidation::Event::Reasoned(event)) => {
                batch.put(&self.models, event.run.as_str(), event.asked.model.as_bytes());
                Ok(())
            }
            Event::Consolidation(consolidation::Event::Proposed(event)) => {
                self.proposed(batch, event, recorded)
            }
            Event::Consolidation(consolidation::Event::Judged(event)) => self.judged(batch, event),
            Event::Consolidation(consolidation::Event::Undone(event)) => {
                batch.remove(&self.models, event.run.as_str());
                self.gone(batch, &event.run)
            }
            Event::Episodic(episodic::Event::Forgotten(event)) if event.mode == Forgetting::Erase => {
                event.ids.iter().try_for_each(|id| self.gone(batch, id))
            }
            Event::Semantic(semantic::Event::Discarded(event)) if event.mode == Forgetting::Erase => {
                event.ids.iter().try_for_each(|id| self.gone(batch, id))
            }
            _ => Ok(()),
        }
    }

    fn tables(&self) -> Vec<Table> {
        [&self.rows, &self.leads, &self.models].map(Table::clone).to_vec()
    }
}
