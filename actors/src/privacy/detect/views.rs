//! Other spellings of a text: full-width and invisible characters, percent, entity, quoted-printable and JSON escapes.
//!
//! A view is the text in plain spelling with the way back to the original offsets. Views of views are taken to depth two.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// A text in plain spelling.
#[derive(Debug)]
pub(super) struct View {
    pub(super) text: Vec<u8>,
    /// For each byte of `text` and its end: where it began in the original.
    origin: Vec<u32>,
}

impl View {
    /// The original's range of a range of the view.
    pub(super) fn back(&self, start: usize, end: usize) -> (usize, usize) {
        let at = |i: usize| self.origin.get(i).copied().unwrap_or(0) as usize;
        (at(start), at(end))
    }

    fn then(self, outer: &Self) -> Self {
        let origin =
            self.origin.iter().map(|i| outer.origin.get(*i as usize).copied().unwrap_or(0)).collect();
        Self { text: self.text, origin }
    }
}

/// The view of a text; `None` where it is plain already.
pub(super) fn of(text: &str) -> Option<View> {
    let first = plain(text)?;
    let again = std::str::from_utf8(&first.text).ok().and_then(plain);
    Some(match again {
        Some(second) => second.then(&first),
        None => first,
    })
}

fn plain(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view =
        View { text: Vec::with_capacity(bytes.len()), origin: Vec::with_capacity(bytes.len() + 1) };
    let mut changed = false;
    let mut i = 0;
    while let Some(b) = bytes.get(i).copied() {
        let (plain, length): (Cow<'static, [u8]>, usize) = match b {
            b'%' | b'=' | b'&' | b'\\' => match escape(bytes, i) {
                Some((c, length)) => (Cow::Owned(c.to_string().into_bytes()), length),
                None => (Cow::Borrowed(&[]), 0),
            },
            0x80.. => match text.get(i..).and_then(|rest| rest.chars().next()) {
                Some(c) => match simple(c) {
                    Some(plain) => (plain, c.len_utf8()),
                    None => (Cow::Borrowed(&[]), 0),
                },
                None => (Cow::Borrowed(&[]), 0),
            },
            _ => (Cow::Borrowed(&[]), 0),
        };
        if length == 0 {
            view.text.push(b);
            view.origin.push(i as u32);
            i += 1;
        } else {
            changed = true;
            for byte in plain.iter() {
                view.text.push(*byte);
                view.origin.push(i as u32);
            }
            i += length;
        }
    }
    view.origin.push(bytes.len() as u32);
    changed.then_some(view)
}

/// The character of an escape at `i` and the escape's length.
fn escape(bytes: &[u8], i: usize) -> Option<(char, usize)> {
    let hex = |from: usize, n: usize| {
        let digits = bytes.get(from..from + n)?;
        digits.iter().try_fold(0_u32, |sum, d| Some(sum * 16 + char::from(*d).to_digit(16)?))
    };
    let printable = |n: u32| char::from_u32(n).filter(|c| !c.is_control());
    match bytes.get(i)? {
        b'%' => {
            let n = hex(i + 1, 2)?;
            (n < 0x80).then(|| printable(n)).flatten().map(|c| (c, 3))
        }
        b'=' => {
            if bytes.get(i + 1) == Some(&b'\n') {
                return None;
            }
            let upper =
                bytes.get(i + 1..i + 3)?.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
            let n = hex(i + 1, 2)?;
            (upper && matches!(n, 0x40 | 0x2e | 0x2d | 0x2b | 0x5f | 0x3d | 0x3a))
                .then(|| printable(n))
                .flatten()
                .map(|c| (c, 3))
        }
        b'\\' => match bytes.get(i + 1)? {
            b'u' if bytes.get(i + 2) == Some(&b'{') => {
                let end = bytes.get(i + 3..i + 10)?.iter().position(|b| *b == b'}')?;
                printable(hex(i + 3, end)?).map(|c| (c, end + 4))
            }
            b'u' => printable(hex(i + 2, 4)?).map(|c| (c, 6)),
            b'x' => printable(hex(i + 2, 2)?).map(|c| (c, 4)),
            b'/' => Some(('/', 2)),
            _ => None,
        },
        b'&' => {
            let rest = bytes.get(i + 1..bytes.len().min(i + 12))?;
            let end = rest.iter().position(|b| *b == b';')?;
            let name = rest.get(..end)?;
            let c = match name {
                [b'#', b'x' | b'X', digits @ ..] if !digits.is_empty() => {
                    printable(hex(i + 3, digits.len())?)?
                }
                [b'#', digits @ ..] => printable(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
                b"commat" => '@',
                b"period" => '.',
                b"amp" => '&',
                b"colon" => ':',
                b"quot" => '"',
                b"apos" => '\'',
                b"lowbar" => '_',
                b"plus" => '+',
                b"hyphen" | b"dash" => '-',
                b"equals" => '=',
                b"nbsp" => ' ',
                _ => return None,
            };
            Some((c, end + 2))
        }
        _ => None,
    }
}

/// The plain spelling of a character that only looks different; empty for one that is invisible.
fn simple(c: char) -> Option<Cow<'static, [u8]>> {
    const DIGITS: &[u32] = &[
        0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
        0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x17e0,
    ];
    let n = u32::from(c);
    let plain = match n {
        0x00ad
        | 0x034f
        | 0x061c
        | 0x180e
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x2064
        | 0x2066..=0x206f
        | 0xfeff
        | 0xfe00..=0xfe0f => return Some(Cow::Borrowed(&[])),
        0x00a0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => b' ',
        0x2010..=0x2015 | 0x2212 | 0xfe58 | 0xfe63 => b'-',
        0x3002 | 0xff61 | 0x2024 => b'.',
        0xff01..=0xff5e => (n - 0xfee0) as u8,
        0x2100..=0x24ff | 0x1d400..=0x1d7ff | 0x1f100..=0x1f1ff | 0xfe50..=0xfe6b | 0x2070..=0x209c => {
            let normal: String = std::iter::once(c).nfkc().collect();
            return normal.is_ascii().then(|| Cow::Owned(normal.into_bytes()));
        }
        _ => {
            let zero = DIGITS.iter().find(|zero| (**zero..**zero + 10).contains(&n))?;
            b'0' + (n - zero) as u8
        }
    };
    Some(Cow::Owned(vec![plain]))
}

/// Decodes base64 of either alphabet, with or without padding; `None` where it is not base64.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut have) = (0_u32, 0);
    for b in text.iter().take_while(|b| **b != b'=') {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have & 0xff) as u8);
        }
    }
    Some(out)
}
