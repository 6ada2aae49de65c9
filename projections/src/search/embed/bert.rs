//! A BERT encoder (Devlin et al. 2018) for sentence embeddings: the mean over the last layer, as sentence-transformers does it.
//!
//! Written out in plain Rust, because all it takes is five kinds of step, and because the alternative is a machine-learning
//! framework that is larger than the rest of the program. The multiplication is compiled once for every instruction set and
//! dispatched at run time by `pulp`.

use super::{Embedder, Files, broken};
use athena_schemas::refusal::Refusal;
use pulp::Arch;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tokenizers::Tokenizer;

/// Word pieces of a text that are read; what follows is not.
const PIECES: usize = 256;

/// What `config.json` says of the encoder's shape.
#[derive(Debug, Clone, Deserialize)]
struct Shape {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default = "Shape::epsilon")]
    layer_norm_eps: f32,
}

impl Shape {
    fn epsilon() -> f32 {
        1e-12
    }
}

/// `y = Wx + b`; the weights of one output lie together.
struct Linear {
    weights: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention: Linear,
    attention_norm: Norm,
    widen: Linear,
    narrow: Linear,
    output_norm: Norm,
}

/// A sentence model.
pub struct Bert {
    name: String,
    fingerprint: [u8; 32],
    tokenizer: Tokenizer,
    shape: Shape,
    pieces: Vec<f32>,
    positions: Vec<f32>,
    segment: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// The tensors of a file, read as floats.
struct Tensors<'a> {
    file: SafeTensors<'a>,
    epsilon: f32,
}

impl Tensors<'_> {
    fn floats(&self, name: &str) -> Result<Vec<f32>, Refusal> {
        let tensor = self
            .file
            .tensor(name)
            .or_else(|_| self.file.tensor(&format!("bert.{name}")))
            .map_err(|error| broken("model.safetensors", error))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(broken("model.safetensors", format!("{name} is not of 32-bit floats")));
        }
        Ok(tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn linear(&self, name: &str) -> Result<Linear, Refusal> {
        let (weights, bias) =
            (self.floats(&format!("{name}.weight"))?, self.floats(&format!("{name}.bias"))?);
        if bias.is_empty() || weights.len() % bias.len() != 0 {
            return Err(broken("model.safetensors", format!("{name} has no shape")));
        }
        Ok(Linear { inputs: weights.len() / bias.len(), weights, bias })
    }

    fn norm(&self, name: &str) -> Result<Norm, Refusal> {
        let (gain, bias) = (self.floats(&format!("{name}.weight"))?, self.floats(&format!("{name}.bias"))?);
        Ok(Norm { gain, bias, epsilon: self.epsilon })
    }

    fn layer(&self, number: usize) -> Result<Layer, Refusal> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        Ok(Layer {
            query: self.linear(&name("attention.self.query"))?,
            key: self.linear(&name("attention.self.key"))?,
            value: self.linear(&name("attention.self.value"))?,
            attention: self.linear(&name("attention.output.dense"))?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            widen: self.linear(&name("intermediate.dense"))?,
            narrow: self.linear(&name("output.dense"))?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }
}

impl Bert {
    pub(super) fn load(name: String, files: &Files) -> Result<Self, Refusal> {
        let shape: Shape =
            serde_json::from_slice(&files.config).map_err(|error| broken("config.json", error))?;
        if shape.num_attention_heads == 0 || !shape.hidden_size.is_multiple_of(shape.num_attention_heads) {
            return Err(broken("config.json", "the heads do not divide the width"));
        }
        let mut tokenizer =
            Tokenizer::from_bytes(&files.tokenizer).map_err(|error| broken("tokenizer.json", error))?;
        tokenizer
            .with_padding(None)
            .with_truncation(None)
            .map_err(|error| broken("tokenizer.json", error))?;
        let file =
            SafeTensors::deserialize(&files.weights).map_err(|error| broken("model.safetensors", error))?;
        let tensors = Tensors { file, epsilon: shape.layer_norm_eps };
        let segment = tensors.floats("embeddings.token_type_embeddings.weight")?;
        Ok(Self {
            name,
            fingerprint: files.fingerprint(),
            tokenizer,
            pieces: tensors.floats("embeddings.word_embeddings.weight")?,
            positions: tensors.floats("embeddings.position_embeddings.weight")?,
            segment: segment.into_iter().take(shape.hidden_size).collect(),
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers: (0..shape.num_hidden_layers).map(|n| tensors.layer(n)).collect::<Result<_, _>>()?,
            shape,
        })
    }

    fn encode(&self, text: &str) -> Result<Vec<f32>, Refusal> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| Refusal::internal(format!("the text cannot be tokenized: {error}")))?;
        let ids = encoding.get_ids();
        // The last piece says that the sentence is over; it stays where the middle is cut.
        let cut: Vec<u32> = match ids.last() {
            Some(end) if ids.len() > PIECES => ids.iter().take(PIECES - 1).chain([end]).copied().collect(),
            _ => ids.to_vec(),
        };
        Ok(Arch::new().dispatch(|| self.forward(&cut)))
    }

    #[inline(always)]
    fn forward(&self, ids: &[u32]) -> Vec<f32> {
        let width = self.shape.hidden_size;
        let mut x = self.embeddings(ids);
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let mixed = self.attend(layer, &x);
            add(&mut x, &layer.attention.apply(&mixed));
            layer.attention_norm.apply(&mut x);
            let mut wide = layer.widen.apply(&x);
            wide.iter_mut().for_each(|value| *value = gelu(*value));
            add(&mut x, &layer.narrow.apply(&wide));
            layer.output_norm.apply(&mut x);
        }
        let mut mean = vec![0.0; width];
        for token in x.chunks_exact(width) {
            add(&mut mean, token);
        }
        let length = mean.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
        mean.iter_mut().for_each(|value| *value /= length);
        mean
    }

    fn embeddings(&self, ids: &[u32]) -> Vec<f32> {
        let width = self.shape.hidden_size;
        let mut x = Vec::with_capacity(ids.len() * width);
        for (at, id) in ids.iter().enumerate() {
            let row = |table: &'static str, rows: &[f32], n: usize| {
                rows.get(n * width..(n + 1) * width).map(<[f32]>::to_vec).ok_or(table)
            };
            let mut token = row("pieces", &self.pieces, *id as usize).unwrap_or_else(|_| vec![0.0; width]);
            add(&mut token, &row("positions", &self.positions, at).unwrap_or_else(|_| vec![0.0; width]));
            add(&mut token, &self.segment);
            x.extend(token);
        }
        x
    }

    /// Scaled dot-product attention, head by head.
    #[inline(always)]
    fn attend(&self, layer: &Layer, x: &[f32]) -> Vec<f32> {
        let width = self.shape.hidden_size;
        let part = width / self.shape.num_attention_heads;
        let (query, key, value) = (layer.query.apply(x), layer.key.apply(x), layer.value.apply(x));
        let mut mixed = vec![0.0; x.len()];
        let scale = 1.0 / (part as f32).sqrt();
        let mut weights = vec![0.0; x.len() / width];
        for head in (0..width).step_by(part) {
            for (q, out) in query.chunks_exact(width).zip(mixed.chunks_exact_mut(width)) {
                let (Some(q), Some(out)) = (q.get(head..head + part), out.get_mut(head..head + part)) else {
                    continue;
                };
                for (weight, k) in weights.iter_mut().zip(key.chunks_exact(width)) {
                    *weight = k.get(head..head + part).map_or(0.0, |k| dot(q, k)) * scale;
                }
                softmax(&mut weights);
                for (weight, v) in weights.iter().zip(value.chunks_exact(width)) {
                    let Some(v) = v.get(head..head + part) else { continue };
                    out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * v);
                }
            }
        }
        mixed
    }
}

impl Embedder for Bert {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn dimensions(&self) -> usize {
        self.shape.hidden_size
    }

    fn reads_sentences(&self) -> bool {
        true
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Refusal> {
        texts.iter().map(|text| self.encode(text)).collect()
    }
}

impl Linear {
    /// Four tokens at a time, so that each weight is loaded once for four products.
    #[inline(always)]
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = (self.inputs, self.bias.len());
        let mut y = Vec::with_capacity(x.len() / inputs * outputs);
        for tokens in x.chunks(4 * inputs) {
            let start = y.len();
            y.resize(start + tokens.len() / inputs * outputs, 0.0);
            let Some(out) = y.get_mut(start..) else { continue };
            let mut four = tokens.chunks_exact(inputs);
            let four = [four.next(), four.next(), four.next(), four.next()];
            for (o, (row, bias)) in self.weights.chunks_exact(inputs).zip(&self.bias).enumerate() {
                let sums = match four {
                    [Some(a), Some(b), Some(c), Some(d)] => dot4(row, a, b, c, d),
                    _ => four.map(|token| token.map_or(0.0, |token| dot(row, token))),
                };
                for (place, sum) in out.iter_mut().skip(o).step_by(outputs).zip(sums) {
                    *place = sum + bias;
                }
            }
        }
        y
    }
}

impl Norm {
    #[inline(always)]
    fn apply(&self, x: &mut [f32]) {
        let width = self.gain.len();
        for token in x.chunks_exact_mut(width) {
            let mean = token.iter().sum::<f32>() / width as f32;
            let variance = token.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / width as f32;
            let factor = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, gain), bias) in token.iter_mut().zip(&self.gain).zip(&self.bias) {
                *value = (*value - mean) * factor * gain + bias;
            }
        }
    }
}

/// Lanes of the running sums: two registers of AVX2.
const LANES: usize = 16;

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[inline(always)]
fn dot4(row: &[f32], a: &[f32], b: &[f32], c: &[f32], d: &[f32]) -> [f32; 4] {
    let mut sums = [[0.0; LANES]; 4];
    let (row_chunks, rest) = row.as_chunks::<LANES>();
    let [sum_a, sum_b, sum_c, sum_d] = &mut sums;
    let tokens = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0);
    let tokens = tokens.zip(c.as_chunks::<LANES>().0.iter().zip(d.as_chunks::<LANES>().0));
    for (w, ((a, b), (c, d))) in row_chunks.iter().zip(tokens) {
        for lane in 0..LANES {
            if let (Some(w), Some(a), Some(b), Some(c), Some(d)) =
                (w.get(lane), a.get(lane), b.get(lane), c.get(lane), d.get(lane))
                && let (Some(sa), Some(sb), Some(sc), Some(sd)) =
                    (sum_a.get_mut(lane), sum_b.get_mut(lane), sum_c.get_mut(lane), sum_d.get_mut(lane))
            {
                *sa += w * a;
                *sb += w * b;
                *sc += w * c;
                *sd += w * d;
            }
        }
    }
    let done = row.len() - rest.len();
    let tail = |token: &[f32]| rest.iter().zip(token.iter().skip(done)).map(|(w, x)| w * x).sum::<f32>();
    let total = |sums: &[f32; LANES], token: &[f32]| sums.iter().sum::<f32>() + tail(token);
    [total(sum_a, a), total(sum_b, b), total(sum_c, c), total(sum_d, d)]
}

#[inline(always)]
fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

#[inline(always)]
fn softmax(x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|value| *value = (*value - most).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|value| *value /= sum);
}

/// `x Φ(x)`, with the error function by Abramowitz and Stegun 7.1.26 (error below 1.5e-7).
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = (x * std::f32::consts::FRAC_1_SQRT_2).abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series =
        ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let erf = (1.0 - series * (-z * z).exp()).copysign(x);
    0.5 * x * (1.0 + erf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_dots_are_four_times_one_dot() {
        let vector = |seed: usize| (0..37).map(|n| ((n * seed) % 11) as f32 - 5.0).collect::<Vec<_>>();
        let (w, a, b, c, d) = (vector(3), vector(5), vector(7), vector(8), vector(9));
        assert_eq!(dot4(&w, &a, &b, &c, &d), [dot(&w, &a), dot(&w, &b), dot(&w, &c), dot(&w, &d)]);
        let plain: f32 = w.iter().zip(&a).map(|(x, y)| x * y).sum();
        assert!((dot(&w, &a) - plain).abs() < 1e-3);
    }

    #[test]
    fn gelu_is_that_of_the_paper() {
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_344_7), (-1.0, -0.158_655_25), (3.0, 2.995_950_3)] {
            assert!((gelu(x) - y).abs() < 1e-5, "{x}");
        }
    }

    #[test]
    fn a_linear_step_does_not_depend_on_how_many_tokens_come_at_once() {
        let linear = Linear { weights: (0..6).map(|n| n as f32).collect(), bias: vec![1.0, -1.0], inputs: 3 };
        let x: Vec<f32> = (0..18).map(|n| n as f32 * 0.5).collect();
        let one_by_one: Vec<f32> = x.chunks(3).flat_map(|token| linear.apply(token)).collect();
        assert_eq!(linear.apply(&x), one_by_one);
    }

    #[test]
    fn a_norm_centres_and_a_softmax_sums_to_one() {
        let norm = Norm { gain: vec![1.0; 4], bias: vec![0.0; 4], epsilon: 1e-12 };
        let mut x = vec![1.0, 2.0, 3.0, 4.0];
        norm.apply(&mut x);
        assert!(x.iter().sum::<f32>().abs() < 1e-5);
        softmax(&mut x);
        assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
