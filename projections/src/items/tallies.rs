//! How many items there are, kept as they come and go, so that a count does not read them all. Hidden items are not counted.

use super::{Items, project_key};
use crate::store::{Batch, StoreError, Table};
use athena_schemas::context::{Context, Scope};
use std::collections::BTreeMap;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Episodes by type.
    Type = 1,
    /// Episodes by session.
    Session = 2,
    /// Facts, whatever became of them.
    Fact = 3,
}

/// One count: of what scope and name.
type Tally = (Scope, String, u64);

fn key(what: What, scope: &Scope, name: &str) -> Vec<u8> {
    let whose = format!("{:?}{:?}{:?}\n{name}", scope.user, scope.agent, scope.session);
    [&project_key(scope)[..], &[what as u8], &super::hash8("athena tally", whose.as_bytes())].concat()
}

/// Counts one more or one fewer; what falls to nothing leaves no row, as if it had never been.
pub(super) fn tally(
    batch: &mut Batch,
    table: &Table,
    what: What,
    scope: &Scope,
    name: &str,
    more: bool,
) -> Result<(), StoreError> {
    let key = key(what, scope, name);
    let before = batch.row::<Tally>(table, &key)?.map_or(0, |(_, _, count)| count);
    let count = if more { before + 1 } else { before.saturating_sub(1) };
    if count == 0 {
        batch.remove(table, key);
        return Ok(());
    }
    batch.put_row(table, key, &(scope, name, count))
}

impl Items {
    /// Counts that who asks may see: each scope and name with its number.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tallies(&self, cx: &Context, what: What) -> Result<Vec<Tally>, StoreError> {
        let mut found: Vec<Tally> = Vec::new();
        let mut failed = None;
        for project in self.projects(&cx.scope)? {
            let prefix = [&project[..], &[what as u8]].concat();
            self.tallies.prefix(&prefix, &mut |_, row| {
                match crate::store::decode::<Tally>(row) {
                    Ok(row) if cx.scope.covers(&row.0) => found.push(row),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            })?;
        }
        failed.map_or(Ok(found), Err)
    }

    /// The counts summed up by name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn counted(&self, cx: &Context, what: What) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut names = BTreeMap::new();
        for (_, name, count) in self.tallies(cx, what)? {
            *names.entry(name).or_default() += count;
        }
        Ok(names)
    }

    /// All of them together.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn total(&self, cx: &Context, what: What) -> Result<u64, StoreError> {
        Ok(self.tallies(cx, what)?.iter().map(|(_, _, count)| count).sum())
    }
}
