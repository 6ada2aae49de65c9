//! Texts as numbers: the terms of each, how often each text has them, and how many texts do.

use crate::search::text::{Analyzer, words};
use std::collections::HashMap;

/// What is known of the words of many texts.
#[derive(Debug, Default)]
pub struct Texts {
    terms: HashMap<String, u32>,
    /// For each text its terms, ascending: number, how often, and whether it is a name there.
    pub of: Vec<Vec<Term>>,
    /// How many texts hold each term.
    held_by: Vec<u32>,
    /// A digest of the words of each text, in order.
    pub digests: Vec<u64>,
}

/// A term in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Its number.
    pub number: u32,
    /// How often the text has it.
    pub times: u16,
    /// Capitalised within a sentence: who or what, rather than how.
    pub name: bool,
}

impl Texts {
    /// Reads them all.
    pub fn read<'a>(analyzer: &Analyzer, texts: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        // A stem costs more than a look-up, and most words were met before.
        let mut known: HashMap<String, Option<u32>> = HashMap::new();
        for text in texts {
            all.add(analyzer, &mut known, text);
        }
        all
    }

    fn add(&mut self, analyzer: &Analyzer, known: &mut HashMap<String, Option<u32>>, text: &str) {
        let mut found: Vec<Term> = Vec::new();
        let mut digest = blake3::Hasher::new();
        let mut begins = true;
        let mut rest = text;
        for word in words(text) {
            // What stands between this word and the one before says whether a sentence begins here.
            let at = word.as_ptr() as usize - rest.as_ptr() as usize;
            begins |= rest.get(..at).is_some_and(|between| between.contains(['.', '!', '?', ':', '\n']));
            rest = rest.get(at + word.len()..).unwrap_or_default();
            let name = !begins && word.chars().next().is_some_and(char::is_uppercase);
            begins = false;
            let lower = word.to_lowercase();
            digest.update(lower.as_bytes()).update(&[0]);
            let number = match known.get(&lower) {
                Some(number) => *number,
                None => {
                    let number = analyzer.term(word).map(|term| {
                        let next = self.terms.len() as u32;
                        *self.terms.entry(term).or_insert(next)
                    });
                    known.insert(lower, number);
                    number
                }
            };
            if let Some(number) = number {
                found.push(Term { number, times: 1, name });
            }
        }
        found.sort_unstable_by_key(|term| term.number);
        found.dedup_by(|next, kept| {
            let same = next.number == kept.number;
            if same {
                kept.times = kept.times.saturating_add(1);
                kept.name |= next.name;
            }
            same
        });
        self.held_by.resize(self.terms.len(), 0);
        for term in &found {
            if let Some(held) = self.held_by.get_mut(term.number as usize) {
                *held += 1;
            }
        }
        self.of.push(found);
        let mut first = [0; 8];
        digest.finalize_xof().fill(&mut first);
        self.digests.push(u64::from_le_bytes(first));
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// How many different terms there are.
    pub fn vocabulary(&self) -> usize {
        self.held_by.len()
    }

    /// How many texts hold a term.
    pub fn held_by(&self, term: u32) -> u32 {
        self.held_by.get(term as usize).copied().unwrap_or(0)
    }

    /// How rare a term is: the logarithm of the share of texts without it.
    pub fn idf(&self, term: u32) -> f32 {
        let (all, held) = (self.of.len() as f32, self.held_by(term) as f32);
        (1.0 + (all - held + 0.5) / (held + 0.5)).ln()
    }

    /// What a term of a text weighs: rarity, and half as much again for a name.
    pub fn weight(&self, term: Term) -> f32 {
        self.idf(term.number) * if term.name { 1.5 } else { 1.0 }
    }

    /// Dice's coefficient over the terms of two texts.
    pub fn likeness(&self, one: usize, other: usize) -> f64 {
        let (Some(a), Some(b)) = (self.of.get(one), self.of.get(other)) else { return 0.0 };
        let sum = |terms: &[Term]| terms.iter().map(|term| u32::from(term.times)).sum::<u32>();
        let all = sum(a) + sum(b);
        if all == 0 {
            return 0.0;
        }
        let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
        let mut common = 0_u32;
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            match x.number.cmp(&y.number) {
                std::cmp::Ordering::Less => drop(a.next()),
                std::cmp::Ordering::Greater => drop(b.next()),
                std::cmp::Ordering::Equal => {
                    common += u32::from(x.times.min(y.times));
                    a.next();
                    b.next();
                }
            }
        }
        f64::from(2 * common) / f64::from(all)
    }

    /// The words of a term number, for people: any of its stems.
    pub fn words_by_number(&self) -> Vec<&str> {
        let mut words = vec![""; self.terms.len()];
        for (word, number) in &self.terms {
            if let Some(slot) = words.get_mut(*number as usize) {
                *slot = word;
            }
        }
        words
    }
}
