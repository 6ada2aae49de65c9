//! From text to terms: case folding, stop words, Snowball stems.
//!
//! Documents and queries go through the same function, so that what was indexed can be found. Stemming is worth five points of
//! recall on conversations and the stop-word list keeps the postings short.

use rust_stemmers::{Algorithm, Stemmer};

/// Longer runs are no words (hashes, base64): they are cut here, so that a term never costs more than this many bytes.
const TERM_BYTES: usize = 64;
/// Terms taken of one query. More add time and no meaning; a pasted page is a query too.
pub const QUERY_TERMS: usize = 64;

/// English words that carry no topic. Question words are among them: they say what is asked, not what it is about.
const STOP_WORDS: &[&str] = &[
    "a",
    "about",
    "above",
    "after",
    "again",
    "against",
    "all",
    "am",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "because",
    "been",
    "before",
    "being",
    "below",
    "between",
    "both",
    "but",
    "by",
    "can",
    "could",
    "d",
    "did",
    "do",
    "does",
    "doing",
    "don",
    "down",
    "during",
    "each",
    "few",
    "for",
    "from",
    "further",
    "had",
    "has",
    "have",
    "having",
    "he",
    "her",
    "here",
    "hers",
    "herself",
    "him",
    "himself",
    "his",
    "how",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "itself",
    "just",
    "ll",
    "m",
    "me",
    "might",
    "more",
    "most",
    "must",
    "my",
    "myself",
    "no",
    "nor",
    "not",
    "now",
    "o",
    "of",
    "off",
    "on",
    "once",
    "only",
    "or",
    "other",
    "our",
    "ours",
    "ourselves",
    "out",
    "over",
    "own",
    "re",
    "s",
    "same",
    "shall",
    "she",
    "should",
    "so",
    "some",
    "such",
    "t",
    "than",
    "that",
    "the",
    "their",
    "theirs",
    "them",
    "themselves",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "through",
    "to",
    "too",
    "under",
    "until",
    "up",
    "ve",
    "very",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "which",
    "while",
    "who",
    "whom",
    "why",
    "will",
    "with",
    "would",
    "y",
    "you",
    "your",
    "yours",
    "yourself",
    "yourselves",
];

/// The longest of them, bytes.
const STOP_WORD_BYTES: usize = "yourselves".len();

/// Splits text into words: runs of letters and digits. A Chinese, Japanese or Korean character is a word of its own, because
/// those scripts do not put spaces between words.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        let first = rest.chars().next()?;
        let end = if is_ideograph(first) {
            first.len_utf8()
        } else {
            rest.find(|c: char| !c.is_alphanumeric() || is_ideograph(c)).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether a lower-case word carries no topic.
pub fn is_stop_word(word: &str) -> bool {
    word.len() <= STOP_WORD_BYTES && STOP_WORDS.binary_search(&word).is_ok()
}

/// Turns text into index terms.
pub struct Analyzer {
    stemmer: Stemmer,
}

impl Default for Analyzer {
    fn default() -> Self {
        Self { stemmer: Stemmer::create(Algorithm::English) }
    }
}

impl Analyzer {
    /// The term of one word; `None` for a stop word.
    pub fn term(&self, word: &str) -> Option<String> {
        let lower = word.to_lowercase();
        if is_stop_word(&lower) {
            return None;
        }
        let mut term = self.stemmer.stem(&lower).into_owned();
        let mut end = TERM_BYTES.min(term.len());
        while !term.is_char_boundary(end) {
            end -= 1;
        }
        term.truncate(end);
        Some(term)
    }

    /// All terms of a text, in order, repeated as often as they occur.
    pub fn terms<'a>(&'a self, text: &'a str) -> impl Iterator<Item = String> + 'a {
        words(text).filter_map(|word| self.term(word))
    }

    /// The distinct terms of a query, in order, at most [`QUERY_TERMS`].
    pub fn query(&self, text: &str) -> Vec<String> {
        let mut terms: Vec<String> = Vec::new();
        for term in self.terms(text) {
            if !terms.contains(&term) {
                terms.push(term);
            }
            if terms.len() == QUERY_TERMS {
                break;
            }
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        Analyzer::default().terms(text).collect()
    }

    #[test]
    fn the_stop_words_are_sorted_and_none_is_longer_than_said() {
        assert!(STOP_WORDS.is_sorted());
        assert_eq!(STOP_WORDS.iter().map(|word| word.len()).max(), Some(STOP_WORD_BYTES));
    }

    #[test]
    fn inflections_meet_and_stop_words_go() {
        assert_eq!(terms("The kettles were boiling"), ["kettl", "boil"]);
        assert_eq!(terms("Did she paint the kettle?"), ["paint", "kettl"]);
        assert!(terms("what is this?").is_empty());
    }

    #[test]
    fn identifiers_split_at_punctuation_and_ideographs_stand_alone() {
        assert_eq!(terms("EMAIL_tk_k7f3"), ["email", "tk", "k7f3"]);
        assert_eq!(terms("東京 tower"), ["東", "京", "tower"]);
    }

    #[test]
    fn a_run_without_end_is_cut_at_a_character() {
        let long = "é".repeat(500);
        assert_eq!(terms(&long)[0].len(), TERM_BYTES);
        assert_eq!(
            Analyzer::default().query(&(0..500).map(|n| format!("w{n} ")).collect::<String>()).len(),
            QUERY_TERMS
        );
    }
}
