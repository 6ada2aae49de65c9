//! How much alike two short texts are, by their words.

use crate::search::text::Analyzer;
use std::collections::HashMap;

/// Dice's coefficient over stemmed words, from 0 (none in common) to 1 (the same words as often). It is symmetric, and unlike a
/// search score it means the same in every store.
pub fn likeness(analyzer: &Analyzer, one: &str, other: &str) -> f64 {
    let mut counts: HashMap<String, (u32, u32)> = HashMap::new();
    let (mut ones, mut others) = (0_u32, 0_u32);
    for term in analyzer.terms(one) {
        counts.entry(term).or_default().0 += 1;
        ones += 1;
    }
    for term in analyzer.terms(other) {
        counts.entry(term).or_default().1 += 1;
        others += 1;
    }
    if ones + others == 0 {
        return 0.0;
    }
    let common: u32 = counts.values().map(|(a, b)| a.min(b)).sum();
    f64::from(2 * common) / f64::from(ones + others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_symmetric_and_bounded() {
        let analyzer = Analyzer::default();
        let like = |a: &str, b: &str| likeness(&analyzer, a, b);
        assert_eq!(like("the red kettle", "red kettles"), 1.0);
        assert_eq!(like("red kettle", "blue tin"), 0.0);
        assert_eq!(like("", ""), 0.0);
        let (a, b) = ("the kettle is in the cupboard", "the kettle is on the stove");
        assert_eq!(like(a, b), like(b, a));
        assert!((0.4..0.6).contains(&like(a, b)), "{}", like(a, b));
    }
}
