//! Vectors as bytes, scanned one by one.
//!
//! Up to some hundred thousand vectors a scan is faster than its answer is needed and finds exactly the nearest; an index
//! would only come close. Each vector is scaled by its own largest component into ±127, which costs less than a thousandth of a
//! cosine. The loop is plain Rust, compiled once for every instruction set and dispatched at run time by `pulp`.

use super::table::Row;
use pulp::Arch;

/// A vector in bytes with its scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// The components.
    pub bytes: Vec<i8>,
    /// What a component of 1 is worth.
    pub scale: f32,
}

impl Quantized {
    /// Scales a vector to length 1 and rounds it.
    pub fn of(vector: &[f32]) -> Self {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let largest = vector.iter().fold(0f32, |most, x| most.max(x.abs()));
        if length <= f32::EPSILON || largest <= f32::EPSILON || !length.is_finite() {
            return Self { bytes: vec![0; vector.len()], scale: 0.0 };
        }
        let bytes = vector.iter().map(|x| (x / largest * 127.0).round() as i8).collect();
        Self { bytes, scale: largest / 127.0 / length }
    }
}

/// One vector a row.
#[derive(Debug, Clone, Default)]
pub struct Vectors {
    dimensions: usize,
    bytes: Vec<i8>,
    scales: Vec<f32>,
}

impl Vectors {
    /// No vectors yet, of this many components each.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, bytes: Vec::new(), scales: Vec::new() }
    }

    /// Components of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows have their place.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Sets the vector of a row; rows before it that have none get zeros.
    pub fn set(&mut self, row: Row, vector: &Quantized) {
        if vector.bytes.len() != self.dimensions {
            return;
        }
        let rows = self.scales.len().max(row as usize + 1);
        self.scales.resize(rows, 0.0);
        self.bytes.resize(rows * self.dimensions, 0);
        let start = row as usize * self.dimensions;
        if let (Some(bytes), Some(scale)) =
            (self.bytes.get_mut(start..start + self.dimensions), self.scales.get_mut(row as usize))
        {
            bytes.copy_from_slice(&vector.bytes);
            *scale = vector.scale;
        }
    }

    /// Forgets the vector of a row.
    pub fn clear(&mut self, row: Row) {
        let start = row as usize * self.dimensions;
        if let Some(bytes) = self.bytes.get_mut(start..start + self.dimensions) {
            bytes.fill(0);
        }
        if let Some(scale) = self.scales.get_mut(row as usize) {
            *scale = 0.0;
        }
    }

    /// Whether a row has a vector.
    pub fn has(&self, row: Row) -> bool {
        self.scales.get(row as usize).is_some_and(|scale| *scale != 0.0)
    }

    /// The vector of a row.
    pub fn get(&self, row: Row) -> Option<Quantized> {
        let start = row as usize * self.dimensions;
        let bytes = self.bytes.get(start..start + self.dimensions)?;
        Some(Quantized { bytes: bytes.to_vec(), scale: *self.scales.get(row as usize)? })
    }

    /// Cosine of a row and a query.
    pub fn cosine(&self, row: Row, query: &Quantized) -> f32 {
        let start = row as usize * self.dimensions;
        match (self.bytes.get(start..start + self.dimensions), self.scales.get(row as usize)) {
            (Some(bytes), Some(scale)) => dot(bytes, &query.bytes) as f32 * scale * query.scale,
            _ => 0.0,
        }
    }

    /// Calls `each` with the cosine of every row that `admits`.
    pub fn scan(&self, query: &Quantized, admits: impl Fn(Row) -> bool, mut each: impl FnMut(Row, f32)) {
        if query.bytes.len() != self.dimensions || self.dimensions == 0 {
            return;
        }
        Arch::new().dispatch(|| {
            for ((row, bytes), scale) in (0..).zip(self.bytes.chunks_exact(self.dimensions)).zip(&self.scales)
            {
                if admits(row) {
                    each(row, dot(bytes, &query.bytes) as f32 * scale * query.scale);
                }
            }
        });
    }

    /// Rows from the first to before the second as bytes: of each its scale, then its components.
    pub fn records(&self, from: usize, to: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let rows = self.scales.iter().zip(self.bytes.chunks_exact(self.dimensions.max(1)));
        for (scale, bytes) in rows.take(to).skip(from) {
            out.extend_from_slice(&scale.to_le_bytes());
            out.extend(bytes.iter().flat_map(|byte| byte.to_le_bytes()));
        }
        out
    }

    /// Reads back what [`Vectors::records`] wrote, at most `rows` rows.
    pub fn from_records(dimensions: usize, records: &[u8], rows: usize) -> Self {
        let mut vectors = Self::new(dimensions);
        for record in records.chunks_exact(dimensions + 4).take(rows) {
            if let Some((scale, bytes)) = record.split_first_chunk::<4>() {
                vectors.scales.push(f32::from_le_bytes(*scale));
                vectors.bytes.extend(bytes.iter().map(|b| i8::from_le_bytes([*b])));
            }
        }
        vectors
    }
}

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(i16::from(*a)) * i32::from(i16::from(*b))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_the_cosine() {
        let vector = |seed: u32| -> Vec<f32> {
            let mut x = seed;
            (0..256)
                .map(|_| {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (x >> 8) as f32 / (1 << 24) as f32 - 0.3
                })
                .collect()
        };
        let exact = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut vectors = Vectors::new(256);
        for seed in 0..20 {
            vectors.set(seed, &Quantized::of(&vector(seed)));
        }
        let query = vector(99);
        let mut seen = 0;
        vectors.scan(
            &Quantized::of(&query),
            |row| row != 3,
            |row, cosine| {
                assert!((cosine - exact(&vector(row), &query)).abs() < 2e-3, "row {row}");
                assert_eq!(cosine, vectors.cosine(row, &Quantized::of(&query)));
                seen += 1;
            },
        );
        assert_eq!(seen, 19);
        let back = Vectors::from_records(256, &vectors.records(0, 20), 20);
        assert_eq!(back.get(7), vectors.get(7));
        assert_eq!(back.len(), 20);
    }

    #[test]
    fn a_vector_of_nothing_resembles_nothing() {
        let nothing = Quantized::of(&[0.0; 4]);
        let mut vectors = Vectors::new(4);
        vectors.set(2, &Quantized::of(&[1.0, 0.0, 0.0, 0.0]));
        assert_eq!(vectors.cosine(2, &nothing), 0.0);
        assert_eq!(vectors.cosine(0, &Quantized::of(&[1.0, 0.0, 0.0, 0.0])), 0.0);
        assert_eq!(vectors.cosine(9, &nothing), 0.0);
    }
}
