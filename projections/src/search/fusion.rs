//! One ranking out of several channels.
//!
//! Channels are fused by the sum of their *normalised scores*, never of their ranks: a weak channel's ranks push good hits out
//! (measured on conversations: reciprocal rank fusion of BM25 and a sentence model finds eight points less than BM25 alone).

/// Mean and deviation of one channel over all that a search may see, for z-scores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    /// Takes one score in.
    pub fn add(&mut self, score: f32) {
        self.count += 1.0;
        self.sum += f64::from(score);
        self.squares += f64::from(score) * f64::from(score);
    }

    /// Takes in scores of 0 for everything that was not scored, up to `total` documents.
    #[must_use]
    pub fn with_zeros(mut self, total: u64) -> Self {
        self.count = self.count.max(total as f64);
        self
    }

    /// The z-score of a score; 0 where all are alike.
    pub fn z(&self, score: f32) -> f64 {
        if self.count < 2.0 {
            return 0.0;
        }
        let mean = self.sum / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        if deviation < 1e-9 { 0.0 } else { (f64::from(score) - mean) / deviation }
    }
}

/// BM25 of Robertson and Zaragoza (2009) with parameters for short texts: `k1` .9 and `b` .3 find 1.6 points of recall at 10 more
/// on conversations than the 1.2 and .75 made for newspaper articles, which tantivy has built in.
pub mod bm25 {
    const K1: f32 = 0.9;
    const B: f32 = 0.3;

    /// How much a term says that `having` of `documents` documents have.
    pub fn idf(documents: u64, having: u64) -> f32 {
        let (documents, having) = (documents.max(having) as f32, having as f32);
        (1.0 + (documents - having + 0.5) / (having + 0.5)).ln()
    }

    /// What a term adds to a document that has it `frequency` times, of `length` terms where the mean is `mean_length`.
    pub fn gain(frequency: u32, length: u32, mean_length: f32) -> f32 {
        let frequency = frequency as f32;
        let norm = 1.0 - B + B * length as f32 / mean_length.max(1.0);
        frequency * (K1 + 1.0) / (frequency + K1 * norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z_scores_count_what_was_not_scored_as_zero() {
        let mut spread = Spread::default();
        spread.add(3.0);
        spread.add(3.0);
        let spread = spread.with_zeros(4);
        assert!((spread.z(3.0) - 1.0).abs() < 1e-9);
        assert!((spread.z(0.0) + 1.0).abs() < 1e-9);
        assert_eq!(Spread::default().with_zeros(9).z(0.0), 0.0);
    }

    #[test]
    fn rarer_terms_and_shorter_texts_weigh_more() {
        assert!(bm25::idf(100, 1) > bm25::idf(100, 50));
        assert!(bm25::idf(100, 100) > 0.0);
        assert!(bm25::gain(1, 5, 10.0) > bm25::gain(1, 20, 10.0));
        assert!(bm25::gain(9, 10, 10.0) < 1.9);
    }
}
