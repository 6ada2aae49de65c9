//! Which texts share rare words: the cosine of their weighted terms, from an inverted index over the rarest terms of each.
//! What only common words connect is not looked at, so the work grows with the texts and not with their pairs.

use super::texts::{Term, Texts};

/// The rarest terms of a text that lead to others.
const LEADS: usize = 12;
/// Most texts looked at behind one term, the latest; a term that more hold says little.
const BEHIND: usize = 256;
/// Most pairs kept of one text with earlier ones.
const KEPT: usize = 6;
/// Least cosine of a pair.
const LEAST: f32 = 0.25;

/// Two texts by number, the first the earlier, and how alike they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The earlier.
    pub one: u32,
    /// The later.
    pub other: u32,
    /// From 0 to 1.
    pub likeness: f32,
}

/// The pairs of texts that are alike, by the later text and then by likeness.
pub fn pairs(texts: &Texts) -> Vec<Pair> {
    let norms: Vec<f32> = texts
        .of
        .iter()
        .map(|terms| terms.iter().map(|term| texts.weight(*term).powi(2)).sum::<f32>().sqrt().max(1e-6))
        .collect();
    let mut behind: Vec<Vec<(u32, f32)>> = vec![Vec::new(); texts.vocabulary()];
    let mut scores = vec![0.0_f32; texts.len()];
    let mut pairs = Vec::new();
    for (number, terms) in texts.of.iter().enumerate() {
        let mut touched: Vec<u32> = Vec::new();
        let leads = leads(texts, terms);
        for term in &leads {
            let weight = texts.weight(*term);
            let Some(earlier) = behind.get_mut(term.number as usize) else { continue };
            for (other, theirs) in earlier.iter() {
                let Some(score) = scores.get_mut(*other as usize) else { continue };
                if *score == 0.0 {
                    touched.push(*other);
                }
                *score += weight * theirs;
            }
            if earlier.len() == BEHIND {
                earlier.remove(0);
            }
            earlier.push((number as u32, weight));
        }
        let norm = norms.get(number).copied().unwrap_or(1.0);
        let mut found: Vec<Pair> = Vec::new();
        for other in touched {
            let Some(score) = scores.get_mut(other as usize) else { continue };
            let cosine = *score / (norm * norms.get(other as usize).copied().unwrap_or(1.0));
            *score = 0.0;
            if cosine >= LEAST {
                found.push(Pair { one: other, other: number as u32, likeness: cosine.min(1.0) });
            }
        }
        found.sort_by(|a, b| b.likeness.total_cmp(&a.likeness).then_with(|| b.one.cmp(&a.one)));
        found.truncate(KEPT);
        pairs.extend(found);
    }
    pairs
}

/// The rarest terms of a text that some other text holds too.
fn leads(texts: &Texts, terms: &[Term]) -> Vec<Term> {
    let mut leads: Vec<Term> = terms.iter().copied().filter(|term| texts.held_by(term.number) > 1).collect();
    leads.sort_by_key(|term| (texts.held_by(term.number), term.number));
    leads.truncate(LEADS);
    leads
}
