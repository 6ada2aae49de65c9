//! Secrets told by their own form: prefixes, PEM blocks, JSON web tokens, URLs, headers and command lines.

use super::bytes::{at, before, begins, ends, entropy, run, run_back, slice};
use super::rules::{Prefixed, Set};
use super::{Found, Span};

/// A secret with a known prefix at `start`.
pub(super) fn prefixed(text: &[u8], start: usize, rule: &Prefixed, out: &mut Found) {
    let body = start + rule.prefix.len();
    if slice(text, start, body) != rule.prefix.as_bytes() {
        return;
    }
    let url = rule.kind.ends_with("-webhook");
    let glued = before(text, start) == b'_' && !rule.prefix.starts_with('_');
    if !(url || begins(text, start) || (glued && rule.prefix.len() > 4))
        || before(text, start) == b'-' && rule.prefix.len() < 5
    {
        return;
    }
    let mut end = run(text, body, usize::from(rule.max) + 1, |b| rule.set.has(b));
    if matches!(rule.set, Set::Loose | Set::Base64 | Set::Dash) {
        while end > body
            && matches!(before(text, end), b'.' | b'-' | b'=' | b'_')
            && end - body > usize::from(rule.min)
        {
            if before(text, end) == b'=' && rule.set == Set::Base64
                || before(text, end) != b'.' && end - body <= usize::from(rule.max)
            {
                break;
            }
            end -= 1;
        }
    }
    if rule.kind == "SECRET.airtable-token" {
        if at(text, end) != b'.' {
            return;
        }
        let tail = run(text, end + 1, 65, |b| b.is_ascii_hexdigit());
        if tail - end != 65 {
            return;
        }
        end = tail;
    } else if !(usize::from(rule.min)..=usize::from(rule.max)).contains(&(end - body))
        || at(text, end).is_ascii_alphanumeric()
    {
        return;
    }
    let secret = slice(text, body, end);
    let least = match secret.len() {
        0..20 => 2.2,
        20..40 => 2.8,
        _ => 3.0,
    };
    let word = secret.iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-' | b'.'));
    let low = entropy(secret) < least && rule.kind != "SECRET.age-key";
    if low
        || (word && rule.prefix.len() < 6)
        || is_placeholder(secret)
        || has_sequence(secret)
        || secret.ends_with(b"EXAMPLE")
    {
        return;
    }
    if rule.prefix.len() <= 3 && secret.len() < 30 && !secret.iter().any(u8::is_ascii_digit) {
        return;
    }
    let start =
        if url && slice(text, start.saturating_sub(8), start) == b"https://" { start - 8 } else { start };
    out.push(Span::new(start, end, rule.kind, "SECRET"));
}

/// Alphabets and key maps are not secrets.
fn has_sequence(secret: &[u8]) -> bool {
    [&b"abcdefghijkl"[..], b"ABCDEFGHIJKL", b"0123456789abcdef0123", b"123456789012345"]
        .iter()
        .any(|s| secret.windows(s.len()).any(|w| w == *s))
}

/// A private key in PEM form, also with its line breaks escaped, whose first hyphen is at `start`.
pub(super) fn pem(text: &[u8], start: usize, out: &mut Found) {
    const LONGEST: usize = 32 << 10;
    let label = slice(text, start, start + 80);
    let Some(close) = label.windows(5).skip(6).position(|w| w == b"-----").map(|k| k + 6) else { return };
    let name = slice(label, 0, close);
    let private = [&b"PRIVATE KEY"[..], b"PGP PRIVATE", b"SECRET KEY"]
        .iter()
        .any(|n| name.windows(n.len()).any(|w| w == *n));
    if !private {
        return;
    }
    let body = start + close + 5;
    let far = slice(text, body, body + LONGEST);
    let end = match memchr::memmem::find(far, b"-----END") {
        Some(k) => {
            let tail = body + k + 8;
            let close = memchr::memmem::find(slice(text, tail, tail + 64), b"-----").map_or(0, |k| k + 5);
            tail + close
        }
        None => run(text, body, LONGEST, |b| {
            b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\\' | b'\n' | b'\r' | b' ')
        }),
    };
    if end - body >= 80 {
        out.push(Span::new(start, end, "SECRET.private-key", "SECRET"));
    }
}

/// A JSON web token (RFC 7519) whose `ey` is at `start`.
pub(super) fn jwt(text: &[u8], start: usize, out: &mut Found) {
    let part = |i: usize| {
        run(text, i, 8192, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/' | b'\\' | b'+'))
    };
    let head = part(start);
    if !begins(text, start)
        || head - start < 16
        || at(text, head) != b'.'
        || slice(text, head + 1, head + 3) != b"ey"
    {
        return;
    }
    let body = part(head + 1);
    if body - head < 16 {
        return;
    }
    let mut end = body;
    if at(text, body) == b'.' {
        end = part(body + 1);
        end = run(text, end, 2, |b| b == b'=');
    }
    out.push(Span::new(start, end, "SECRET.jwt", "SECRET"));
}

/// The credentials of an `Authorization` scheme: `Basic` or `Bearer`, whose word ends at `i`.
pub(super) fn scheme(text: &[u8], start: usize, i: usize, basic: bool, out: &mut Found) {
    if !begins(text, start) {
        return;
    }
    let from = run(text, i, 3, |b| matches!(b, b' ' | b'+' | b':'));
    if from == i {
        return;
    }
    let end = run(text, from, 4096, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_' | b'.' | b'~')
    });
    let secret = slice(text, from, end);
    if is_placeholder(secret) || is_token(secret) {
        return;
    }
    let good = if basic {
        secret.len() >= 8 && decodes_to_pair(secret)
    } else {
        let letters = secret.iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_' | b'.'));
        secret.len() >= 12 && secret.iter().any(u8::is_ascii_digit) && !letters && entropy(secret) > 2.8
    };
    if good {
        let kind = if basic { "SECRET.basic-auth" } else { "SECRET.bearer" };
        out.push(Span::new(from, end, kind, "SECRET"));
    }
}

/// Whether base64 holds `user:password`.
fn decodes_to_pair(text: &[u8]) -> bool {
    super::views::base64(text).is_some_and(|plain| {
        plain.contains(&b':') && plain.iter().all(|b| (0x20..0x7f).contains(b) || *b >= 0x80)
    })
}

/// `curl -u user:password` or `--user`, whose word ends at `i`.
pub(super) fn curl_user(text: &[u8], i: usize, out: &mut Found) {
    let from = run(text, i, 4, |b| matches!(b, b' ' | b'=' | b'"' | b'\'' | b'\\'));
    if from == i || !command_before(text, i, b"curl") {
        return;
    }
    let quote = before(text, from);
    let quoted = matches!(quote, b'"' | b'\'');
    let end = run(text, from, 256, |b| {
        if quoted { b != quote } else { !b.is_ascii_whitespace() && b != b'"' && b != b'\'' }
    });
    let pair = slice(text, from, end);
    let Some(colon) = pair.iter().position(|b| *b == b':') else { return };
    let (user, password) = (slice(pair, 0, colon), slice(pair, colon + 1, pair.len()));
    let variable =
        user.first().is_some_and(|b| matches!(b, b'$' | b'{' | b'<' | b'[' | b'%')) || pair.contains(&b'(');
    if colon >= 1
        && password.len() >= 3
        && !variable
        && !is_placeholder(password)
        && !is_example(password)
        && !is_example(user)
    {
        out.push(Span::new(from, end, "SECRET.curl-user", "SECRET"));
    }
}

/// `mysql -pPASSWORD`: the option at `start`.
pub(super) fn glued_option(text: &[u8], start: usize, out: &mut Found) {
    let from = start + 3;
    let end =
        run(text, from, 128, |b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`' | b';' | b')'));
    let secret = slice(text, from, end);
    let client = [&b"mysql"[..], b"mariadb", b"mysqldump", b"sshpass", b"mongo", b"redis-cli"]
        .iter()
        .any(|c| command_before(text, start, c));
    if client && secret.len() >= 4 && !is_placeholder(secret) {
        out.push(Span::new(from, end, "SECRET.password", "SECRET"));
    }
}

/// Whether `command` stands earlier on the same line (continuation lines included), within 400 bytes.
fn command_before(text: &[u8], i: usize, command: &[u8]) -> bool {
    let near = slice(text, i.saturating_sub(400), i);
    memchr::memmem::rfind(near, command).is_some_and(|k| {
        let between = slice(near, k, near.len());
        !between.windows(2).any(|w| w.last() == Some(&b'\n') && w.first() != Some(&b'\\'))
    })
}

/// Telegram's bot tokens, `1234567890:AA…`, at the colon.
pub(super) fn telegram(text: &[u8], i: usize, out: &mut Found) {
    let start = run_back(text, i, 17, |b| b.is_ascii_digit());
    if at(text, i + 1) == b'A' && (8..=10).contains(&(i - start)) && begins(text, start) {
        let end = run(text, i + 1, 40, |b| Set::Dash.has(b));
        if (34..=36).contains(&(end - i - 1)) {
            out.push(Span::new(start, end, "SECRET.telegram-bot", "SECRET"));
        }
    }
}

/// Azure client secrets, `…Q~…`, at the tilde; 37 or 40 characters in all.
pub(super) fn azure(text: &[u8], i: usize, out: &mut Found) {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'.' | b'-');
    let start = i.saturating_sub(4);
    let end = run(text, start, 60, keep);
    let digit = at(text, i.wrapping_sub(2)).is_ascii_digit();
    if before(text, i) == b'Q'
        && digit
        && begins(text, start)
        && !keep(before(text, start))
        && (37..=41).contains(&(end - start))
        && entropy(slice(text, start, end)) > 3.0
    {
        out.push(Span::new(start, end, "SECRET.azure-client-secret", "SECRET"));
    }
}

/// `sk-…T3BlbkFJ…` (OpenAI) at the marker; `app|secret` of Facebook at the bar.
pub(super) fn marked(text: &[u8], i: usize, out: &mut Found) {
    let start = run_back(text, i, 120, |b| Set::Dash.has(b));
    let end = run(text, i, 120, |b| Set::Dash.has(b));
    if slice(text, start, start + 3) == b"sk-" && end - start > 40 {
        out.push(Span::new(start, end, "SECRET.openai-api-key", "SECRET"));
    }
}

/// Facebook's application tokens: 15 or 16 digits, a bar, 27 to 40 characters.
pub(super) fn facebook(text: &[u8], i: usize, out: &mut Found) {
    let start = run_back(text, i, 17, |b| b.is_ascii_digit());
    let end = run(text, i + 1, 41, |b| Set::Dash.has(b));
    if (15..=16).contains(&(i - start))
        && begins(text, start)
        && (27..=40).contains(&(end - i - 1))
        && ends(text, end)
    {
        out.push(Span::new(start, end, "SECRET.facebook-token", "SECRET"));
    }
}

/// Whether text only stands for a value: masks, variables, templates, the words of examples.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let (first, second) = (at(value, 0), at(value, 1));
    let lower = value.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|w| lower == w.as_bytes());
    let distinct = lower.iter().filter(|b| **b != at(&lower, 0)).count();
    value.len() < 2
        || (distinct == 0 && (value.len() > 3 || !first.is_ascii_alphanumeric()))
        || (first == b'$'
            && (second == b'{'
                || second == b'('
                || value
                    .iter()
                    .skip(1)
                    .all(|b| b.is_ascii_uppercase() || matches!(b, b'_') || b.is_ascii_digit())))
        || (first == b'{' && second == b'{')
        || (first == b'<' && before(value, value.len()) == b'>')
        || (first == b'[' && before(value, value.len()) == b']')
        || (first == b'%' && before(value, value.len()) == b'%')
        || value.starts_with(b"***")
        || lower.windows(6).any(|w| w == b"xxxxxx" || w == b"......" || w == b"******")
        || lower.starts_with(b"process.env")
        || lower.starts_with(b"os.environ")
        || lower.starts_with(b"env.")
        || lower.starts_with(b"secrets.")
        || is(&[
            "null",
            "none",
            "nil",
            "undefined",
            "true",
            "false",
            "yes",
            "no",
            "redacted",
            "[redacted]",
            "hidden",
            "masked",
            "n/a",
            "todo",
            "tbd",
            "unknown",
            "empty",
            "example",
        ])
}

/// Words that examples use in the place of a name or a password.
pub(super) fn is_example(value: &[u8]) -> bool {
    const WORDS: &[&str] = &[
        "password",
        "passwd",
        "pass",
        "secret",
        "user",
        "username",
        "yyy",
        "xxx",
        "token",
        "your_password",
        "your-password",
    ];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|w| lower == w.as_bytes())
}

/// Whether the text is one of this project's tokens, or of the older forms other tools use.
pub(super) fn is_token(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"Bearer ").or_else(|| value.strip_prefix(b"Basic ")).unwrap_or(value);
    crate::privacy::token::whole(value)
        || (value.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
            && value.windows(7).any(|w| w == b"_TOKEN_"))
}
