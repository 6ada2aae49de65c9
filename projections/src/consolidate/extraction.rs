//! Sentences that say much: rare words, names, numbers and the first person count for a sentence, asking counts against it.

use super::texts::Texts;
use crate::items::EpisodeRow;
use athena_schemas::layers::consolidation::Span;

/// What a name, a number and the first person are worth, in nats of rarity; and what a question costs.
const NAME: f32 = 1.0;
const NUMBER: f32 = 2.0;
const FIRST_PERSON: f32 = 1.5;
const QUESTION: f32 = 6.0;
/// Sentences shorter or longer than this many bytes are no facts.
const BYTES: std::ops::RangeInclusive<usize> = 12..=400;

/// The best sentence of each event, the best of those first. What came from outside is no source of facts.
pub fn spans(rows: &[EpisodeRow], texts: &Texts, most: usize) -> Vec<Span> {
    let mut found: Vec<(f32, usize, (usize, usize))> = Vec::new();
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| !row.body.untrusted) {
        let best = sentences(&row.body.content)
            .filter(|(_, sentence)| BYTES.contains(&sentence.len()))
            .map(|(at, sentence)| (worth(sentence, number, texts), (at, at + sentence.len())))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((worth, place)) = best.filter(|(worth, _)| *worth > 0.0) {
            found.push((worth, number, place));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut told = std::collections::HashSet::new();
    found
        .into_iter()
        .filter(|(_, number, _)| texts.digests.get(*number).is_none_or(|digest| told.insert(*digest)))
        .take(most)
        .filter_map(|(worth, number, (from, to))| {
            Some(Span {
                source: rows.get(number)?.body.id.clone(),
                from: from as u32,
                to: to as u32,
                worth: (worth * 1e3) as u32,
            })
        })
        .collect()
}

/// The sentences of a text with where they begin; who says it, before a colon, belongs to the first.
fn sentences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive(['.', '!', '?', '\n']).filter_map(move |part| {
        let from = at + (part.len() - part.trim_start().len());
        at += part.len();
        let sentence = part.trim();
        (!sentence.is_empty()).then_some((from, sentence))
    })
}

/// How much a sentence says. The rarity of its words is that of the whole text's, shared out by length: a rare word stands in
/// one sentence, but it is found by its text.
fn worth(sentence: &str, number: usize, texts: &Texts) -> f32 {
    let Some(terms) = texts.of.get(number) else { return 0.0 };
    let words: Vec<&str> = crate::search::text::words(sentence).collect();
    let content =
        words.iter().filter(|word| !crate::search::text::is_stop_word(&word.to_lowercase())).count();
    let all: u32 = terms.iter().map(|term| u32::from(term.times)).sum();
    let rarity: f32 = terms.iter().map(|term| texts.idf(term.number)).sum();
    let share = if all == 0 { 0.0 } else { (content as f32 / all as f32).min(1.0) };
    let names =
        words.iter().skip(1).filter(|word| word.chars().next().is_some_and(char::is_uppercase)).count();
    let numbers = words.iter().filter(|word| word.bytes().any(|b| b.is_ascii_digit())).count();
    let first = words.iter().any(|word| matches!(*word, "I" | "My" | "my" | "We" | "we" | "Our" | "our"));
    let mut worth = rarity * share + NAME * names.min(4) as f32 + NUMBER * numbers.min(3) as f32;
    if first {
        worth += FIRST_PERSON;
    }
    if sentence.ends_with('?') {
        worth -= QUESTION;
    }
    worth
}
