//! The answers to queries, one file a layer: read models joined into what is asked for.

mod approval;
mod consolidation;
mod episodic;
mod graph;
mod meta;
mod procedural;
mod prospective;
pub(crate) mod rag;
mod run;
mod semantic;
mod store;

use crate::items::{EpisodeRow, FactRow};
use crate::library::Library;
use crate::search::Found;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Hit, Layer};
use athena_schemas::layers::episodic::Episode;
use athena_schemas::layers::semantic::Fact;
use athena_schemas::refusal::{Code, Refusal};

/// Most items of one answer.
const MOST: u32 = 1_000;
/// A fact whose confidence is below this should be checked before it is relied on.
const DOUBTFUL: f64 = 0.3;

/// A limit within its bounds.
///
/// # Errors
/// When it is 0 or more than 1,000.
pub(crate) fn limit(limit: u32) -> Result<usize, Refusal> {
    match limit {
        0 => Err(Refusal::invalid("limit is 0").at("limit")),
        n if n > MOST => Err(Refusal::new(Code::LimitExceeded, format!("limit is {n}; at most {MOST}"))
            .at("limit")
            .hint("page through it with cursor, or ask again with a narrower filter")),
        n => Ok(n as usize),
    }
}

/// A query that says something.
///
/// # Errors
/// When it is blank.
pub(crate) fn query(text: &str) -> Result<&str, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::invalid("the query is empty").at("query"));
    }
    Ok(text)
}

/// The refusal for an id that is not there, or not there for who asks.
pub(crate) fn missing(id: &Id) -> Refusal {
    Refusal::not_found(format!("there is no {id} in this scope")).hint("search names the ids there are")
}

/// Numbers as a page's cursor: a letter for its order, then the numbers.
pub(crate) fn cursor(numbers: &[i128]) -> String {
    numbers.iter().map(i128::to_string).collect::<Vec<_>>().join("_")
}

/// The numbers of a cursor.
///
/// # Errors
/// When it is none of ours.
pub(crate) fn place<const N: usize>(cursor: Option<&str>) -> Result<Option<[i128; N]>, Refusal> {
    let Some(cursor) = cursor else { return Ok(None) };
    let numbers: Option<Vec<i128>> = cursor.split('_').map(|part| part.parse().ok()).collect();
    numbers.and_then(|numbers| <[i128; N]>::try_from(numbers).ok()).map(Some).ok_or_else(|| {
        Refusal::invalid("no page begins there").at("cursor").hint("give `next` of the page before")
    })
}

/// A page cut from a whole list by its offset.
pub(crate) fn cut<T>(
    all: Vec<T>,
    most: u32,
    from: Option<&str>,
) -> Result<athena_schemas::layers::common::Paged<T>, Refusal> {
    let most = limit(most)?;
    let start = match place::<1>(from)? {
        Some([start]) => usize::try_from(start).unwrap_or(usize::MAX),
        None => 0,
    };
    let total = all.len();
    let items: Vec<T> = all.into_iter().skip(start).take(most).collect();
    let end = start.saturating_add(items.len());
    let next = (end < total).then(|| cursor(&[end as i128]));
    Ok(athena_schemas::layers::common::Paged { items, next })
}

/// The words of identifiers: `fetchInvoices` and `fetch_invoices` both say "fetch invoices".
pub(crate) fn identifiers(code: &str) -> String {
    let mut words = String::with_capacity(code.len());
    let mut before = ' ';
    for c in code.chars() {
        if before.is_lowercase() && c.is_uppercase() {
            words.push(' ');
        }
        words.push(if c.is_alphanumeric() { c } else { ' ' });
        before = c;
    }
    words
}

// Layers without queries.
impl athena_schemas::layers::privacy::Queries for Library {}
impl athena_schemas::layers::upstream::Queries for Library {}

impl Library {
    /// An episode that was found, whole.
    pub(crate) fn episode_hit(&self, found: &Found, row: &EpisodeRow) -> Hit<Episode> {
        Hit {
            id: found.id.clone(),
            layer: Layer::Episodic,
            score: found.score,
            signals: found.signals,
            item: row.item(),
            prov: row.body.origin.clone().into(),
            stale: false,
            superseded_by: None,
            conflicts: Vec::new(),
        }
    }

    /// A fact that was found, whole, with what speaks against it.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn fact_hit(&self, cx: &Context, found: &Found, row: &FactRow) -> Result<Hit<Fact>, Refusal> {
        let id = &row.body.id;
        let mut conflicts: Vec<Id> = Vec::new();
        if row.current() {
            for clash in self.items.clashes(cx, row)? {
                let other = if clash.first.body.id == *id { clash.second } else { clash.first };
                conflicts.push(other.body.id);
            }
        }
        let item = row.item();
        let stale = !row.current() || !row.valid_at(cx.now_ms as i64) || item.confidence < DOUBTFUL;
        Ok(Hit {
            id: id.clone(),
            layer: Layer::Semantic,
            score: found.score,
            signals: found.signals,
            prov: item.prov.clone(),
            item,
            stale,
            superseded_by: row.superseded_by.clone(),
            conflicts,
        })
    }
}
