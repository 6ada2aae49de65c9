//! Ranks tools by intent: BM25 over name, tags, description and fields, with stems, synonyms and a little forgiveness for
//! misspelling. All in memory, built in milliseconds, searched in microseconds.
//!
//! BM25 after Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), k1 = 1.2, b = 0.5 (tool texts differ in
//! length for reasons of style). A word of the name counts three times.

use athena_schemas::surface::{HOUSE, Tool, names};
use std::collections::{BTreeMap, HashMap};

const K1: f32 = 1.2;
const B: f32 = 0.5;
/// What a word counts in the name, among the tags, in the first sentence, in the rest.
const WEIGHTS: [f32; 4] = [3.0, 2.0, 1.0, 0.4];
/// How much less a synonym counts than the word itself, and a misspelling.
const SYNONYM: f32 = 0.5;
const FUZZY: f32 = 0.6;

/// How much better a tool can rank for having worked before.
const FAVOUR: f32 = 0.3;

/// Words that say nothing about a tool.
const STOP: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "for", "from", "how", "i", "in", "into",
    "is", "it", "its", "me", "my", "of", "on", "or", "that", "the", "their", "this", "to", "use", "using",
    "want", "was", "what", "when", "which", "will", "with", "you", "your",
];

/// Words that mean the same to somebody who looks for a tool. A line is a group.
const SYNONYMS: &[&[&str]] = &[
    &["add", "create", "insert", "make", "new", "append"],
    &["delete", "remove", "erase", "drop", "destroy", "forget"],
    &["get", "read", "fetch", "load", "retrieve", "show", "open", "view"],
    &["find", "search", "lookup", "query", "recall", "discover"],
    &["list", "enumerate", "browse", "all"],
    &["update", "edit", "modify", "change", "patch", "set"],
    &["write", "save", "store", "put", "remember", "record"],
    &["send", "post", "publish", "notify", "mail"],
    &["file", "document", "doc", "text"],
    &["folder", "directory", "dir"],
    &["issue", "ticket", "bug"],
    &["task", "todo", "reminder"],
    &["person", "user", "contact", "customer", "client"],
    &["repo", "repository", "project"],
    &["pr", "pull", "merge"],
    &["page", "url", "website", "web"],
    &["screenshot", "image", "picture", "photo"],
    &["time", "date", "clock", "timezone"],
    &["entity", "node"],
    &["relation", "edge", "link"],
    &["fact", "knowledge", "memory", "observation"],
    &["skill", "procedure", "workflow"],
    &["move", "rename"],
    &["undo", "rollback", "revert", "restore"],
];

/// One result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which tool.
    pub at: usize,
    /// How well it fits; comparable within one search.
    pub score: f32,
    /// How many of the query's words it answers, from 0 to 1; comparable between indexes.
    pub share: f32,
}

/// The index over all tools.
pub struct Index {
    /// Stem to its postings: which tool, and how often, weighted.
    postings: HashMap<String, Vec<(u32, f32)>>,
    /// Weighted length of each tool's text, relative to the mean.
    lengths: Vec<f32>,
    /// A small preference: tools of other servers before the house's own where both fit alike.
    prior: Vec<f32>,
    synonyms: HashMap<String, Vec<String>>,
}

/// A word of the query with the stems that stand for it.
type Word = Vec<(String, f32)>;

impl Index {
    /// Indexes tools.
    pub fn new(tools: &[Tool]) -> Self {
        let mut postings: HashMap<String, Vec<(u32, f32)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(tools.len());
        for (at, tool) in tools.iter().enumerate() {
            let counts = counts(tool);
            lengths.push(counts.values().sum::<f32>());
            for (stem, count) in counts {
                postings.entry(stem).or_default().push((at as u32, count));
            }
        }
        let mean = (lengths.iter().sum::<f32>() / lengths.len().max(1) as f32).max(1.0);
        lengths.iter_mut().for_each(|length| *length /= mean);
        let prior = tools.iter().map(|tool| if tool.server == HOUSE { 1.0 } else { 1.05 }).collect();
        let mut synonyms: HashMap<String, Vec<String>> = HashMap::new();
        for group in SYNONYMS {
            for word in *group {
                let others = group.iter().filter(|other| *other != word).map(|other| stem(other));
                synonyms.entry(stem(word)).or_default().extend(others);
            }
        }
        Self { postings, lengths, prior, synonyms }
    }

    /// The best tools, best first. Those that fit much worse than the best are left out. `favour` says how well a tool did before,
    /// from 0 to 1: it moves a tool that fits, by at most [`FAVOUR`], and brings none up that does not.
    pub fn search(
        &self,
        query: &str,
        limit: usize,
        allowed: impl Fn(usize) -> bool,
        favour: impl Fn(usize) -> f32,
    ) -> Vec<Hit> {
        let words = self.words(query);
        let mut totals: BTreeMap<usize, (f32, u32)> = BTreeMap::new();
        for word in &words {
            for (at, score) in self.scores(word) {
                let total = totals.entry(at).or_default();
                *total = (total.0 + score, total.1 + 1);
            }
        }
        let mut hits: Vec<Hit> = totals
            .into_iter()
            .filter(|(at, _)| allowed(*at))
            .map(|(at, (score, found))| {
                // Who answers more of the words is more likely meant than who answers one of them loudly.
                let share = found as f32 / words.len().max(1) as f32;
                let favoured = 1.0 + FAVOUR * favour(at).clamp(0.0, 1.0);
                Hit { at, score: score * (0.4 + 0.6 * share) * favoured, share }
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.at.cmp(&b.at)));
        let least = hits.first().map_or(0.0, |best| best.score * 0.25);
        hits.retain(|hit| hit.score >= least);
        hits.truncate(limit);
        hits
    }

    /// The fewest tools that together answer the words of the query: the best one, then the best for what is still open.
    pub fn cover(
        &self,
        query: &str,
        limit: usize,
        allowed: impl Fn(usize) -> bool,
        favour: impl Fn(usize) -> f32,
    ) -> Vec<Hit> {
        let words = self.words(query);
        let whole = self.search(query, usize::MAX, &allowed, favour);
        let overall: HashMap<usize, Hit> = whole.iter().map(|hit| (hit.at, *hit)).collect();
        let highest = whole.first().map_or(1.0, |hit| hit.score);
        let scores: Vec<HashMap<usize, f32>> = words
            .iter()
            .map(|word| self.scores(word).into_iter().filter(|(at, _)| allowed(*at)).collect())
            .collect();
        let best: Vec<f32> = scores.iter().map(|word| word.values().copied().fold(0.0, f32::max)).collect();
        let mut open: Vec<f32> = vec![1.0; words.len()];
        let mut chosen: Vec<Hit> = Vec::new();
        while chosen.len() < limit {
            // What a tool adds: for every word, how much of the best possible answer it gives, as far as that is still open.
            let gain =
                |at: usize| -> f32 {
                    let words = scores.iter().zip(&best).zip(&open);
                    words
                        .map(|((word, best), open)| {
                            if *best > 0.0 {
                                open * word.get(&at).copied().unwrap_or(0.0) / best
                            } else {
                                0.0
                            }
                        })
                        .sum()
                };
            // Of those that answer what is open, the one that fits the whole best.
            let top = overall
                .values()
                .filter(|hit| !chosen.iter().any(|other| other.at == hit.at))
                .map(|hit| {
                    let gained = gain(hit.at);
                    (gained * (0.3 + 0.7 * hit.score / highest), gained, *hit)
                })
                .max_by(|a, b| a.0.total_cmp(&b.0).then(b.2.at.cmp(&a.2.at)));
            let Some((_, gained, hit)) = top else { break };
            if !chosen.is_empty() && gained < 0.45 {
                break;
            }
            let at = hit.at;
            for ((word, best), open) in scores.iter().zip(&best).zip(&mut open) {
                let given = word.get(&at).copied().unwrap_or(0.0) / best.max(f32::MIN_POSITIVE);
                *open *= 1.0 - given.min(1.0);
            }
            chosen.push(hit);
        }
        chosen
    }

    /// Each word of the query with its synonyms and, where it is unknown, what it may have meant.
    fn words(&self, query: &str) -> Vec<Word> {
        let mut seen = Vec::new();
        let mut words = Vec::new();
        for word in names::words(query) {
            let stem = stem(&word);
            if STOP.contains(&word.as_str()) || seen.contains(&stem) {
                continue;
            }
            seen.push(stem.clone());
            let mut forms: Word = Vec::new();
            if !self.postings.contains_key(&stem) {
                forms.extend(self.misspelt(&stem).into_iter().map(|near| (near, FUZZY)));
            }
            for other in self.synonyms.get(&stem).into_iter().flatten() {
                // A word of the query does not also stand for another one of it.
                forms.push((other.clone(), SYNONYM));
            }
            forms.push((stem, 1.0));
            words.push(forms);
        }
        let asked = seen;
        for forms in &mut words {
            forms.retain(|(form, weight)| *weight == 1.0 || !asked.contains(form));
        }
        words
    }

    /// What each tool gets for one word: the best of its forms.
    fn scores(&self, word: &Word) -> Vec<(usize, f32)> {
        let count = self.lengths.len() as f32;
        let mut best: BTreeMap<usize, f32> = BTreeMap::new();
        for (form, weight) in word {
            let Some(list) = self.postings.get(form) else { continue };
            let having = list.len() as f32;
            let idf = (1.0 + (count - having + 0.5) / (having + 0.5)).ln();
            for (at, often) in list {
                let at = *at as usize;
                let length = self.lengths.get(at).copied().unwrap_or(1.0);
                let tf = often * (K1 + 1.0) / (often + K1 * (1.0 - B + B * length));
                let score = weight * idf * tf * self.prior.get(at).copied().unwrap_or(1.0);
                let slot = best.entry(at).or_default();
                *slot = slot.max(score);
            }
        }
        best.into_iter().collect()
    }

    /// Known words that begin like an unknown one, or differ from it in one or two letters.
    fn misspelt(&self, word: &str) -> Vec<String> {
        if word.len() < 4 {
            return Vec::new();
        }
        let mut near: Vec<(usize, &String)> = self
            .postings
            .keys()
            .filter(|known| known.len().abs_diff(word.len()) <= 2 || known.starts_with(word))
            .filter_map(|known| {
                let far = if known.starts_with(word) { 1 } else { distance(word, known) };
                (far <= 1 + usize::from(word.len() > 6)).then_some((far, known))
            })
            .collect();
        near.sort();
        near.into_iter().take(3).map(|(_, known)| known.clone()).collect()
    }
}

/// The stems of a question's words, as they are remembered with what then worked.
pub(crate) fn stems(query: &str) -> Vec<String> {
    let words = names::words(query).into_iter().filter(|word| !STOP.contains(&word.as_str()));
    let mut stems: Vec<String> = words.map(|word| stem(&word)).collect();
    stems.sort();
    stems.dedup();
    stems
}

/// How often each stem stands in a tool's texts, weighted by where.
fn counts(tool: &Tool) -> HashMap<String, f32> {
    let mut counts: HashMap<String, f32> = HashMap::new();
    let mut add = |text: &str, weight: f32| {
        for word in names::words(text).iter().filter(|word| !STOP.contains(&word.as_str())) {
            *counts.entry(stem(word)).or_default() += weight;
        }
    };
    let [name, tag, summary, rest] = WEIGHTS;
    add(&tool.name, name);
    add(&tool.server, tag);
    tool.tags.iter().for_each(|text| add(text, tag));
    add(&tool.summary(), summary);
    add(tool.description.get(..tool.description.len().min(2_000)).unwrap_or_default(), rest);
    if let Some(fields) = tool.input.get("properties").and_then(serde_json::Value::as_object) {
        fields.keys().take(40).for_each(|field| add(field, rest));
    }
    counts
}

/// The stem of a word: enough of Porter's first step to bring plurals and participles together.
pub(crate) fn stem(word: &str) -> String {
    let cut = |suffix: &str, least: usize| word.strip_suffix(suffix).filter(|rest| rest.len() >= least);
    if let Some(rest) = cut("ies", 3) {
        return format!("{rest}y");
    }
    for suffix in ["sses", "shes", "ches", "xes"] {
        if word.ends_with(suffix) && word.len() > 5 {
            return word.strip_suffix("es").unwrap_or(word).to_string();
        }
    }
    let rest = cut("ing", 3)
        .or_else(|| cut("ed", 3))
        .or_else(|| cut("s", 3).filter(|rest| !rest.ends_with(['s', 'u', 'i'])));
    let Some(rest) = rest else {
        return word.strip_suffix('e').filter(|rest| rest.len() >= 4).unwrap_or(word).to_string();
    };
    let mut chars = rest.chars().rev();
    let doubled = chars.next() == chars.next() && !rest.ends_with(['l', 's', 'z', 'e']);
    let rest = if doubled { rest.get(..rest.len() - 1).unwrap_or(rest) } else { rest };
    rest.strip_suffix('e').filter(|rest| rest.len() >= 4).unwrap_or(rest).to_string()
}

/// Levenshtein's distance, for short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            *cell = left;
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
