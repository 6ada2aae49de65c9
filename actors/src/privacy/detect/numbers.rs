//! Numbers that mean a person or an account: cards, phones, social security numbers, IBANs, crypto addresses.
//!
//! The scan calls [`at_digit`] where a run of digits begins. Everything here looks at most 64 bytes around.

use super::bytes::{at, before, begins, ends, is_escape, run, run_back, slice, word_before};
use super::{Found, Span, checks};

/// Digit groups from a place on, as written: `+49 (30) 1234-567`.
struct Groups {
    /// Start and end of each.
    at: [(usize, usize); 8],
    count: usize,
}

impl Groups {
    /// Groups joined by one or two of ` -.()/`; at most eight.
    fn read(text: &[u8], start: usize) -> Self {
        let mut groups = Self { at: [(0, 0); 8], count: 0 };
        let mut i = start;
        for slot in &mut groups.at {
            let end = run(text, i, 24, |b| b.is_ascii_digit());
            if end == i {
                break;
            }
            *slot = (i, end);
            groups.count += 1;
            let next = run(text, end, 2, |b| matches!(b, b' ' | b'-' | b'.' | b'(' | b')' | b'/'));
            if next == end || !at(text, next).is_ascii_digit() {
                break;
            }
            i = next;
        }
        groups
    }

    fn end(&self, n: usize) -> usize {
        n.checked_sub(1).and_then(|n| self.at.get(n)).map_or(0, |g| g.1)
    }

    fn len(&self, n: usize) -> usize {
        self.at.get(n).map_or(0, |g| g.1 - g.0)
    }

    fn lengths(&self, n: usize) -> [usize; 8] {
        std::array::from_fn(|i| if i < n { self.len(i) } else { 0 })
    }

    fn digits<'a>(&self, text: &[u8], n: usize, buffer: &'a mut [u8; 32]) -> &'a [u8] {
        let mut length = 0;
        for (start, end) in self.at.iter().take(n) {
            for b in slice(text, *start, *end) {
                if let Some(place) = buffer.get_mut(length) {
                    *place = *b;
                    length += 1;
                }
            }
        }
        buffer.get(..length).unwrap_or(&[])
    }

    /// The one separator between the first `n` groups; `None` where they differ.
    fn separator(&self, text: &[u8], n: usize) -> Option<u8> {
        let first = at(text, self.end(1));
        (1..n)
            .all(|k| {
                let (end, next) = (self.end(k), self.at.get(k).map_or(0, |g| g.0));
                next == end + 1 && at(text, end) == first
            })
            .then_some(if n > 1 { first } else { 0 })
    }
}

/// Words that make a bare number a phone number.
const PHONE_WORDS: &[&str] = &[
    "phone",
    "tel",
    "telephone",
    "telefon",
    "telefono",
    "teléfono",
    "mobile",
    "cell",
    "call",
    "sms",
    "fax",
    "whatsapp",
    "handy",
    "numara",
    "numaram",
    "cep",
    "mobil",
    "movil",
    "number is",
    "text me",
    "telepono",
    "signal",
];

/// Finds what begins with the digit at `i`, whose predecessor is no digit. Returns where to go on.
pub(super) fn at_digit(text: &[u8], i: usize, out: &mut Found) -> usize {
    let digits_end = run(text, i, 24, |b| b.is_ascii_digit());
    if !begins(text, i) {
        iban(text, i, out);
        return digits_end;
    }
    if let Some(end) = crypto(text, i, out) {
        return end;
    }
    let next = at(text, digits_end);
    if digits_end - i < 7 && !matches!(next, b' ' | b'-' | b'.' | b'(' | b')' | b'/') {
        return digits_end;
    }
    let groups = Groups::read(text, i);
    if let Some(end) = card(text, i, &groups, out) {
        return end;
    }
    if let Some(end) = ssn(text, i, &groups, out) {
        return end;
    }
    phone(text, i, &groups, out).unwrap_or(digits_end)
}

fn card(text: &[u8], i: usize, groups: &Groups, out: &mut Found) -> Option<usize> {
    let before = before(text, i);
    if before == b'.'
        || (before == b'-' && begins(text, i) && at(text, i.wrapping_sub(2)).is_ascii_alphanumeric())
    {
        return None;
    }
    for n in (1..=groups.count).rev() {
        let shaped = match groups.lengths(n) {
            [12..=19, 0, ..] => true,
            [4, 4, 4, 1..=7, 0, ..]
            | [4, 4, 4, 4, 1..=3, ..]
            | [4, 6, 4 | 5, 0, ..]
            | [4, 4, 5..=7, 0, ..] => true,
            _ => false,
        };
        if !shaped || !matches!(groups.separator(text, n), Some(0 | b' ' | b'-' | b'.' | b'/')) {
            continue;
        }
        let end = groups.end(n);
        if checks::card(groups.digits(text, n, &mut [0; 32])) && ends(text, end) {
            out.push(Span::new(i, end, "GLOBAL.CREDIT_CARD", "CREDIT_CARD"));
            return Some(end);
        }
    }
    None
}

fn ssn(text: &[u8], i: usize, groups: &Groups, out: &mut Found) -> Option<usize> {
    const WORDS: &[&str] = &["ssn", "social security", "social", "itin", "ss#"];
    let (n, written) = match groups.lengths(groups.count) {
        [3, 2, 4, ..] => (3, true),
        [3, 6, ..] | [5, 4, ..] => (2, false),
        [9, ..] => (1, false),
        _ => return None,
    };
    let end = groups.end(n);
    let separator = groups.separator(text, n)?;
    let mut buffer = [0; 32];
    let digits = groups.digits(text, n, &mut buffer);
    let possible = !matches!(digits, [b'0', b'0', b'0', ..] | [b'6', b'6', b'6', ..] | [b'9', ..])
        && slice(digits, 3, 5) != b"00"
        && slice(digits, 5, 9) != b"0000"
        && !matches!(digits, b"078051120" | b"123456789" | b"219099999");
    let itin = at(digits, 0) == b'9' && matches!(at(digits, 3), b'5'..=b'9');
    let told = || word_before(text, i, 40, WORDS);
    let placed = ends(text, end)
        && at(text, end) != b'-'
        && !matches!(before(text, i), b'-' | b'.' | b'/' | b'+')
        && matches!(separator, b'-' | b' ' | b'.' | 0);
    if placed && (possible && (written || separator == b'-' || told()) || itin && told()) {
        out.push(Span::new(i, end, "US.SSN", "US_SSN"));
        return Some(end);
    }
    None
}

fn phone(text: &[u8], i: usize, groups: &Groups, out: &mut Found) -> Option<usize> {
    let plus = before(text, i) == b'+' || (before(text, i) == b'(' && at(text, i.wrapping_sub(2)) == b'+');
    let start = match (before(text, i), plus) {
        (b'+', _) => i - 1,
        (b'(', true) => i - 2,
        (b'(', _) => i - 1,
        (b'-' | b'.' | b'/' | b'#' | b'$' | b'=' | b'x', _) if !matches!(before(text, i), b'=' | b'/') => {
            return None;
        }
        _ => i,
    };
    if plus && at(text, start.wrapping_sub(1)).is_ascii_alphanumeric() && !is_escape(text, start) {
        return None;
    }
    let mut buffer = [0; 32];
    for n in (1..=groups.count).rev() {
        let end = groups.end(n);
        if !ends(text, end) || (at(text, end) == b'-' && at(text, end + 1).is_ascii_alphanumeric()) {
            continue;
        }
        let digits = groups.digits(text, n, &mut buffer);
        if (plus && digits.len() <= 15 && checks::phone(digits))
            || (!plus && national(text, i, groups, n, digits))
        {
            let start =
                if at(text, start) == b'(' && !slice(text, i, end).contains(&b')') { i } else { start };
            out.push(Span::new(start, end, "GLOBAL.PHONE", "PHONE"));
            return Some(end);
        }
    }
    None
}

/// Numbers without a country code: the North American plan as it is written, a trunk zero, or a word that says so.
fn national(text: &[u8], i: usize, groups: &Groups, n: usize, digits: &[u8]) -> bool {
    let nanp = |d: &[u8]| d.len() == 10 && matches!(at(d, 0), b'2'..=b'9') && matches!(at(d, 3), b'2'..=b'9');
    let told = || word_before(text, i, 48, PHONE_WORDS);
    let one_kind = groups.separator(text, n);
    match groups.lengths(n) {
        [3, 3, 4, 0, ..] => {
            (one_kind.is_some_and(|s| s != b'/') || before(text, i) == b'(')
                && (nanp(digits)
                    && (one_kind != Some(b' ') || told() || !near_numbers(text, i, groups.end(n))))
        }
        [1, 3, 3, 4, 0, ..] if at(digits, 0) == b'1' => nanp(slice(digits, 1, 11)),
        [3, 3, 2, 2, 0, ..] => one_kind.is_some() && at(digits, 0) == b'5',
        [11, 0, ..] => {
            (at(digits, 0) == b'0' && matches!(at(digits, 1), b'1'..=b'9'))
                || (at(digits, 0) == b'1' && matches!(at(digits, 1), b'3'..=b'9') && told())
        }
        [9 | 10, 0, ..] => told() && (nanp(digits) || at(digits, 0) == b'0' || at(digits, 0) == b'5'),
        [0, ..] => false,
        [first, rest @ ..] if at(digits, 0) == b'0' && n > 1 => {
            let rest = rest.get(..n - 1).unwrap_or(&[]);
            let international = digits.starts_with(b"00") && checks::phone(slice(digits, 2, digits.len()));
            international
                || ((9..=12).contains(&digits.len())
                    && first <= 5
                    && matches!(at(digits, 1), b'1'..=b'9')
                    && rest.iter().all(|g| *g >= 2))
        }
        _ => false,
    }
}

/// Whether numbers stand on both sides, as in a row of figures.
fn near_numbers(text: &[u8], start: usize, end: usize) -> bool {
    at(text, start.wrapping_sub(2)).is_ascii_digit() || at(text, end + 1).is_ascii_digit()
}

/// An IBAN whose two check digits begin at `i`; spaces and hyphens between groups of four are tolerated.
fn iban(text: &[u8], i: usize, out: &mut Found) {
    let Some(start) = i.checked_sub(2) else { return };
    let country = [at(text, start).to_ascii_uppercase(), at(text, start + 1).to_ascii_uppercase()];
    let Some(length) = checks::iban_expects(country) else { return };
    if !begins(text, start) {
        return;
    }
    let mut compact = [0_u8; 34];
    let (mut have, mut k) = (0, start);
    while have < length && k < text.len() {
        let b = at(text, k);
        if b.is_ascii_alphanumeric() {
            if b.is_ascii_lowercase() && at(text, start).is_ascii_uppercase() {
                break;
            }
            if let Some(place) = compact.get_mut(have) {
                *place = b.to_ascii_uppercase();
            }
            have += 1;
        } else if !(matches!(b, b' ' | b'-') && have >= 4 && at(text, k + 1).is_ascii_alphanumeric()) {
            break;
        }
        k += 1;
    }
    if have == length && ends(text, k) && checks::iban(slice(&compact, 0, length)) {
        out.push(Span::new(start, k, "GLOBAL.IBAN", "IBAN"));
    }
}

/// Bitcoin's base58 addresses and Ethereum's, which begin with a digit.
fn crypto(text: &[u8], i: usize, out: &mut Found) -> Option<usize> {
    let end = match (at(text, i), at(text, i + 1)) {
        (b'0', b'x' | b'X') => {
            let end = run(text, i + 2, 41, |b| b.is_ascii_hexdigit());
            (end - i == 42).then_some(end)?
        }
        (b'1' | b'3', second) if second.is_ascii_alphanumeric() => {
            let end = run(text, i, 36, |b| b.is_ascii_alphanumeric());
            ((26..=35).contains(&(end - i)) && checks::base58check(slice(text, i, end))).then_some(end)?
        }
        _ => return None,
    };
    ends(text, end).then(|| {
        out.push(Span::new(i, end, "GLOBAL.CRYPTO", "CRYPTO"));
        end
    })
}

/// Segwit addresses: `bc1…`, at the keyword.
pub(super) fn segwit(text: &[u8], start: usize, prefix: usize, out: &mut Found) {
    let end = run(text, start, 91, |b| b.is_ascii_alphanumeric());
    if begins(text, start)
        && ends(text, end)
        && (26..=90).contains(&(end - start))
        && checks::bech32(slice(text, start, end), prefix)
    {
        out.push(Span::new(start, end, "GLOBAL.CRYPTO", "CRYPTO"));
    }
}

/// Whether the text before `i` ends in a word such as `version` or a `v`.
pub(super) fn is_version(text: &[u8], i: usize) -> bool {
    const WORDS: &[&str] = &[
        "version",
        "v",
        "ver",
        "build",
        "release",
        "tag",
        "section",
        "chapter",
        "rev",
        "firmware",
        "upgrade to",
        "chrome",
        "safari",
        "driver",
        "oid",
        "asn.1",
    ];
    let space = run_back(text, i, 3, |b| matches!(b, b' ' | b':' | b'=' | b'"' | b'/'));
    let word = run_back(text, space, 12, |b| b.is_ascii_alphabetic() || b == b'_');
    let word = slice(text, word, space).to_ascii_lowercase();
    WORDS.iter().any(|w| w.as_bytes() == word) || (word.ends_with(b"version") || word.ends_with(b"build"))
}
