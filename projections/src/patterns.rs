//! Frequent sequences: PrefixSpan (Pei et al. 2001) over the event types of sessions. A pattern is supported by every session
//! that holds its types in order, with at most `gap` others between two of them.

use crate::items::EpisodeRow;
use crate::timeline::by_session;
use athena_schemas::layers::consolidation::Recurring;
use std::collections::BTreeMap;

/// Most patterns found.
const MOST: usize = 1_000;

/// What counts as a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// Supported by at least this many sequences.
    pub min_support: usize,
    /// At most this many types.
    pub max_length: usize,
    /// At most this many others between two of its types.
    pub gap: usize,
}

/// A frequent sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern<'a> {
    /// The types, in order.
    pub types: Vec<&'a str>,
    /// The sequences that hold it, with the place of each of its types in the first occurrence that was found.
    pub held_by: Vec<(usize, Vec<usize>)>,
}

/// The sequences of event types that recur over the named sessions of these episodes, and how many sessions there are.
pub fn recurring(rows: &[EpisodeRow], search: Search, most: usize) -> (Vec<Recurring>, u32) {
    let sessions = by_session(rows);
    let kinds: Vec<Vec<&str>> =
        sessions.iter().map(|session| session.iter().map(|row| row.body.kind.as_str()).collect()).collect();
    let found = frequent(&kinds, search).into_iter().take(most).map(|pattern| {
        let example = pattern.held_by.first().map(|(session, places)| {
            let events = sessions.get(*session);
            places.iter().filter_map(|at| Some(events?.get(*at)?.body.id.clone())).collect()
        });
        Recurring {
            types: pattern.types.iter().map(|kind| (*kind).to_owned()).collect(),
            support: pattern.held_by.len() as u32,
            example: example.unwrap_or_default(),
        }
    });
    (found.collect(), sessions.len() as u32)
}

/// Patterns of at least two types, the longest and best supported first; none that a longer one with the same support holds.
pub fn frequent<'a>(sequences: &[Vec<&'a str>], search: Search) -> Vec<Pattern<'a>> {
    let mut found = Vec::new();
    let start =
        Pattern { types: Vec::new(), held_by: (0..sequences.len()).map(|s| (s, Vec::new())).collect() };
    grow(sequences, search, &start, &mut found);
    found.retain(|pattern| pattern.types.len() > 1);
    let closed: Vec<Pattern<'a>> = found
        .iter()
        .filter(|short| {
            !found.iter().any(|long| {
                long.types.len() > short.types.len()
                    && long.held_by.len() == short.held_by.len()
                    && within(&short.types, &long.types)
            })
        })
        .cloned()
        .collect();
    let mut closed = closed;
    closed.sort_by(|a, b| {
        let worth = |p: &Pattern<'_>| p.types.len() * p.held_by.len();
        worth(b).cmp(&worth(a)).then_with(|| a.types.cmp(&b.types))
    });
    closed
}

fn grow<'a>(sequences: &[Vec<&'a str>], search: Search, prefix: &Pattern<'a>, found: &mut Vec<Pattern<'a>>) {
    if prefix.types.len() == search.max_length || found.len() >= MOST {
        return;
    }
    let mut next: BTreeMap<&'a str, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
    for (number, places) in &prefix.held_by {
        let Some(sequence) = sequences.get(*number) else { continue };
        let (from, most) = match places.last() {
            Some(last) => (last + 1, search.gap + 1),
            None => (0, usize::MAX),
        };
        let mut seen: Vec<&str> = Vec::new();
        for (place, kind) in sequence.iter().enumerate().skip(from).take(most) {
            if !seen.contains(kind) {
                seen.push(kind);
                let places = places.iter().copied().chain([place]).collect();
                next.entry(kind).or_default().push((*number, places));
            }
        }
    }
    for (kind, held_by) in next {
        if held_by.len() >= search.min_support.max(1) {
            let types = prefix.types.iter().copied().chain([kind]).collect();
            let longer = Pattern { types, held_by };
            found.push(longer.clone());
            grow(sequences, search, &longer, found);
        }
    }
}

fn within(short: &[&str], long: &[&str]) -> bool {
    let mut rest = long.iter();
    short.iter().all(|kind| rest.any(|other| other == kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(sequences: &[&str], min_support: usize, gap: usize) -> Vec<(String, usize)> {
        let split: Vec<Vec<&str>> = sequences.iter().map(|s| s.split(' ').collect()).collect();
        frequent(&split, Search { min_support, max_length: 5, gap })
            .into_iter()
            .map(|pattern| (pattern.types.join(" "), pattern.held_by.len()))
            .collect()
    }

    #[test]
    fn what_keeps_coming_back_is_found_whole() {
        let found = patterns(
            &["edit test fail fix test", "edit test fail fix", "read edit test fail fix", "read"],
            3,
            0,
        );
        assert_eq!(found, [("edit test fail fix".to_owned(), 3)]);
    }

    #[test]
    fn a_gap_is_bounded() {
        let sequences = ["a x b", "a y b", "a z z b"];
        assert_eq!(patterns(&sequences, 2, 0), []);
        assert_eq!(patterns(&sequences, 2, 1), [("a b".to_owned(), 2)]);
        assert_eq!(patterns(&sequences, 3, 2), [("a b".to_owned(), 3)]);
    }
}
