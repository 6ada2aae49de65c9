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

/// How a separator may come back from Markdown, URLs, HTML and makers of slugs. The plain one is first.
const SEPARATORS: &[&[u8]] = &[b"_", b"-", b"\\_", b"%5F", b"%5f", b"&#95;", b"&lowbar;"];

/// Where tokens stand in a text: byte ranges, in order. Case is ignored, and separators may be written in other ways
/// (`EMAIL\_tk\_…`, `email-tk-…`). Whether a token exists is for the vault to say.
pub fn find(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut out: Vec<(usize, usize)> = Vec::new();
    let mut from = 0;
    while let Some(k) = bytes.get(from..).and_then(|rest| memchr::memchr2(b'k', b'K', rest)) {
        let k = from + k;
        from = k + 1;
        if k > 0
            && bytes.get(k - 1).is_some_and(|t| t.eq_ignore_ascii_case(&b't'))
            && let Some(range) = around(bytes, k - 1)
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
    let rest = bytes.get(t + 2..)?;
    let id = t + 2 + SEPARATORS.iter().find(|s| rest.starts_with(s))?.len();
    let written = bytes.get(id..id + ID)?;
    let glued = bytes.get(id + ID).is_some_and(u8::is_ascii_alphanumeric);
    if glued || !written.iter().all(|b| ALPHABET.contains(&b.to_ascii_lowercase())) {
        return None;
    }
    let end_of_type = separator_before(bytes, t)?;
    let start = TOKEN_TYPES.iter().filter_map(|name| type_before(bytes, end_of_type, name)).min()?;
    Some((start, id + ID))
}

/// Where a separator that ends at `end` begins.
fn separator_before(bytes: &[u8], end: usize) -> Option<usize> {
    let head = bytes.get(..end)?;
    SEPARATORS.iter().rev().find(|s| head.ends_with(s)).map(|s| end - s.len())
}

/// Where a type's name that ends at `end` begins.
fn type_before(bytes: &[u8], end: usize, name: &str) -> Option<usize> {
    let mut i = end;
    for b in name.bytes().rev() {
        if b == b'_' {
            i = separator_before(bytes, i)?;
        } else {
            i = i.checked_sub(1)?;
            if !bytes.get(i)?.eq_ignore_ascii_case(&b) {
                return None;
            }
        }
    }
    Some(i)
}

/// Whether the whole text is one token.
pub fn whole(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| find(text) == [(0, text.len())])
}

/// A token as it is written in the vault: type in capitals, id in small letters, plain separators.
pub fn normal(written: &str) -> String {
    let mut plain = written.to_owned();
    for separator in SEPARATORS.iter().skip(1).rev() {
        plain = plain.replace(std::str::from_utf8(separator).unwrap_or("_"), "_");
    }
    let split = plain.len().saturating_sub(ID + MARK.len());
    let (kind, id) = plain.split_at_checked(split).unwrap_or(("", &plain));
    format!("{}{}", kind.to_ascii_uppercase(), id.to_ascii_lowercase())
}

/// The type of a token in normal form.
pub fn type_of(token: &str) -> Option<&'static str> {
    let name = token.get(..token.len().checked_sub(ID + MARK.len())?)?;
    TOKEN_TYPES.iter().find(|known| **known == name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A token's type and length say nothing of the value's.
    #[test]
    fn stride_i13() {
        let lengths: std::collections::HashSet<usize> =
            (1..=1000).map(|n| mint(b"key", "SECRET", &"x".repeat(n), 0).len()).collect();
        assert_eq!(lengths.len(), 1);
    }

    /// The same value in two projects has two tokens, which nobody without both keys can link.
    #[test]
    fn stride_i05() {
        assert_ne!(
            mint(b"key of a", "EMAIL", "ana@example.org", 0),
            mint(b"key of b", "EMAIL", "ana@example.org", 0)
        );
        assert_eq!(
            mint(b"key of a", "EMAIL", "ana@example.org", 0),
            mint(b"key of a", "EMAIL", "ana@example.org", 0)
        );
        assert_ne!(
            mint(b"key of a", "EMAIL", "ana@example.org", 0),
            mint(b"key of a", "EMAIL", "ana@example.org", 1)
        );
    }

    /// What texts go through between tools: the token is found in each and leads to the same entry.
    #[test]
    fn a_token_survives_the_sixteen_transformations() {
        for kind in ["EMAIL", "US_SSN", "CREDIT_CARD"] {
            let token = mint(b"key", kind, "value", 0);
            let forms = [
                serde_json::to_string(&token).unwrap(),
                format!("<b>{token}</b>"),
                format!("?q={token}&x=1"),
                format!("*{}*", token.replace('_', "\\_")),
                format!("see {token}, please"),
                format!("echo '{token}' > f"),
                format!("key: {token}\n"),
                format!("a,{token},\"b\""),
                token.to_uppercase(),
                token.to_lowercase(),
                format!("{{{{ {token} }}}}"),
                token.to_lowercase().replace('_', "-"),
                format!("caf\u{e9} {token}\u{a0}"),
                format!("report-{token}.pdf"),
                token.replace('_', "%5F"),
                token.replace('_', "&#95;"),
            ];
            for form in forms {
                let found = find(&form);
                assert_eq!(found.len(), 1, "{form}");
                assert_eq!(normal(&form[found[0].0..found[0].1]), token, "{form}");
                assert_eq!(type_of(&token), Some(kind));
            }
        }
    }

    #[test]
    fn what_is_no_token_is_not_found() {
        for text in [
            "EMAIL_tk_k7f3a9cq2",
            "EMAIL_tk_k7f3a9cq2m1",
            "EMAIL_tk_k7f3a9cqil",
            "NAME_tk_k7f3a9cq2m",
            "_tk_k7f3a9cq2m",
            "EMAIL_TOKEN_001",
        ] {
            assert_eq!(find(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_minted_token_is_found_whole_in_any_text(value in ".{0,40}", before in "[ .,:;(\"']{0,3}", after in "[ .,:;)\"'_-]{0,3}") {
            let token = mint(b"key", "PHONE", &value, 0);
            let text = format!("{before}{token}{after}");
            prop_assert_eq!(find(&text), vec![(before.len(), before.len() + token.len())]);
            prop_assert!(whole(token.as_bytes()));
        }
    }
}
