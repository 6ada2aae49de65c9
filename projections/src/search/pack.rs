//! Context within a budget: what fits best, told once, in the order of time, each line with its mark.

use super::document::Document;
use super::text::words;
use std::collections::HashSet;

/// What a token is counted as, bytes: the usual mean for English text.
const TOKEN_BYTES: usize = 4;
/// Two texts that share this part of their words are one.
const SAME: f64 = 0.9;

/// Tokens of a text, rounded up.
pub fn tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX)
}

/// Chooses from documents, best first, as many as fit into `budget` tokens; those that say what was said are left out. Returns
/// lines with their documents in the order of time, and the tokens used. A line that does not fit is left out whole.
pub fn pack(
    best_first: Vec<Document>,
    date: impl Fn(i64) -> String,
    budget: u32,
) -> (Vec<(String, Document)>, u32) {
    let mut told: Vec<HashSet<String>> = Vec::new();
    let mut chosen = Vec::new();
    let mut used: u32 = 0;
    for document in best_first {
        let words: HashSet<String> = words(&document.text).map(str::to_lowercase).collect();
        if told.iter().any(|other| alike(other, &words) >= SAME) {
            continue;
        }
        // The mark is not known yet; three digits are counted for it.
        let text = document.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = format!("{} {text}", date(document.at_ms));
        let cost = tokens(&line).saturating_add(2);
        if used.saturating_add(cost) > budget {
            continue;
        }
        used += cost;
        told.push(words);
        chosen.push((line, document));
    }
    chosen.sort_by_key(|(_, document)| (document.at_ms, document.order));
    (chosen, used)
}

/// Jaccard's coefficient.
fn alike(one: &HashSet<String>, other: &HashSet<String>) -> f64 {
    let common = one.intersection(other).count();
    let all = one.len() + other.len() - common;
    if all == 0 { 1.0 } else { common as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::context::Scope;
    use athena_schemas::id::Id;
    use athena_schemas::layers::common::Layer;

    fn said(n: i64, text: &str) -> Document {
        Document {
            id: Id::from_text(format!("ep_{n}")),
            layer: Layer::Episodic,
            scope: Scope::default(),
            session: None,
            kind: "message".into(),
            actor: None,
            text: text.into(),
            tags: Vec::new(),
            at_ms: n,
            order: 0,
            confidence: 1000,
            valid_from: None,
            valid_to: None,
            superseded: None,
            supersedes: Vec::new(),
            hidden: false,
            faded: false,
            retracted: false,
        }
    }

    #[test]
    fn a_pack_keeps_to_its_budget_and_says_nothing_twice() {
        let best_first = vec![
            said(3, "the kettle is in the cupboard"),
            said(2, "The kettle is in the cupboard!"),
            said(4, &"long ".repeat(400)),
            said(1, "Bob bought a kettle"),
        ];
        let (lines, used) = pack(best_first, |at| format!("day {at}"), 40);
        let texts: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(texts, ["day 1 Bob bought a kettle", "day 3 the kettle is in the cupboard"]);
        assert!((12..=40).contains(&used));
        assert_eq!(pack(vec![said(1, "kettle")], |_| String::new(), 0), (Vec::new(), 0));
    }
}
