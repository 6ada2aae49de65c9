//! Finds personal data and secrets. Pure, and linear in the text: no pattern here can be made to backtrack.
//!
//! One pass over the bytes calls a hand-written scanner where a digit, an at-sign or a colon could begin something; one
//! Aho-Corasick pass (Aho and Corasick, 1975) does so for key words and the prefixes of secrets. Each scanner looks at a bounded
//! window, then checks what it saw (Luhn, mod 97, base58check, a phone length table, entropy, lists of placeholders). A text
//! with escapes or unusual characters is scanned a second time in plain spelling ([`views`]).

mod assign;
mod bytes;
mod checks;
mod fields;
mod network;
mod numbers;
mod rules;
mod secrets;
mod views;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use bytes::{at, before};
use std::sync::LazyLock;

/// A piece of text that should not be seen: byte offsets, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it begins, bytes.
    pub start: usize,
    /// Where it ends, bytes.
    pub end: usize,
    /// What it is: `GLOBAL.EMAIL`, `US.SSN`, `SECRET.github-pat`, `FIELD.password`.
    pub kind: &'static str,
    /// The type its token carries: `EMAIL`, `PHONE`, `SECRET`.
    pub token_type: &'static str,
}

impl Span {
    const fn new(start: usize, end: usize, kind: &'static str, token_type: &'static str) -> Self {
        Self { start, end, kind, token_type }
    }

    /// Lower is more telling, where two spans are equal.
    fn rank(&self) -> u8 {
        match self.kind.as_bytes().first() {
            Some(b'G' | b'U') => 0,
            Some(b'S') => 1,
            _ => 2,
        }
    }
}

type Found = Vec<Span>;

/// The types a token may carry.
pub const TOKEN_TYPES: &[&str] =
    &["EMAIL", "PHONE", "CREDIT_CARD", "IBAN", "IP", "MAC", "CRYPTO", "US_SSN", "SECRET", "PERSONAL"];

/// Finds everything sensitive, in order, without overlaps. Tokens of [`crate::privacy::token`] are left alone.
pub fn detect(text: &str) -> Vec<Span> {
    let mut found = Found::new();
    let odd = scan(text.as_bytes(), &mut found);
    if odd && let Some(view) = views::of(text) {
        let mut inner = Found::new();
        scan(&view.text, &mut inner);
        found.extend(inner.into_iter().map(|span| {
            let (start, end) = view.back(span.start, span.end);
            Span { start, end, ..span }
        }));
    }
    encoded(text.as_bytes(), &mut found);
    if found.is_empty() {
        return found;
    }
    on_characters(text, settle(text, found))
}

/// Runs of base64 whose content holds something are taken whole.
fn encoded(text: &[u8], out: &mut Found) {
    const SHORTEST: usize = 24;
    let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    let mut i = 0;
    while i + SHORTEST <= text.len() {
        // Look at the last byte a run from here would need: most places are ruled out by one look.
        if let Some(gap) = text.get(i..i + SHORTEST).and_then(|window| window.iter().rposition(|b| !part(*b)))
        {
            i += gap + 1;
            continue;
        }
        let end = bytes::run(text, i, 64 << 10, part);
        let run = bytes::slice(text, i, end);
        let mixed = run.iter().any(u8::is_ascii_uppercase) && run.iter().any(u8::is_ascii_lowercase);
        if mixed && let Some(plain) = views::base64(run) {
            let written = plain.iter().all(|b| {
                matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e) || *b >= 0xc2 || (0x80..0xc0).contains(b)
            }) && std::str::from_utf8(&plain).is_ok();
            let mut inner = Found::new();
            if written {
                scan(&plain, &mut inner);
            }
            if !inner.is_empty() {
                let padded = bytes::run(text, end, 2, |b| b == b'=');
                out.push(Span::new(i, padded, "SECRET.encoded", "SECRET"));
            }
        }
        i = end + 1;
    }
}

/// What a sensitive key says of everything below it, where lists and wrappers such as `{"value": …}` lie between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited(fields::Class);

/// What the name of a field says of its value.
pub(super) fn class_of(key: &str) -> Option<Inherited> {
    if key.is_empty() || key.len() > 128 {
        return None;
    }
    let mut segments = Vec::new();
    fields::segments(key.as_bytes(), &mut segments);
    fields::classify(&segments).map(Inherited)
}

/// Whether a field's name only wraps a value.
pub(super) fn wraps(key: &str) -> bool {
    assign::WRAPPERS.iter().any(|w| key.as_bytes().eq_ignore_ascii_case(w))
}

/// Finds everything sensitive in the text of one field. Under a sensitive key that is the whole text, unless it is a mask or a
/// token; a short text is read together with its key, which may say what a number is.
pub(super) fn in_field(key: &str, inherited: Option<Inherited>, text: &str) -> Vec<Span> {
    if let Some(Inherited(class)) = inherited.or_else(|| class_of(key))
        && let Some(span) = assign::whole(class, text)
    {
        let typed = detect(text);
        return match typed.as_slice() {
            [one] if one.start <= span.start && one.end >= span.end => typed,
            _ => settle(text, vec![span]),
        };
    }
    let digits = text.len() <= 64 && text.bytes().filter(u8::is_ascii_digit).take(7).count() == 7;
    if !digits || key.is_empty() || key.len() > 64 {
        return detect(text);
    }
    let told = format!("{}: {text}", key.replace(['_', '-'], " "));
    let from = told.len() - text.len();
    let mut spans = detect(&told);
    spans.retain(|span| span.start >= from);
    spans.iter_mut().for_each(|span| (span.start, span.end) = (span.start - from, span.end - from));
    spans
}

/// Which word an automaton's pattern is.
#[derive(Debug, Clone, Copy)]
enum Word {
    Prefixed(&'static rules::Prefixed),
    Stem,
    Named(&'static rules::Named),
    Pem,
    Jwt,
    Basic,
    Bearer,
    CurlUser,
    GluedOption,
    Segwit(usize),
    Openai,
    Spoken,
}

struct Words {
    automaton: AhoCorasick,
    words: Vec<Word>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut list: Vec<(&str, Word)> = vec![
        ("-----BEGIN", Word::Pem),
        ("ey", Word::Jwt),
        ("basic", Word::Basic),
        ("bearer", Word::Bearer),
        (" -u", Word::CurlUser),
        ("--user", Word::CurlUser),
        (" -p", Word::GluedOption),
        ("bc1", Word::Segwit(2)),
        ("tb1", Word::Segwit(2)),
        ("ltc1", Word::Segwit(3)),
        ("T3BlbkFJ", Word::Openai),
    ];
    list.extend(SPOKEN.iter().map(|word| (*word, Word::Spoken)));
    list.extend(rules::PREFIXED.iter().map(|rule| (rule.prefix, Word::Prefixed(rule))));
    list.extend(fields::STEMS.iter().map(|stem| (*stem, Word::Stem)));
    list.extend(rules::NAMED.iter().map(|rule| (rule.word, Word::Named(rule))));
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(list.iter().map(|(text, _)| text));
    #[expect(
        clippy::expect_used,
        reason = "the patterns are constants; every test of this module builds them"
    )]
    let automaton = automaton.expect("constant patterns build");
    Words { automaton, words: list.into_iter().map(|(_, word)| word).collect() }
});

/// Words for a password in scripts that key names are not written in.
const SPOKEN: &[&str] =
    &["пароль", "密码", "密碼", "パスワード", "비밀번호", "mot de passe", "hasło", "lösenord", "contraseña"];

/// One scan. Returns whether the text holds spellings that a plain view would change.
fn scan(text: &[u8], out: &mut Found) -> bool {
    let odd = marks(text, out);
    let mut keys = assign::Keys::default();
    let words = &*WORDS;
    for hit in words.automaton.find_overlapping_iter(text) {
        let (start, end) = (hit.start(), hit.end());
        match words.words.get(hit.pattern().as_usize()) {
            Some(Word::Stem) => keys.stem(text, start, end, out),
            Some(Word::Prefixed(rule)) => secrets::prefixed(text, start, rule, out),
            Some(Word::Named(rule)) => keys.named(text, start, end, rule, out),
            Some(Word::Pem) => secrets::pem(text, start, out),
            Some(Word::Jwt) => secrets::jwt(text, start, out),
            Some(Word::Basic) => secrets::scheme(text, start, end, true, out),
            Some(Word::Bearer) => secrets::scheme(text, start, end, false, out),
            Some(Word::CurlUser) => secrets::curl_user(text, end, out),
            Some(Word::GluedOption) => secrets::glued_option(text, start, out),
            Some(Word::Segwit(prefix)) => numbers::segwit(text, start, *prefix, out),
            Some(Word::Openai) => secrets::marked(text, start, out),
            Some(Word::Spoken) => assign::spoken(text, end, out),
            None => {}
        }
    }
    odd
}

/// The pass over single bytes.
fn marks(text: &[u8], out: &mut Found) -> bool {
    let mut odd = false;
    let mut i = 0;
    while let Some(b) = text.get(i).copied() {
        i = match b {
            b'0'..=b'9' => {
                network::ipv4(text, i, out).unwrap_or_else(|| numbers::at_digit(text, i, out)).max(i + 1)
            }
            b'@' => {
                network::at_sign(text, i, out);
                i + 1
            }
            b':' => {
                if at(text, i + 1) == b'A' {
                    secrets::telegram(text, i, out);
                }
                network::at_colon(text, i, out).unwrap_or(0).max(i + 1)
            }
            b'-' if at(text, i + 3) == b'-' && i >= 2 => {
                network::mac(text, i - 2, b'-', out).unwrap_or(0).max(i + 1)
            }
            b'.' if before(text, i).is_ascii_hexdigit() && at(text, i + 5) == b'.' => {
                network::mac_dotted(text, i, out).unwrap_or(0).max(i + 1)
            }
            b'~' if before(text, i) == b'Q' => {
                secrets::azure(text, i, out);
                i + 1
            }
            b'|' if before(text, i).is_ascii_digit() => {
                secrets::facebook(text, i, out);
                i + 1
            }
            b'%' | b'=' => {
                odd |= at(text, i + 1).is_ascii_hexdigit() && at(text, i + 2).is_ascii_hexdigit();
                i + 1
            }
            b'&' => {
                odd |= text.get(i..text.len().min(i + 12)).is_some_and(|next| next.contains(&b';'));
                i + 1
            }
            b'\\' => {
                odd |= matches!(at(text, i + 1), b'u' | b'x' | b'/');
                i + 1
            }
            0xc2 | 0xcd | 0xd8..=0xdb | 0xdf..=0xe3 | 0xef | 0xf0 => {
                odd = true;
                i + 1
            }
            _ => i + 1,
        };
    }
    odd
}

/// Makes spans disjoint and ordered: of two that overlap, one swallows the other, so that nothing found is left uncovered.
/// What lies in a token is cut out.
fn settle(text: &str, mut found: Found) -> Found {
    found.retain(|s| s.start < s.end);
    found.sort_by_key(|s| (s.start, std::cmp::Reverse(s.end), s.rank()));
    let mut out: Found = Vec::with_capacity(found.len());
    for span in found {
        match out.last_mut() {
            Some(last) if span.start < last.end => {
                if span.end > last.end {
                    if span.end - span.start > last.end - last.start {
                        (last.kind, last.token_type) = (span.kind, span.token_type);
                    }
                    last.end = span.end;
                }
            }
            _ => out.push(span),
        }
    }
    let tokens = crate::privacy::token::find(text);
    if tokens.is_empty() { out } else { outside(text.as_bytes(), out, &tokens) }
}

/// The parts of spans that lie outside tokens and still hold something.
fn outside(text: &[u8], spans: Found, tokens: &[(usize, usize)]) -> Found {
    let mut out = Vec::with_capacity(spans.len());
    for span in spans {
        let mut from = span.start;
        let keep = |start: usize, end: usize, out: &mut Found| {
            if bytes::slice(text, start, end).iter().filter(|b| b.is_ascii_alphanumeric()).count() >= 3 {
                out.push(Span { start, end, ..span });
            }
        };
        let touched = tokens.iter().filter(|(start, end)| *start < span.end && *end > span.start);
        let mut cut = false;
        for (start, end) in touched {
            cut = true;
            if *start > from {
                keep(from, *start, &mut out);
            }
            from = *end;
        }
        if !cut {
            out.push(span);
        } else if from < span.end {
            keep(from, span.end, &mut out);
        }
    }
    out
}

/// Moves offsets that fell inside a character to its edges.
fn on_characters(text: &str, mut spans: Found) -> Found {
    for span in &mut spans {
        while span.start > 0 && !text.is_char_boundary(span.start) {
            span.start -= 1;
        }
        while span.end < text.len() && !text.is_char_boundary(span.end) {
            span.end += 1;
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(&'static str, String)> {
        detect(text).iter().map(|s| (s.kind, text[s.start..s.end].to_owned())).collect()
    }

    fn one(text: &str, kind: &str, value: &str) {
        assert_eq!(
            kinds(text).iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(),
            [(kind, value)],
            "{text}"
        );
    }

    #[test]
    fn each_kind_is_found_where_it_stands() {
        one("write to ana@example.org today", "GLOBAL.EMAIL", "ana@example.org");
        one("call +49 30 8441 5549.", "GLOBAL.PHONE", "+49 30 8441 5549");
        one("card 4111-1111-1111-1111!", "GLOBAL.CREDIT_CARD", "4111-1111-1111-1111");
        one("iban GB82 WEST 1234 5698 7654 32", "GLOBAL.IBAN", "GB82 WEST 1234 5698 7654 32");
        one("from 203.0.113.7:443", "GLOBAL.IP", "203.0.113.7");
        one("peer 2001:db8::8a2e:370:7334 up", "GLOBAL.IP", "2001:db8::8a2e:370:7334");
        one("mac 00:1A:2B:3C:4D:5E", "GLOBAL.MAC", "00:1A:2B:3C:4D:5E");
        one("ssn 536-22-8731", "US.SSN", "536-22-8731");
        one("to 1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "GLOBAL.CRYPTO", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT");
        let key = format!("ghp_{}", "k3J9xQ2mW7vB5nT1pL8rZ4cH6dF0sGyAeUoi");
        one(&format!("use {key} now"), "SECRET.github-pat", &key);
        one(r#"{"db_password": "river99"}"#, "FIELD.password", "river99");
        one(r#"{\"password\":\"Pa55 w\"}"#, "FIELD.password", "Pa55 w");
        one("diagnosis: major depression\n", "FIELD.personal", "major depression");
        one("{'cvv': {'value': {'value': '152'}}}", "FIELD.code", "152");
        one("the staging password is cobalt-river-24.", "FIELD.password", "cobalt-river-24");
        one("redis://app:s3cretpw@db:6379", "SECRET.url-password", "s3cretpw");
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        for text in [
            "uses: actions/checkout@v4",
            "org.junit:junit@2.9.20",
            "version 10.15.7.2",
            "sub 255.255.255.0",
            "x[1::2] std::cout 12:34:56",
            "MAX_PASSWORD_LENGTH=64 TOKEN_TTL_SECONDS=3600",
            r#"{"password": null, "token": "", "secret": "***"}"#,
            "Authorization: Bearer <token>",
            "I forgot my password, and the token expired. Where is the key?",
            "const KEY = process.env.API_KEY",
            "password: string;",
            "token = get_token()",
            "secret: !vault-ref kv/data/x#password",
            "logo@2x.png",
            "git@github.com:a/b.git",
            "timestamps 1766195672 1766195672123",
            "sha256:7a2dd530cc86fb8811eb0de2e55904e3993a55934e581a3d11e3e0c9086038d3",
            "4111111111111112",
            r#"curl -H "Authorization: Bearer $API_TOKEN""#,
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    #[test]
    fn tokens_are_left_alone_in_any_case_and_under_any_key() {
        for text in [
            "EMAIL_tk_k7f3a9cq2m",
            "see email_tk_k7f3a9cq2m.",
            r#"{"api_key": "US_SSN_tk_phz7yfgxhw"}"#,
            "password=SECRET_tk_am0mq7zfrn",
            "Authorization: Bearer EMAIL_tk_hp738ebwfe",
            r"EMAIL\_tk\_k7f3a9cq2m",
            r#"{"token": "EMAIL_TOKEN_001"}"#,
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
        one(r#"{"password": "EMAIL_tk_k7f3a9cq2m hunter22"}"#, "FIELD.password", " hunter22");
    }

    /// Full-width, zero-width and look-alike characters; digits of other scripts.
    #[test]
    fn stride_i28() {
        one(
            "card ４１１１１１１１１１１１１１１１ ok",
            "GLOBAL.CREDIT_CARD",
            "４１１１１１１１１１１１１１１１",
        );
        one("mail ana＠example。org", "GLOBAL.EMAIL", "ana＠example。org");
        one("mail ana\u{200b}lu@example.org", "GLOBAL.EMAIL", "ana\u{200b}lu@example.org");
        one("ssn 536\u{2011}22\u{2011}8731", "US.SSN", "536\u{2011}22\u{2011}8731");
        one(
            "card 4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "GLOBAL.CREDIT_CARD",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        );
        one("card ٤١١١١١١١١١١١١١١١", "GLOBAL.CREDIT_CARD", "٤١١١١١١١١١١١١١١١");
        one("邮箱ana@example.org谢谢", "GLOBAL.EMAIL", "ana@example.org");
    }

    /// Percent, entity, JSON, quoted-printable and base64 spellings, also one inside another.
    #[test]
    fn stride_i30() {
        one("?m=ana%40example.org&x", "GLOBAL.EMAIL", "ana%40example.org");
        one("?m=ana%2540example.org&x", "GLOBAL.EMAIL", "ana%2540example.org");
        one("<a>ana&#46;b&#x40;example&period;org</a>", "GLOBAL.EMAIL", "ana&#46;b&#x40;example&period;org");
        one(r#"{"m":"ana\u0040example.org"}"#, "GLOBAL.EMAIL", r"ana\u0040example.org");
        one("ana.b=40example.org=\n", "GLOBAL.EMAIL", "ana.b=40example.org");
        one("redis%3A%2F%2Fapp%3Acedar2024%21%40db", "SECRET.url-password", "cedar2024%21");
        one(
            "Authorization: Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "SECRET.basic-auth",
            "YWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        );
    }

    /// Nanoseconds this thread has spent on a processor: other work on the machine does not count.
    fn spent() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    /// Hostile texts cost time in proportion to their length.
    #[test]
    fn stride_d21() {
        for unit in [
            "a@",
            "1",
            "key=",
            "password: \"",
            "4 ",
            "::",
            "eyJaaaaaaaaaaaaaaaa.",
            "token=[[",
            "&#64;",
            "http://a:b",
            "token is ",
        ] {
            let time = |n: usize| {
                let text = unit.repeat(n / unit.len());
                let run = || {
                    let start = spent();
                    detect(&text);
                    spent() - start
                };
                (0..3).map(|_| run()).min().unwrap()
            };
            let (small, large) = (time(10_000).max(2_000_000), time(100_000));
            assert!(large < small * 40, "{unit}: {small} ns for 10 kB, {large} ns for 100 kB");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_ordered_disjoint_spans_on_characters(text in "(?s).{0,200}") {
            let spans = detect(&text);
            for pair in spans.windows(2) {
                proptest::prop_assert!(pair[0].end <= pair[1].start);
            }
            for span in spans {
                proptest::prop_assert!(text.get(span.start..span.end).is_some_and(|s| !s.is_empty()));
            }
        }
    }
}
