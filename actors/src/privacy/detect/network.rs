//! E-mail, IP and MAC addresses.

use super::bytes::{at, before, begins, is_escape, run, run_back, slice};
use super::{Found, Span, numbers};
use std::net::Ipv6Addr;

/// Endings of file names that look like domains beside an at-sign (`logo@2x.png`).
const NOT_DOMAINS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "mjs", "cjs", "ts", "tsx", "jsx", "json",
    "html", "htm", "yaml", "yml", "toml", "txt", "xml", "jar", "exe", "dll", "lock", "tgz", "tar", "map",
    "woff", "pdf", "invalid",
];

fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | b'!' | b'#' | b'$' | b'*' | b'~')
}

/// Bytes of Latin letters beyond ASCII (U+0080 to U+024F), so that addresses stop at CJK or Arabic text.
fn is_latin(b: u8) -> bool {
    (0x80..0xca).contains(&b)
}

/// The e-mail address round the at-sign at `i`, or the password of a URL's user part.
pub(super) fn at_sign(text: &[u8], i: usize, out: &mut Found) {
    let mut start = run_back(text, i, 64, |b| is_local(b) || is_latin(b));
    while (0x80..0xc0).contains(&at(text, start)) {
        start += 1;
    }
    if is_escape(text, start + 1)
        || (before(text, start) == b'\\' && matches!(at(text, start), b'n' | b'r' | b't'))
    {
        start += 1;
    }
    while start < i
        && matches!(at(text, start), b'.' | b'\'' | b'%' | b'-' | b'!' | b'#' | b'$' | b'*' | b'~' | b'+')
    {
        start += 1;
    }
    if user_part(text, i, out) || start >= i || before(text, i) == b'.' {
        return;
    }
    let mut end =
        run(text, i + 1, 255, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') || is_latin(b));
    while end > i && matches!(before(text, end), b'.' | b'-') {
        end -= 1;
    }
    let domain = slice(text, i + 1, end);
    let Some(dot) = domain.iter().rposition(|b| *b == b'.') else { return };
    let last = slice(domain, dot + 1, domain.len());
    let plain =
        (2..=24).contains(&last.len()) && last.iter().all(|b| b.is_ascii_alphabetic() || is_latin(*b));
    let puny = last.len() > 4 && last.get(..4).is_some_and(|p| p.eq_ignore_ascii_case(b"xn--"));
    let file = NOT_DOMAINS.iter().any(|n| last.eq_ignore_ascii_case(n.as_bytes()));
    let labels = domain.split(|b| *b == b'.').all(|l| !l.is_empty() && l.first() != Some(&b'-'));
    let remote = slice(text, start, i) == b"git" && at(text, end) == b':';
    if (plain || puny) && !file && labels && !remote && !at(text, end).eq(&b'@') {
        out.push(Span::new(start, end, "GLOBAL.EMAIL", "EMAIL"));
    }
}

/// `scheme://user:password@host`: the password is a secret, and nothing before the at-sign is an address.
fn user_part(text: &[u8], i: usize, out: &mut Found) -> bool {
    let from = run_back(text, i, 400, |b| {
        !b.is_ascii_whitespace()
            && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'/' | b'?' | b'=' | b'`' | b',')
    });
    if before(text, from) != b'/'
        || at(text, from.wrapping_sub(2)) != b'/'
        || at(text, from.wrapping_sub(3)) != b':'
    {
        return false;
    }
    if let Some(colon) = slice(text, from, i).iter().position(|b| *b == b':') {
        let (start, secret) = (from + colon + 1, slice(text, from + colon + 1, i));
        if secret.len() >= 3 && !super::secrets::is_placeholder(secret) {
            out.push(Span::new(start, i, "SECRET.url-password", "SECRET"));
        }
    }
    true
}

/// A dotted quad at the digit `i`. Returns its end.
pub(super) fn ipv4(text: &[u8], i: usize, out: &mut Found) -> Option<usize> {
    if !begins(text, i) || before(text, i) == b'.' {
        return None;
    }
    let (mut k, mut parts) = (i, [0_u16; 4]);
    for (n, part) in parts.iter_mut().enumerate() {
        let end = run(text, k, 4, |b| b.is_ascii_digit());
        if end == k || end - k > 3 || (end - k > 1 && at(text, k) == b'0') {
            return None;
        }
        *part = slice(text, k, end).iter().fold(0, |sum, d| sum * 10 + u16::from(d - b'0'));
        if *part > 255 || (n < 3 && at(text, end) != b'.') {
            return None;
        }
        k = if n < 3 { end + 1 } else { end };
    }
    let next = at(text, k);
    let netmask = at_mask(parts);
    if next.is_ascii_alphanumeric()
        || (matches!(next, b'.' | b'-')
            && at(text, k + 1).is_ascii_alphanumeric()
            && !(next == b'-' && at(text, k + 1).is_ascii_digit()))
        || next == b'_'
        || (netmask && next != b'/')
        || numbers::is_version(text, i)
    {
        return None;
    }
    if next == b'/' && at(text, k + 1).is_ascii_digit() {
        let end = run(text, k + 1, 3, |b| b.is_ascii_digit());
        if end - k <= 3 && !at(text, end).is_ascii_alphanumeric() {
            k = end;
        }
    }
    out.push(Span::new(i, k, "GLOBAL.IP", "IP"));
    Some(k)
}

/// A subnet mask or the unspecified address: nobody's address.
fn at_mask(parts: [u16; 4]) -> bool {
    let value = parts.iter().fold(0_u32, |sum, p| sum << 8 | u32::from(*p));
    value == 0 || (value >> 24 == 255 && value != u32::MAX && (!value).wrapping_add(1).is_power_of_two())
}

/// A MAC or IPv6 address round the colon at `i`. Returns where to go on.
pub(super) fn at_colon(text: &[u8], i: usize, out: &mut Found) -> Option<usize> {
    let hexish = |b: u8| b.is_ascii_hexdigit() || b == b':';
    if !hexish(at(text, i + 1)) || !(hexish(before(text, i)) || at(text, i + 1) == b':') {
        return None;
    }
    let start = run_back(text, i, 40, |b| b.is_ascii_hexdigit());
    if let Some(end) = mac(text, start, b':', out) {
        return Some(end);
    }
    let mut end = run(text, start, 46, |b| hexish(b) || b == b'.');
    while end > start
        && (before(text, end) == b'.' || (before(text, end) == b':' && at(text, end.wrapping_sub(2)) != b':'))
    {
        end -= 1;
    }
    if !begins(text, start) || at(text, end).is_ascii_alphanumeric() || before(text, start) == b':' {
        return None;
    }
    let mut written = slice(text, start, end);
    if written == b"::" && at(text, end) == b'/' && at(text, end + 1).is_ascii_digit() {
        let end = run(text, end + 1, 3, |b| b.is_ascii_digit());
        out.push(Span::new(start, end, "GLOBAL.IP", "IP"));
        return Some(end);
    }
    if written.iter().filter(|b| **b == b':').count() < 2 || !written.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let short = written.iter().filter(|b| b.is_ascii_hexdigit()).count() <= 4;
    if short
        && (written != b"::1" || before(text, start) == b'[' && !at(text, end + 1).eq(&b':'))
        && !written.starts_with(b"f")
    {
        return None;
    }
    let parses = |w: &[u8]| std::str::from_utf8(w).is_ok_and(|w| w.parse::<Ipv6Addr>().is_ok());
    if !parses(written) {
        // A port glued to a full address, or a sentence that goes on.
        let cut = written.iter().rposition(|b| *b == b':').unwrap_or(0);
        written = slice(written, 0, cut);
        if !parses(written) || written.len() < 8 {
            return None;
        }
        end = start + cut;
    }
    if at(text, end) == b'%' {
        end = run(text, end + 1, 16, |b| b.is_ascii_alphanumeric());
    } else if at(text, end) == b'/' && at(text, end + 1).is_ascii_digit() {
        end = run(text, end + 1, 3, |b| b.is_ascii_digit());
    }
    out.push(Span::new(start, end, "GLOBAL.IP", "IP"));
    Some(end)
}

/// Six pairs of hexadecimal digits with one separator. Broadcast and null are nobody's address.
pub(super) fn mac(text: &[u8], start: usize, separator: u8, out: &mut Found) -> Option<usize> {
    let end = start + 17;
    let written = text.get(start..end)?;
    let shaped = written
        .iter()
        .enumerate()
        .all(|(k, b)| if k % 3 == 2 { *b == separator } else { b.is_ascii_hexdigit() });
    if !shaped
        || !begins(text, start)
        || before(text, start) == separator
        || at(text, end) == separator
        || at(text, end).is_ascii_alphanumeric()
    {
        return None;
    }
    let same = |c: u8| written.iter().all(|b| *b == separator || b.eq_ignore_ascii_case(&c));
    if same(b'f') || same(b'0') {
        return Some(end);
    }
    out.push(Span::new(start, end, "GLOBAL.MAC", "MAC"));
    Some(end)
}

/// Cisco's form, `0012.3456.789a`, round its first dot at `i`.
pub(super) fn mac_dotted(text: &[u8], i: usize, out: &mut Found) -> Option<usize> {
    let start = i.checked_sub(4)?;
    let written = text.get(start..start + 14)?;
    let shaped =
        written.iter().enumerate().all(|(k, b)| if k % 5 == 4 { *b == b'.' } else { b.is_ascii_hexdigit() });
    let mixed = written.iter().any(u8::is_ascii_alphabetic);
    if !shaped || !mixed || !begins(text, start) || before(text, start) == b'.' {
        return None;
    }
    let end = start + 14;
    if at(text, end).is_ascii_alphanumeric()
        || (at(text, end) == b'.' && at(text, end + 1).is_ascii_alphanumeric())
    {
        return None;
    }
    out.push(Span::new(start, end, "GLOBAL.MAC", "MAC"));
    Some(end)
}
