//! Approvals as people read them: what was asked, by whom, and how it was answered.

use crate::store::{Batch, Fold, Order, Store, StoreError, Table, decode};
use athena_schemas::context::{Channel, Scope};
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::approval::{Approval, Event as Happened, Requested, Standing};
use athena_schemas::layers::common::time;
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Most approvals of one list.
const LISTED: usize = 1_000;

/// One approval.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    asked: Requested,
    scope: Scope,
    at_ms: u64,
    standing: Standing,
    answered_by: Option<String>,
    channel: Option<Channel>,
    reason: Option<String>,
}

impl Row {
    /// Whether somebody who looks under `scope` sees it.
    pub fn seen_from(&self, scope: &Scope) -> bool {
        scope.covers(&self.scope)
    }

    /// Where it stands at a time: what nobody answered or used in time has expired.
    pub fn standing(&self, now_ms: u64) -> Standing {
        match self.standing {
            Standing::Pending | Standing::Granted if now_ms >= self.asked.expires_ms => Standing::Expired,
            standing => standing,
        }
    }

    /// The approval as it is answered.
    pub fn item(&self, now_ms: u64) -> Approval {
        let asked = self.asked.clone();
        Approval {
            standing: self.standing(now_ms),
            id: asked.id,
            level: asked.level,
            summary: asked.summary,
            reasons: asked.reasons,
            shown: asked.shown,
            binding: asked.binding,
            run: asked.run,
            requested_by: asked.proposer,
            requested: time(self.at_ms as i64),
            expires: time(asked.expires_ms as i64),
            answered_by: self.answered_by.clone(),
            channel: self.channel,
            reason: self.reason.clone(),
        }
    }
}

/// The read model of approvals. Ids sort by time, and with them the rows.
#[derive(Clone)]
pub struct Approvals {
    rows: Table,
}

impl Approvals {
    /// One approval.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&self, id: &Id) -> Result<Option<Row>, StoreError> {
        self.rows.row(id.as_str().as_bytes())
    }

    /// The newest approvals that `takes` takes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn newest(&self, takes: impl Fn(&Row) -> bool) -> Result<Vec<Row>, StoreError> {
        let (mut found, mut unread) = (Vec::new(), None);
        self.rows.scan(&[], (Bound::Unbounded, Bound::Unbounded), Order::Descending, &mut |_, value| {
            match decode::<Row>(value) {
                Ok(row) if takes(&row) => found.push(row),
                Ok(_) => {}
                Err(error) => unread = Some(error),
            }
            found.len() < LISTED && unread.is_none()
        })?;
        unread.map_or(Ok(found), Err)
    }

    fn change(&self, batch: &mut Batch, id: &Id, change: impl FnOnce(&mut Row)) -> Result<(), StoreError> {
        let key = id.as_str().as_bytes();
        if let Some(mut row) = batch.row::<Row>(&self.rows, key)? {
            change(&mut row);
            batch.put_row(&self.rows, key, &row)?;
        }
        Ok(())
    }
}

impl Fold for Approvals {
    const NAME: &'static str = "approvals";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { rows: store.table("approvals")? })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let Event::Approval(event) = event else { return Ok(()) };
        let meta = &recorded.record.draft.meta;
        let channel = Some(meta.author.channel);
        match event {
            Happened::Requested(asked) => {
                let row = Row {
                    asked: asked.clone(),
                    scope: meta.scope.clone(),
                    at_ms: meta.at_ms,
                    standing: Standing::Pending,
                    answered_by: None,
                    channel: None,
                    reason: None,
                };
                batch.put_row(&self.rows, asked.id.as_str().as_bytes(), &row)
            }
            Happened::Granted(e) => self.change(batch, &e.id, |row| {
                (row.standing, row.answered_by) = (Standing::Granted, Some(e.approver.clone()));
                (row.channel, row.reason) = (channel, e.note.clone());
            }),
            Happened::Denied(e) => self.change(batch, &e.id, |row| {
                (row.standing, row.answered_by) = (Standing::Denied, Some(e.approver.clone()));
                (row.channel, row.reason) = (channel, Some(e.reason.clone()));
            }),
            Happened::Redeemed(e) => self.change(batch, &e.id, |row| row.standing = Standing::Redeemed),
        }
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.rows.clone()]
    }
}
