//! What a command's decision needs to know of the read side: what its selection matches, what resembles or contradicts new
//! content, which texts it carries on. The decision itself stays pure.

use crate::items::FactRow;
use crate::library::Library;
use crate::likeness::likeness;
use crate::search::{Ask, Filters, Strategy};
use crate::timeline::Which;
use athena_schemas::catalog::Command;
use athena_schemas::context::{Context, Evidence};
use athena_schemas::id::Id;
use athena_schemas::layers::common::Layer;
use athena_schemas::layers::{consolidation, episodic, meta, procedural, rag, semantic};
use athena_schemas::operation::to_json;
use athena_schemas::refusal::{Code, Refusal};

/// Facts this much alike are reported by `store`.
pub const SIMILAR: f64 = 0.6;
/// Most items one selection may match.
const SELECTED: usize = 100_000;

/// Finds out what a command's decision needs to know.
///
/// # Errors
/// When the selection is refused, or the read side fails.
pub fn gather(library: &Library, cx: &Context, command: &Command) -> Result<Evidence, Refusal> {
    let mut evidence = Evidence::default();
    match command {
        Command::Episodic(episodic::Command::Forget(op)) => {
            evidence.matched = selected(library, cx, &op.sel)?
        }
        Command::Semantic(semantic::Command::Store(op)) => met(library, cx, &op.content, &mut evidence)?,
        Command::Semantic(semantic::Command::Supersede(op)) => {
            met(library, cx, &op.content, &mut evidence)?;
            inherited(library, cx, std::slice::from_ref(&op.id), &mut evidence)?;
        }
        Command::Semantic(semantic::Command::Merge(op)) => inherited(library, cx, &op.ids, &mut evidence)?,
        Command::Semantic(semantic::Command::ResolveConflict(op)) => {
            if let Some(row) = library.items.fact(cx, &op.keep)? {
                for clash in library.items.clashes(cx, &row)? {
                    evidence.conflicts.extend([clash.first.body.id, clash.second.body.id]);
                }
            }
        }
        Command::Rag(rag::Command::Feedback(op)) => {
            evidence.proposal = crate::views::rag::lessons(library, cx, op)?
        }
        Command::Consolidation(command) => consolidated(library, cx, command, &mut evidence)?,
        Command::Procedural(procedural::Command::Rollback(op)) => {
            evidence.proposal = library.version(cx, &op.name, op.to)?;
        }
        Command::Meta(meta::Command::Rate(op)) => {
            evidence.matched = if library.exists(cx, &op.id)? { vec![op.id.clone()] } else { Vec::new() };
        }
        _ => {}
    }
    Ok(evidence)
}

/// What a pass would find; what undoing one would bring back.
fn consolidated(
    library: &Library,
    cx: &Context,
    command: &consolidation::Command,
    evidence: &mut Evidence,
) -> Result<(), Refusal> {
    let findings = match command {
        consolidation::Command::Consolidate(op) => {
            library.findings(cx, op.strategy.unwrap_or_default(), op.lookback_hours)?
        }
        consolidation::Command::Dedupe(op) => {
            let layer = op.layer.unwrap_or(Layer::Episodic);
            if !matches!(layer, Layer::Episodic | Layer::Semantic) {
                return Err(Refusal::invalid("only episodic and semantic items are compared").at("layer"));
            }
            let least = op.threshold.unwrap_or(crate::consolidate::duplicates::NEAR);
            if !(0.5..=1.0).contains(&least) {
                let wrong = format!("threshold is {least}, not from 0.5 to 1");
                return Err(Refusal::invalid(wrong).at("threshold"));
            }
            library.duplicates(cx, layer, least)?
        }
        consolidation::Command::Decay(_) => library.faded(cx)?,
        consolidation::Command::Undo(op) => {
            if let Some(row) = library.insights.pass(cx, &op.run)? {
                evidence.matched = library.insights.back_without(&row)?;
            }
            return Ok(());
        }
        consolidation::Command::Reject(consolidation::Reject { id })
        | consolidation::Command::Judge(consolidation::Judge { id, .. }) => {
            evidence.matched = library.proposals.one(cx, id)?.map(|row| row.body.id).into_iter().collect();
            return Ok(());
        }
        consolidation::Command::Pin(_)
        | consolidation::Command::Configure(_)
        | consolidation::Command::NoteReasoning(_) => return Ok(()),
    };
    evidence.proposal = Some(to_json(findings)?);
    Ok(())
}

fn selected(library: &Library, cx: &Context, sel: &episodic::Selection) -> Result<Vec<Id>, Refusal> {
    let which = Which {
        range: sel.range.as_ref().map(|range| range.millis()).transpose()?,
        tags: sel.tags.clone(),
        ..Which::default()
    };
    if sel.ids.is_empty() {
        if which.range.is_none() && which.tags.is_empty() {
            return Ok(Vec::new());
        }
        let ids = library.items.select(cx, &which, SELECTED + 1)?;
        if ids.len() > SELECTED {
            return Err(Refusal::new(Code::LimitExceeded, format!("more than {SELECTED} events match"))
                .at("sel")
                .hint("narrow the range"));
        }
        return Ok(ids);
    }
    let mut ids = Vec::with_capacity(sel.ids.len());
    for id in &sel.ids {
        if library.items.episode(cx, id)?.is_some_and(|row| which.takes(&row)) {
            ids.push(id.clone());
        }
    }
    Ok(ids)
}

/// What new content meets: facts that resemble it, facts that seem to contradict it.
fn met(library: &Library, cx: &Context, content: &str, evidence: &mut Evidence) -> Result<(), Refusal> {
    let similar = library.similar(cx, content, SIMILAR, 10)?;
    evidence.similar = similar.into_iter().map(|(row, like)| (row.body.id, like as f32)).collect();
    evidence.conflicts =
        library.items.contradictions(cx, content)?.into_iter().map(|row| row.body.id).collect();
    Ok(())
}

fn inherited(library: &Library, cx: &Context, ids: &[Id], evidence: &mut Evidence) -> Result<(), Refusal> {
    let mut inherited = semantic::Inherited::default();
    for id in ids {
        let Some(row) = library.items.fact(cx, id)? else { continue };
        let body = row.body;
        inherited.untrusted |= body.untrusted;
        inherited.tags.extend(body.tags.into_iter().filter(|tag| !tag.is_empty()));
        inherited.events.extend(body.origin.events);
        evidence.texts.insert(body.id, body.content);
    }
    dedup(&mut inherited.tags);
    dedup(&mut inherited.events);
    evidence.proposal = Some(to_json(inherited)?);
    Ok(())
}

/// Keeps the first of equal ones, in order.
fn dedup<T: PartialEq>(values: &mut Vec<T>) {
    let mut kept = Vec::with_capacity(values.len());
    for value in values.drain(..) {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    *values = kept;
}

impl Library {
    /// Current facts that resemble a text at least this much, most alike first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn similar(
        &self,
        cx: &Context,
        content: &str,
        least: f64,
        limit: usize,
    ) -> Result<Vec<(FactRow, f64)>, Refusal> {
        let ask = Ask {
            layers: vec![Layer::Semantic],
            limit: 50.max(limit),
            strategy: Strategy::Hybrid,
            filters: Filters::default(),
            ..Ask::new(content)
        };
        let mut rows = Vec::new();
        for found in self.finder.search(cx, &ask)? {
            let Some(row) = self.items.fact(cx, &found.id)?.filter(FactRow::current) else { continue };
            let like = likeness(&self.finder.analyzer, content, &row.body.content);
            if like >= least {
                rows.push((row, like));
            }
        }
        rows.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.body.id.cmp(&b.0.body.id)));
        rows.truncate(limit);
        Ok(rows)
    }
}
