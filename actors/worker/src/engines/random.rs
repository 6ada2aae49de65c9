//! Randomness that a run can repeat: the extended output of BLAKE3 (O'Connor et al., 2020), keyed with the run's seed.

/// An endless stream of bytes from a seed; streams of different purposes are independent.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    reader: blake3::OutputReader,
}

impl Stream {
    /// The stream of a seed for one purpose.
    pub(crate) fn new(seed: &[u8; 32], purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(purpose.as_bytes());
        Self { reader: hasher.finalize_xof() }
    }

    /// The next bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.reader.fill(bytes);
    }

    /// The next number.
    pub(crate) fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in [0, 1), with all 53 bits a float has.
    pub(crate) fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_stream() {
        let draw = |seed: u8, purpose| {
            let mut stream = Stream::new(&[seed; 32], purpose);
            [stream.next_u64(), stream.next_u64()]
        };
        assert_eq!(draw(7, "math"), draw(7, "math"));
        assert_ne!(draw(7, "math"), draw(8, "math"));
        assert_ne!(draw(7, "math"), draw(7, "crypto"));
    }

    #[test]
    fn floats_fill_the_unit_interval() {
        let mut stream = Stream::new(&[1; 32], "math");
        let draws: Vec<f64> = (0..10_000).map(|_| stream.next_f64()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
