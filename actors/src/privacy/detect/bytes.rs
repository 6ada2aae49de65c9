//! Small tools over bytes that cannot go out of bounds.

/// The byte at `i`, or 0 beyond the end.
pub(super) fn at(text: &[u8], i: usize) -> u8 {
    text.get(i).copied().unwrap_or(0)
}

/// The byte before `i`, or 0 at the start.
pub(super) fn before(text: &[u8], i: usize) -> u8 {
    i.checked_sub(1).map_or(0, |i| at(text, i))
}

/// The bytes of a range, or none where it is out of bounds.
pub(super) fn slice(text: &[u8], start: usize, end: usize) -> &[u8] {
    text.get(start..end.min(text.len())).unwrap_or(&[])
}

/// Whether a word may begin at `i`: nothing alphanumeric stands before it. The letter of an escape (`\n`) is not a letter.
pub(super) fn begins(text: &[u8], i: usize) -> bool {
    let b = before(text, i);
    !(b.is_ascii_alphanumeric() || b == b'_') || is_escape(text, i)
}

/// Whether the byte before `i` is the letter of a backslash escape such as `\n`.
pub(super) fn is_escape(text: &[u8], i: usize) -> bool {
    i >= 2 && matches!(at(text, i - 1), b'n' | b'r' | b't') && at(text, i - 2) == b'\\'
}

/// Whether a word may end at `i`.
pub(super) fn ends(text: &[u8], i: usize) -> bool {
    let b = at(text, i);
    !(b.is_ascii_alphanumeric() || b == b'_')
}

/// The end of the run of bytes from `i` that satisfy `keep`, at most `limit` of them.
pub(super) fn run(text: &[u8], i: usize, limit: usize, keep: impl Fn(u8) -> bool) -> usize {
    let end = text.len().min(i.saturating_add(limit));
    i + slice(text, i, end).iter().take_while(|b| keep(**b)).count()
}

/// The start of the run of bytes before `i` that satisfy `keep`, at most `limit` of them.
pub(super) fn run_back(text: &[u8], i: usize, limit: usize, keep: impl Fn(u8) -> bool) -> usize {
    i - slice(text, i.saturating_sub(limit), i).iter().rev().take_while(|b| keep(**b)).count()
}

/// Whether one of `words` (lower case) ends within the `reach` bytes before `i`, as a word.
pub(super) fn word_before(text: &[u8], i: usize, reach: usize, words: &[&str]) -> bool {
    let near = slice(text, i.saturating_sub(reach), i).to_ascii_lowercase();
    words.iter().any(|word| {
        let word = word.as_bytes();
        near.windows(word.len()).enumerate().any(|(k, w)| {
            w == word
                && !before(&near, k).is_ascii_alphabetic()
                && !at(&near, k + word.len()).is_ascii_alphabetic()
        })
    })
}

/// Shannon's entropy of the bytes, in bits a byte.
pub(super) fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for b in text {
        if let Some(count) = counts.get_mut(usize::from(*b)) {
            *count += 1;
        }
    }
    let total = text.len().max(1) as f64;
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}
