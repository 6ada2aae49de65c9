//! Keys and their values, in JSON, YAML, Python literals, TOML, XML, shell and code alike: found from the key, without a parser,
//! so that a broken document or one inside a string of another still gives its values.

use super::bytes::{at, before, entropy, run, run_back, slice};
use super::fields::{self, Class};
use super::rules::Named;
use super::{Found, Span, secrets};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Quoted,
    /// A word after `=` or `:`.
    Bare,
    /// The rest of a line of YAML or of a header.
    Line,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    start: usize,
    end: usize,
    style: Style,
}

const LONGEST: usize = 8 << 10;

fn is_key(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || b >= 0x80
}

/// State of one scan: keys are looked at once, though several stems may lie in one.
#[derive(Debug, Default)]
pub(super) struct Keys {
    done: usize,
    named_done: usize,
    segments: Vec<String>,
    values: Vec<Value>,
}

impl Keys {
    /// Looks at the key round a stem.
    pub(super) fn stem(&mut self, text: &[u8], start: usize, end: usize, out: &mut Found) {
        if start < self.done {
            return;
        }
        let key_end = run(text, end, 64, is_key);
        // Names run on to an operator; without one this is prose.
        let mut key_start = run_back(text, start, 64, is_key);
        if super::bytes::is_escape(text, key_start + 1) && before(text, key_start) == b'\\' {
            key_start += 1;
        }
        self.done = key_end.max(self.done);
        let after = at(text, run(text, key_end, 8, |b| b == b' ' || b == b'\\'));
        if !matches!(
            after,
            b':' | b'=' | b'"' | b'\'' | b'>' | b'`' | b']' | b'|' | b'?' | b'.' | b'+' | b',' | b'\n'
        ) && !after.is_ascii_alphabetic()
            && after < 0x80
        {
            prose(text, key_start, key_end, out, &mut self.segments);
            return;
        }
        let (key_start, key_end) = spaced(text, key_start, key_end);
        fields::segments(slice(text, key_start, key_end), &mut self.segments);
        let class = fields::classify(&self.segments);
        let Some(class) = class else {
            self.generic(text, key_start, key_end, out);
            return;
        };
        self.values.clear();
        if !values(text, key_start, key_end, &mut self.values) {
            beside(text, key_end, &mut self.values);
        }
        if self.values.is_empty() {
            prose(text, key_start, key_end, out, &mut self.segments);
            return;
        }
        for value in &self.values {
            if accept(text, class, *value) {
                let (kind, token) = class.kind();
                out.push(Span::new(after_scheme(text, *value), value.end, kind, token));
            }
        }
    }

    /// A key with a suspicious word whose value looks machine-made.
    fn generic(&mut self, text: &[u8], key_start: usize, key_end: usize, out: &mut Found) {
        const WORDS: &[&str] = &[
            "secret",
            "token",
            "key",
            "password",
            "passwd",
            "credential",
            "credentials",
            "creds",
            "auth",
            "access",
            "api",
        ];
        const NOT: &[&str] = &[
            "public",
            "pub",
            "id",
            "ids",
            "url",
            "uri",
            "name",
            "names",
            "path",
            "file",
            "type",
            "count",
            "hash",
            "sort",
            "partition",
            "primary",
            "foreign",
            "cache",
            "event",
            "alias",
            "label",
            "version",
            "endpoint",
            "host",
            "keyword",
            "keywords",
            "ssh",
            "hint",
            "policy",
            "registry",
            "image",
            "fingerprint",
            "checksum",
            "digest",
            "sha",
            "sha256",
            "etag",
            "commit",
            "index",
            "selector",
            "algorithm",
            "alg",
            "author",
            "authority",
            "kid",
            "store",
            "vault",
            "map",
            "mapping",
            "str",
            "down",
            "up",
            "press",
            "code",
            "frame",
            "column",
        ];
        let has = |list: &[&str]| self.segments.iter().any(|s| list.contains(&s.as_str()));
        if !has(WORDS) || has(NOT) {
            return;
        }
        self.values.clear();
        values(text, key_start, key_end, &mut self.values);
        for value in &self.values {
            let secret = slice(text, value.start, value.end);
            let shaped = (16..=150).contains(&secret.len())
                && secret.iter().all(|b| {
                    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'=' | b'-' | b'+' | b'/')
                });
            if shaped
                && value.style != Style::Line
                && machine_made(secret)
                && !secrets::is_placeholder(secret)
                && !secrets::is_token(secret)
            {
                out.push(Span::new(value.start, value.end, "SECRET.generic-api-key", "SECRET"));
            }
        }
    }

    /// A service's name in a key, and a value of the shape its secrets have.
    pub(super) fn named(&mut self, text: &[u8], start: usize, end: usize, rule: &Named, out: &mut Found) {
        if start < self.named_done {
            return;
        }
        let key_end = run(text, end, 48, is_key);
        self.named_done = key_end;
        let key_start = run_back(text, start, 48, is_key);
        fields::segments(slice(text, key_start, key_end), &mut self.segments);
        if self.segments.iter().any(|s| {
            matches!(
                s.as_str(),
                "url"
                    | "uri"
                    | "host"
                    | "name"
                    | "path"
                    | "file"
                    | "version"
                    | "sha"
                    | "commit"
                    | "hash"
                    | "digest"
                    | "image"
            )
        }) {
            return;
        }
        if !self.segments.iter().any(|s| s.starts_with(rule.word)) {
            return;
        }
        self.values.clear();
        values(text, key_start, key_end, &mut self.values);
        for value in &self.values {
            let secret = slice(text, value.start, value.end);
            let length = usize::from(rule.lengths.0)..=usize::from(rule.lengths.1);
            let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
            if length.contains(&secret.len())
                && secret.iter().all(|b| rule.set.has(*b))
                && digits >= 2
                && entropy(secret) >= 2.5
                && !secrets::is_placeholder(secret)
                && !secrets::is_token(secret)
            {
                out.push(Span::new(value.start, value.end, "SECRET.named-service", "SECRET"));
            }
        }
    }
}

/// Where the secret of `Bearer x` begins: the scheme's name may be seen, and a header without it would not work.
fn after_scheme(text: &[u8], value: Value) -> usize {
    let secret = slice(text, value.start, value.end).to_ascii_lowercase();
    let schemes: [&[u8]; 4] = [b"bearer ", b"basic ", b"token ", b"apikey "];
    let scheme = schemes.iter().find(|s| secret.starts_with(s) && secret.len() > s.len());
    value.start + scheme.map_or(0, |s| s.len())
}

/// High entropy, letters and digits mixed, not a path, a version, a URL or a word.
fn machine_made(secret: &[u8]) -> bool {
    let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = secret.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let dots = secret.iter().filter(|b| matches!(b, b'.' | b'/')).count();
    let sequence = [&b"abcdefgh"[..], b"ABCDEFGH", b"12345678", b"example", b"EXAMPLE"]
        .iter()
        .any(|s| secret.windows(s.len()).any(|w| w == *s));
    digits >= 2 && letters >= 4 && dots <= 1 && !sequence && entropy(secret) >= 3.5
}

/// Words joined to a key by one space (`Date of Birth`, `passport number`), on both sides.
fn spaced(text: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    for _ in 0..2 {
        if before(text, start) == b' ' && at(text, start.wrapping_sub(2)).is_ascii_alphabetic() {
            start = run_back(text, start - 1, 16, |b| b.is_ascii_alphabetic() || b == b'_');
        }
    }
    if at(text, end) == b' ' {
        let word = run(text, end + 1, 8, |b| b.is_ascii_alphabetic());
        let next = slice(text, end + 1, word).to_ascii_lowercase();
        let tails: [&[u8]; 11] = [
            b"number", b"no", b"id", b"code", b"codes", b"key", b"token", b"string", b"date", b"record",
            b"account",
        ];
        let operator = at(text, run(text, word, 2, |b| matches!(b, b' ' | b'"' | b'\'')));
        if tails.contains(&next.as_slice()) && matches!(operator, b':' | b'=') {
            end = word;
        }
    }
    (start, end)
}

/// The values that follow a key; false where no operator follows.
fn values(text: &[u8], key_start: usize, key_end: usize, out: &mut Vec<Value>) -> bool {
    let slashes = run(text, key_end, 4, |b| b == b'\\');
    let quoted = matches!(at(text, slashes), b'"' | b'\'' | b'`');
    let mut i = if quoted { slashes + 1 } else { key_end };
    i = run(text, i, 2, |b| matches!(b, b']' | b')'));
    i = run(text, i, 8, |b| matches!(b, b' ' | b'\t'));
    // `var token string = …`
    let word = run(text, i, 10, |b| b.is_ascii_alphabetic() || matches!(b, b'&' | b'[' | b']'));
    if word > i {
        let kind = slice(text, i, word);
        if !matches!(kind, b"string" | b"String" | b"str" | b"&str" | b"[]byte" | b"text") {
            return false;
        }
        i = run(text, word, 4, |b| b == b' ');
    }
    let operator_end =
        run(text, i, 5, |b| matches!(b, b':' | b'=' | b'>' | b'|' | b'?' | b'.' | b'+' | b',' | b'-'));
    let operator = slice(text, i, operator_end);
    let assigns = operator.iter().any(|b| matches!(b, b':' | b'=' | b'>'))
        || operator == b"||"
        || (operator == b"," && quoted && is_argument(text, key_start));
    if !assigns || operator == b"::" || operator == b"!=" {
        return false;
    }
    i = operator_end;
    let lines = operator.contains(&b'>') || (quoted && operator.contains(&b':'));
    i = run(text, i, 64, |b| matches!(b, b' ' | b'\t') || (lines && matches!(b, b'\n' | b'\r')));
    if slice(text, i, i + 2) == b"\\n" && operator.contains(&b'>') {
        i = run(text, i + 2, 32, |b| b == b' ');
    }
    // `let token: String = "…"`
    let kind_end =
        run(text, i, 16, |b| b.is_ascii_alphanumeric() || matches!(b, b'&' | b'\'' | b'<' | b'>' | b'?'));
    let assign = run(text, kind_end, 2, |b| b == b' ');
    if operator == b":"
        && kind_end > i
        && at(text, assign) == b'='
        && at(text, assign + 1) != b'='
        && before(text, kind_end) != b'\''
    {
        i = run(text, assign + 1, 4, |b| b == b' ');
    }
    let yaml = operator == b":" && !quoted && line_starts(text, key_start);
    one(text, i, Mode { yaml, quoted_only: operator == b"," || operator == b"||", json: quoted }, 0, out);
    true
}

/// Whether the quoted text at `start` is the first argument of a call: `setProperty("TOKEN", "…")`.
fn is_argument(text: &[u8], start: usize) -> bool {
    let quote = run_back(text, start, 4, |b| matches!(b, b'"' | b'\'' | b'`' | b'\\'));
    before(text, run_back(text, quote, 4, |b| b == b' ')) == b'('
}

#[derive(Debug, Clone, Copy)]
struct Mode {
    yaml: bool,
    quoted_only: bool,
    json: bool,
}

/// Whether only indentation (and a list's hyphen) stands before `i` on its line.
fn line_starts(text: &[u8], i: usize) -> bool {
    let start = run_back(text, i, 64, |b| matches!(b, b' ' | b'\t' | b'-' | b'"' | b'\''));
    matches!(before(text, start), b'\n' | 0)
}

/// One value, or the values of a list or of a wrapper object such as `{"value": …}`. Returns its end.
fn one(text: &[u8], i: usize, mode: Mode, depth: u32, out: &mut Vec<Value>) -> usize {
    if depth > 4 || out.len() > 64 {
        return i;
    }
    let prefix = usize::from(
        matches!(at(text, i), b'b' | b'r' | b'f' | b'u' | b'B' | b'R' | b'F')
            && matches!(at(text, i + 1), b'"' | b'\''),
    );
    let i = i + prefix;
    let slashes = run(text, i, 7, |b| b == b'\\');
    let quote = at(text, slashes);
    if matches!(quote, b'"' | b'\'' | b'`') {
        return string(text, slashes, quote, slashes - i, out);
    }
    if mode.quoted_only {
        return i;
    }
    match at(text, i) {
        b'[' => {
            let mut k = skip(text, i + 1);
            while at(text, k) != b']' && k < text.len() && out.len() <= 64 {
                let end = one(text, k, Mode { yaml: false, json: true, ..mode }, depth + 1, out);
                let next = skip(text, end);
                if at(text, next) != b',' {
                    return next;
                }
                k = skip(text, next + 1);
            }
            k + 1
        }
        b'{' if mode.json || mode.yaml || depth > 0 => wrapper(text, i, depth, out),
        _ => bare(text, i, mode, out),
    }
}

/// Names of fields that only wrap a value.
pub(super) const WRAPPERS: &[&[u8]] = &[
    b"value",
    b"data",
    b"v",
    b"val",
    b"text",
    b"raw",
    b"content",
    b"secret",
    b"plain",
    b"plaintext",
    b"current",
    b"string",
    b"_value",
    b"$value",
    b"default",
    b"number",
    b"code",
    b"0",
];

/// The whole text as the value of a sensitive key; `None` where it is a mask, a flag, a token.
pub(super) fn whole(class: Class, text: &str) -> Option<Span> {
    let value = Value { start: 0, end: text.len(), style: Style::Quoted };
    let (kind, token) = class.kind();
    accept(text.as_bytes(), class, value)
        .then(|| Span::new(after_scheme(text.as_bytes(), value), text.len(), kind, token))
}

/// `{"value": …}`: a key that only wraps.
fn wrapper(text: &[u8], i: usize, depth: u32, out: &mut Vec<Value>) -> usize {
    let mut k = run(text, skip(text, i + 1), 7, |b| b == b'\\');
    if matches!(at(text, k), b'"' | b'\'') {
        k += 1;
    }
    let end = run(text, k, 12, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'));
    if !WRAPPERS.iter().any(|w| slice(text, k, end).eq_ignore_ascii_case(w)) {
        return end;
    }
    let mut after = run(text, end, 7, |b| b == b'\\');
    if matches!(at(text, after), b'"' | b'\'') {
        after += 1;
    }
    let after = skip(text, after);
    if !matches!(at(text, after), b':' | b'=') {
        return end;
    }
    let end = one(
        text,
        skip(text, after + 1),
        Mode { yaml: false, quoted_only: false, json: true },
        depth + 1,
        out,
    );
    let close = skip(text, end);
    if at(text, close) == b'}' { close + 1 } else { end }
}

fn skip(text: &[u8], i: usize) -> usize {
    run(text, i, 256, |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
}

/// A string whose quote is at `i`, escaped by `level` backslashes as everything round it is.
fn string(text: &[u8], i: usize, quote: u8, level: usize, out: &mut Vec<Value>) -> usize {
    let triple = level == 0 && at(text, i + 1) == quote && at(text, i + 2) == quote;
    let start = i + if triple { 3 } else { 1 };
    let limit = text.len().min(start + LONGEST);
    let mut k = start;
    while k < limit {
        let b = at(text, k);
        if b == b'\\' {
            let end = run(text, k, 15, |b| b == b'\\');
            if at(text, end) == quote && end - k <= level {
                break;
            }
            k = end + 1;
            continue;
        }
        if b == quote && level == 0 && (!triple || slice(text, k, k + 3) == [quote; 3]) {
            break;
        }
        // Without its end the string stops at the line, and level by level a bare quote ends everything.
        if (b == b'\n' && !triple && quote != b'`') || (b == quote && level > 0) {
            break;
        }
        k += 1;
    }
    let k = k.min(limit);
    out.push(Value { start, end: k, style: Style::Quoted });
    run(text, k, 7, |b| b == b'\\') + if triple { 3 } else { 1 }
}

/// A number, a word, or the rest of a line of YAML.
fn bare(text: &[u8], i: usize, mode: Mode, out: &mut Vec<Value>) -> usize {
    if matches!(at(text, i), b'!' | b'*' | b'|' | b'>' | b'{' | b'(' | b'<' | 0 | b'\n' | b'\r') {
        return i;
    }
    if mode.yaml {
        let mut end = run(text, i, 1024, |b| !matches!(b, b'\n' | b'\r'));
        if let Some(comment) = slice(text, i, end).windows(2).position(|w| w == b" #") {
            end = i + comment;
        }
        while end > i && matches!(before(text, end), b' ' | b'\t') {
            end -= 1;
        }
        out.push(Value { start: i, end, style: Style::Line });
        return end;
    }
    let stop = |b: u8| {
        b.is_ascii_whitespace()
            || matches!(b, b',' | b';' | b'}' | b']' | b'"' | b'\'' | b'`' | b'<')
            || (b == b')' && !mode.json)
    };
    let mut end = run(text, i, 400, |b| !stop(b));
    // The next field of a query, not an ampersand of the password.
    if let Some(next) = slice(text, i, end)
        .iter()
        .enumerate()
        .find_map(|(k, b)| (*b == b'&' && names_field(text, i + k + 1)).then_some(i + k))
    {
        end = next;
    }
    while end > i && matches!(before(text, end), b'.' | b':' | b'\\') {
        end -= 1;
    }
    if matches!(before(text, end), b'n') && at(text, end.wrapping_sub(2)) == b'\\' {
        end -= 2;
    }
    out.push(Value { start: i, end: end.max(i), style: Style::Bare });
    end
}

/// Whether `name=` begins at `i`.
fn names_field(text: &[u8], i: usize) -> bool {
    let end = run(text, i, 32, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    end > i && matches!(at(text, end), b'=' | b'&')
}

/// The value beside a name: `{"name": "API_KEY", "value": …}`, `- name: TOKEN` and `value: …` on the next line. The name ends at `i`.
fn beside(text: &[u8], i: usize, out: &mut Vec<Value>) {
    let quote = |i: usize| i + usize::from(matches!(at(text, i), b'"' | b'\''));
    let i = skip(text, quote(i));
    let key = quote(skip(text, i + usize::from(at(text, i) == b',')));
    let end = run(text, key, 8, |b| b.is_ascii_alphabetic());
    if !slice(text, key, end).eq_ignore_ascii_case(b"value")
        && !slice(text, key, end).eq_ignore_ascii_case(b"val")
    {
        return;
    }
    let operator = quote(end);
    if matches!(at(text, operator), b':' | b'=') {
        let value = run(text, operator + 1, 8, |b| b == b' ');
        one(text, value, Mode { yaml: operator == end, quoted_only: false, json: operator != end }, 0, out);
    }
}

/// Whether a value under a sensitive key is one, rather than a mask, a variable, a type or a flag.
fn accept(text: &[u8], class: Class, value: Value) -> bool {
    const FLAGS: &[&str] = &[
        "basic",
        "bearer",
        "oauth",
        "oauth2",
        "optional",
        "required",
        "disabled",
        "enabled",
        "default",
        "string",
        "str",
        "bytes",
        "int",
        "integer",
        "number",
        "any",
        "bool",
        "boolean",
        "object",
        "password",
        "passwd",
        "secret",
        "token",
        "text",
        "self",
        "this",
        "input",
        "on",
        "off",
        "ok",
        "digest",
        "negotiate",
        "missing",
        "invalid",
        "expired",
        "auto",
        "manual",
        "varchar",
        "binary",
        "char",
        "option",
        "sha256",
        "bcrypt",
    ];
    let raw = slice(text, value.start, value.end);
    let secret = raw.trim_ascii();
    let lower = secret.to_ascii_lowercase();
    if secrets::is_placeholder(secret)
        || secrets::is_token(secret)
        || FLAGS.iter().any(|f| lower == f.as_bytes())
    {
        return false;
    }
    let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = secret.iter().filter(|b| b.is_ascii_alphabetic() || **b >= 0x80).count();
    let identifier = secret.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.'));
    let code = secret.iter().any(|b| matches!(b, b'(' | b'{' | b'['));
    match (class, value.style) {
        (Class::Connection, _) => secret.windows(3).any(|w| w == b"://") || secret.contains(&b';'),
        (Class::Code, Style::Quoted) => digits >= 3 || (digits > 0 && letters > 2),
        (Class::Code, _) => digits >= 3 && !code && secret.len() <= 24,
        (Class::Personal, Style::Quoted) => secret.len() >= 2,
        (Class::Personal, Style::Line) => !code && secret.len() <= 200,
        (Class::Personal, Style::Bare) => digits >= 4,
        (Class::Password | Class::Credential, Style::Quoted) => {
            let sentence =
                secret.iter().filter(|b| **b == b' ').count() >= 3 && digits == 0 && class == Class::Password;
            let url = lower.starts_with(b"http") && !secret.contains(&b'@');
            !(sentence || url || code && secret.first() == Some(&b'{'))
        }
        (_, Style::Line) => {
            let statement = matches!(secret.last(), Some(b';' | b',' | b'{' | b'(' | b')' | b'?'));
            let words = secret.iter().filter(|b| **b == b' ').count();
            !code && !statement && !(words >= 1 && digits == 0) && words <= 3 && secret.len() >= 3
        }
        (_, Style::Bare) => {
            !code
                && !(identifier && digits == 0)
                && secret.len() >= 4
                && (letters > 0 || digits >= 6)
                && digits_or_symbols(secret)
        }
    }
}

fn digits_or_symbols(secret: &[u8]) -> bool {
    secret.iter().any(|b| {
        b.is_ascii_digit() || matches!(b, b'!' | b'#' | b'@' | b'%' | b'?' | b'*' | b'^' | b'~' | b'&')
    })
}

/// `the staging password is X`, `login kenji password X`: words of a sentence, and a value no dictionary has.
fn prose(text: &[u8], key_start: usize, key_end: usize, out: &mut Found, parts: &mut Vec<String>) {
    const LINKS: &[&str] = &[
        "is", "was", "are", "to", "now", "ist", "lautet", "es", "est", "e", "as", "becomes", "of", "=", "->",
        "set", "for", "ci", "será", "é", "це", "är", "er", "changed", "updated", "reset", "now:", "still",
        "será", "been", "named", "lautet:",
    ];
    fields::segments(slice(text, key_start, key_end), parts);
    let class = match fields::classify(parts) {
        Some(class @ (Class::Password | Class::Credential | Class::Code)) => class,
        _ if parts.last().is_some_and(|p| p == "key") => Class::Credential,
        _ => return,
    };
    let mut i = key_end;
    for _ in 0..4 {
        let next = run(text, i, 3, |b| matches!(b, b' ' | b':' | b'\t') || b == b'=');
        if next == i {
            return;
        }
        let end = run(text, next, 200, |b| {
            !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>')
        });
        let quoted = matches!(at(text, next), b'"' | b'\'' | b'`');
        let (from, end) = if quoted {
            let quote = at(text, next);
            (next + 1, run(text, next + 1, 200, |b| b != quote && b != b'\n'))
        } else {
            (next, end)
        };
        let word = slice(text, from, end).to_ascii_lowercase();
        if !quoted && LINKS.iter().any(|l| word.strip_suffix(b":").unwrap_or(&word) == l.as_bytes()) {
            i = end;
            continue;
        }
        let mut end = end;
        while end > from && !quoted && matches!(before(text, end), b'.' | b',' | b';' | b':' | b')' | b']') {
            end -= 1;
        }
        let secret = slice(text, from, end);
        let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
        let letters = secret.iter().filter(|b| b.is_ascii_alphabetic()).count();
        let strong = letters >= 2 && digits >= 1 && secret.len() >= 6
            || class == Class::Code && digits >= 4 && letters == 0;
        let odd = secret.iter().any(|b| matches!(b, b'(' | b'/' | b'\\' | b'{' | b'['))
            || secret.windows(3).any(|w| w == b"://");
        if strong && !odd && !secrets::is_placeholder(secret) && !secrets::is_token(secret) {
            let (kind, token) = class.kind();
            out.push(Span::new(from, end, kind, token));
        }
        return;
    }
}

/// A word for a password in another language, which ends at `i`.
pub(super) fn spoken(text: &[u8], i: usize, out: &mut Found) {
    let from = run(text, i, 6, |b| matches!(b, b' ' | b':' | b'=') || b >= 0x80);
    let link = run(text, from, 4, |b| b.is_ascii_lowercase());
    let from = if link > from && at(text, link) == b' ' {
        run(text, link, 3, |b| matches!(b, b' ' | b':' | b'"'))
    } else {
        from
    };
    let end = run(text, from, 128, |b| b > b' ' && b < 0x7f && !matches!(b, b'"' | b'\'' | b',' | b';'));
    let secret = slice(text, from, end);
    let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
    if from > i
        && secret.len() >= 6
        && digits >= 1
        && !secrets::is_placeholder(secret)
        && !secrets::is_token(secret)
    {
        let end = end - usize::from(before(text, end) == b'.');
        out.push(Span::new(from, end, "FIELD.password", "SECRET"));
    }
}
