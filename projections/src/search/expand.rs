//! Other words for a query, taken from what it finds: the relevance model RM3 (Lavrenko and Croft 2001; Abdul-Jaleel et al. 2004).

use super::fusion::bm25;
use super::{Ask, Finder, Strategy, text, unreadable};
use athena_schemas::context::Context;
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeMap, HashSet};

/// Documents that are taken to be relevant.
const FEEDBACK: usize = 10;

impl Finder {
    /// The words that tell the best documents for a query from all others, most telling first, as they are written there. Words
    /// of the query are not among them.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn expansion(&self, cx: &Context, query: &str, most: usize) -> Result<Vec<String>, Refusal> {
        let ask = Ask { limit: FEEDBACK, strategy: Strategy::Bm25, ..Ask::new(query) };
        let found = self.search(cx, &ask)?;
        let own: HashSet<String> = self.analyzer.query(query).into_iter().collect();
        // By term: its weight, and how often it is written how.
        let mut model: BTreeMap<String, (f64, BTreeMap<String, u32>)> = BTreeMap::new();
        for hit in &found {
            let Some(document) = self.document(&hit.id)? else { continue };
            let said = super::document::speaker(&document.text).map_or(document.text.as_str(), |name| {
                document.text.get(name.len() + 2..).unwrap_or_default()
            });
            let length = text::words(said).count().max(1) as f64;
            for word in text::words(said) {
                let Some(term) =
                    self.analyzer.term(word).filter(|term| !own.contains(term) && term.len() > 1)
                else {
                    continue;
                };
                let (weight, written) = model.entry(term).or_default();
                *weight += hit.score / length;
                *written.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        let state = self.read();
        let documents = state.table.documents() as u64;
        let mut ranked = Vec::with_capacity(model.len());
        for (term, (weight, written)) in model {
            let mut having = 0;
            state.snapshot.postings(&term, &mut |_, _| having += 1).map_err(unreadable)?;
            let word = written.into_iter().max_by_key(|(_, times)| *times).map(|(word, _)| word);
            ranked.extend(word.map(|word| (weight * f64::from(bm25::idf(documents, having)), word)));
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Ok(ranked.into_iter().take(most).map(|(_, word)| word).collect())
    }
}
