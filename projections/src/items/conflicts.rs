//! Facts that seem to contradict each other: current claims about the same thing that differ, until somebody decides.

use super::{FactRow, Items, hash8, pair_key, project_key};
use crate::claims;
use crate::store::StoreError;
use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::semantic::conflict_id;

/// Two facts that seem to contradict each other, the earlier recorded first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Its id.
    pub id: Id,
    /// The earlier fact.
    pub first: FactRow,
    /// The later fact.
    pub second: FactRow,
    /// What they differ in.
    pub reason: String,
}
impl Items {
    /// The open conflicts of a claim: with every current fact that says something else of the same thing, seen by who asks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clashes(&self, cx: &Context, row: &FactRow) -> Result<Vec<Clash>, StoreError> {
        let Some(claim) = claims::claim(&row.body.content) else { return Ok(Vec::new()) };
        let mut clashes = Vec::new();
        for other in self.claimants(cx, &claim_prefix(&row.head.scope, &claim))? {
            clashes.extend(self.clash(&other, row)?);
        }
        Ok(clashes)
    }

    /// The current facts of one claim's subject and relation, seen by who asks, in the order they were recorded.
    fn claimants(&self, cx: &Context, about: &[u8]) -> Result<Vec<FactRow>, StoreError> {
        let mut ids = Vec::new();
        self.claims.prefix(about, &mut |_, id| {
            ids.push(Id::from_text(String::from_utf8_lossy(id).into_owned()));
            true
        })?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.fact(cx, &id)?);
        }
        Ok(rows)
    }

    fn clash(&self, one: &FactRow, other: &FactRow) -> Result<Option<Clash>, StoreError> {
        let (a, b) = (&one.body.id, &other.body.id);
        let (Some(claim), Some(counter)) =
            (claims::claim(&one.body.content), claims::claim(&other.body.content))
        else {
            return Ok(None);
        };
        if a == b || !claim.contradicts(&counter) || !one.overlaps(other) || self.is_settled(a, b)? {
            return Ok(None);
        }
        let (first, second) = if one.head.seq <= other.head.seq { (one, other) } else { (other, one) };
        Ok(Some(Clash {
            id: conflict_id(a, b),
            first: first.clone(),
            second: second.clone(),
            reason: format!("both say what {} {}", claim.subject, claim.relation),
        }))
    }

    fn is_settled(&self, one: &Id, other: &Id) -> Result<bool, StoreError> {
        Ok(self.settled.get(&pair_key(one, other))?.is_some())
    }

    /// All open conflicts that who asks may see, claim by claim.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all_clashes(&self, cx: &Context) -> Result<Vec<Clash>, StoreError> {
        let mut several: Vec<Vec<u8>> = Vec::new();
        for project in self.projects(&cx.scope)? {
            let mut last: Vec<u8> = Vec::new();
            self.claims.prefix(&project, &mut |key, _| {
                let about = key.get(..16).unwrap_or(key);
                if last == about && several.last() != Some(&last) {
                    several.push(about.to_vec());
                }
                last = about.to_vec();
                true
            })?;
        }
        let mut clashes = Vec::new();
        for about in several {
            let rows = self.claimants(cx, &about)?;
            for (i, one) in rows.iter().enumerate() {
                for other in rows.iter().skip(i + 1) {
                    clashes.extend(self.clash(one, other)?);
                }
            }
        }
        Ok(clashes)
    }

    /// The current facts that new content would contradict, seen by who asks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contradictions(&self, cx: &Context, content: &str) -> Result<Vec<FactRow>, StoreError> {
        let Some(claim) = claims::claim(content) else { return Ok(Vec::new()) };
        let mut rows = self.claimants(cx, &claim_prefix(&cx.scope, &claim))?;
        rows.retain(|row| claims::claim(&row.body.content).is_some_and(|other| other.contradicts(&claim)));
        Ok(rows)
    }
}

/// Where the current facts of one subject and relation lie.
pub(super) fn claim_prefix(scope: &Scope, claim: &claims::Claim) -> Vec<u8> {
    let whose = format!("{:?}{:?}{}\n{}", scope.user, scope.agent, claim.subject, claim.relation);
    [project_key(scope), hash8("athena claim", whose.as_bytes())].concat()
}
