//! What every layer of items decides alike: moving items into another scope, and putting them back as they stood.

use super::check;
use athena_schemas::context::Scope;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Moved, PutBack, Relocate, Revert, Reverted};
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;

/// One event over the items that are there; none where there is none.
///
/// # Errors
/// When no items are named, or too many.
pub fn moved<E>(
    op: Relocate,
    there: impl FnOnce(&[Id]) -> Vec<Id>,
    event: impl FnOnce(Vec<Id>, Scope) -> E,
) -> Result<Decision<E, Moved>, Refusal> {
    check::count("ids", op.ids.len(), check::ITEMS)?;
    let ids = there(&op.ids);
    let matched = ids.len() as u32;
    Ok(if ids.is_empty() {
        Decision::nothing(Moved { matched, seq: None })
    } else {
        Decision::one(event(ids, op.to), Moved { matched, seq: Some(0) })
    })
}

/// An event for each item, so that erasing one takes nothing from the others.
///
/// # Errors
/// When no items are named, or too many.
pub fn put_back<I, E: From<Reverted<I>>>(op: Revert<I>) -> Result<Decision<E, PutBack>, Refusal> {
    check::count("items", op.items.len(), check::ITEMS)?;
    let items = op.items.len() as u32;
    let events = op.items.into_iter().map(|past| Reverted { items: vec![past] }.into()).collect();
    Ok(Decision::many(events, PutBack { items, seq: 0 }))
}
