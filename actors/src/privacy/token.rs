//! Tokens: the stand-ins for sensitive values. `EMAIL_tk_k7f3a9cq2m` is a type and 50 bits of a keyed hash.
//!
//! HMAC-SHA256 (RFC 2104) under a key of the scope, over type and canonical value, in Crockford's base32: the same value is the
//! same token within a scope, and without the key a value can neither be guessed from its token nor a token made for a value. A
//! bare word survives Markdown, HTML, shells, URLs and file names, which brackets do not.

use super::detect::TOKEN_TYPES;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Crockford's alphabet, lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of a token's id.
const ID: usize = 10;

/// The marker between type and id.
const MARK: &[u8] = b"_tk_";

/// The token of a value. `counter` tells values apart whose tokens would collide: 0 unless one did.
pub fn mint(key: &[u8], token_type: &str, canonical: &str, counter: u32) -> String {
    let mut bits = {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
        mac.update(token_type.as_bytes());
        mac.update(&[0]);
        mac.update(canonical.as_bytes());
        if counter > 0 {
            mac.update(&[0]);
            mac.update(&counter.to_le_bytes());
        }
        let digest = mac.finalize().into_bytes();
        digest.iter().take(8).fold(0_u64, |sum, b| sum << 8 | u64::from(*b))
    };
    let mut token = String::with_capacity(token_type.len() + MARK.len() + ID);
    token.push_str(token_type);
    token.push_str("_tk_");
    for _ in 0..ID {
        bits = bits.rotate_left(5);
        token.push(char::from(*ALPHABET.get((bits & 31) as usize).unwrap_or(&b'0')));
    }
    token
}

/// The form of a value that equality is judged by. The vault keeps the form it was written in.
pub fn canonical(token_type: &str, value: &str) -> String {
    match token_type {
        "EMAIL" => match value.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
            None => value.into(),
        },
        "CREDIT_CARD" | "US_SSN" => value.chars().filter(char::is_ascii_digit).collect(),
        "PHONE" => value.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect(),
        "IBAN" => value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect(),
        "MAC" => value.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect(),
        _ => value.into(),
    }
}

/// Where tokens stand in a text: byte ranges, in order. Case is ignored, and underscores may be escaped (`EMAIL\_tk\_…`) as
/// Markdown writers do. Whether a token exists is for the vault to say.
pub fn find(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut from = 0;
    while let Some(k) = bytes.get(from..).and_then(|rest| memchr::memchr2(b't', b'T', rest)) {
        let t = from + k;
        from = t + 1;
        if let Some(range) = around(bytes, t)
            && out.last().is_none_or(|(_, end)| *end <= range.0)
        {
            from = range.1;
            out.push(range);
        }
    }
    out
}

/// The token whose marker's `t` is at `t`.
fn around(bytes: &[u8], t: usize) -> Option<(usize, usize)> {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    if !at(t + 1).eq_ignore_ascii_case(&b'k') || t == 0 {
        return None;
    }
    let mut id = t + 2;
    if at(id) == b'\\' {
        id += 1;
    }
    if at(id) != b'_' || at(t - 1) != b'_' {
        return None;
    }
    id += 1;
    let written = bytes.get(id..id + ID)?;
    if !written.iter().all(|b| ALPHABET.contains(&b.to_ascii_lowercase()))
        || at(id + ID).is_ascii_alphanumeric()
    {
        return None;
    }
    let mut end_of_type = t - 1;
    if end_of_type > 0 && at(end_of_type - 1) == b'\\' {
        end_of_type -= 1;
    }
    let start = TOKEN_TYPES.iter().filter_map(|name| type_before(bytes, end_of_type, name)).min()?;
    Some((start, id + ID))
}

/// Where a type's name that ends at `end` begins.
fn type_before(bytes: &[u8], end: usize, name: &str) -> Option<usize> {
    let mut i = end;
    for b in name.bytes().rev() {
        i = i.checked_sub(1)?;
        if !bytes.get(i)?.eq_ignore_ascii_case(&b) {
            return None;
        }
        if b == b'_' && i > 0 && bytes.get(i - 1) == Some(&b'\\') {
            i -= 1;
        }
    }
    let before = i.checked_sub(1).and_then(|i| bytes.get(i)).copied().unwrap_or(0);
    (!before.is_ascii_alphanumeric()).then_some(i)
}

/// Whether the whole text is one token.
pub fn whole(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| find(text) == [(0, text.len())])
}

/// A token as it is written in the vault: type in capitals, id in small letters, no backslashes.
pub fn normal(written: &str) -> String {
    let clean: String = written.chars().filter(|c| *c != '\\').collect();
    let split = clean.len().saturating_sub(ID + MARK.len());
    let (kind, id) = clean.split_at_checked(split).unwrap_or(("", &clean));
    format!("{}{}", kind.to_ascii_uppercase(), id.to_ascii_lowercase())
}

/// The type of a token in normal form.
pub fn type_of(token: &str) -> Option<&'static str> {
    let name = token.get(..token.len().checked_sub(ID + MARK.len())?)?;
    TOKEN_TYPES.iter().find(|known| **known == name).copied()
}
