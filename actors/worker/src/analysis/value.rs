//! What is known of a value without running anything: constants, folded texts, paths from globals and modules.

/// A value as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(f64),
    List(Vec<Value>),
    /// Something reached from a free name or a module: `process.env`, `athena.semantic.search`.
    Path(Vec<String>),
    /// A function written here.
    Function,
    /// What makes functions: the `constructor` of one.
    Maker,
    /// The global object itself.
    Global,
    /// A constant of no further interest.
    Constant,
    Unknown,
}

/// A value, and whether it holds what the house remembers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) value: Value,
    /// Whether remembered data is in it.
    pub(super) private: bool,
    /// Whether it came from outside the code and the house.
    pub(super) foreign: bool,
}

impl From<Value> for Seen {
    fn from(value: Value) -> Self {
        Self { value, private: false, foreign: false }
    }
}

impl Seen {
    pub(super) fn unknown() -> Self {
        Value::Unknown.into()
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn with(mut self, other: &Self) -> Self {
        self.private |= other.private;
        self.foreign |= other.foreign;
        self
    }
}

/// The longest text folding makes, bytes.
const LONGEST: usize = 16 << 10;

/// The text of a value, where it has one that can be joined.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(n) => Some(if n.fract() == 0.0 { format!("{n:.0}") } else { n.to_string() }),
        _ => None,
    }
}

/// A method of a known text or list, folded.
pub(super) fn method(object: &Value, name: &str, args: &[Value]) -> Option<Value> {
    let text = |i: usize| match args.get(i) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let number = |i: usize| match args.get(i) {
        Some(Value::Number(n)) => Some(*n),
        _ => None,
    };
    match object {
        Value::Text(own) => {
            if own.len() > LONGEST {
                return None;
            }
            let out = match name {
                "concat" => args.iter().try_fold(own.clone(), |all, arg| Some(all + &as_text(arg)?))?,
                "toLowerCase" | "lower" | "toLocaleLowerCase" | "casefold" => own.to_lowercase(),
                "toUpperCase" | "upper" | "toLocaleUpperCase" => own.to_uppercase(),
                "trim" | "strip" | "toString" | "valueOf" | "normalize" | "decode" | "encode" | "trimEnd"
                | "trimStart" | "lstrip" | "rstrip" => own.trim().to_owned(),
                "replace" | "replaceAll" => own.replace(text(0)?, text(1)?),
                "join" => match args.first()? {
                    Value::List(items) => items.iter().map(as_text).collect::<Option<Vec<_>>>()?.join(own),
                    Value::Text(letters) => letters.chars().map(String::from).collect::<Vec<_>>().join(own),
                    _ => return None,
                },
                "split" => {
                    let by = text(0).unwrap_or(" ");
                    let parts: Vec<Value> = if by.is_empty() {
                        own.chars().map(|c| Value::Text(c.into())).collect()
                    } else {
                        own.split(by).map(|p| Value::Text(p.into())).collect()
                    };
                    return Some(Value::List(parts));
                }
                "slice" | "substring" | "substr" => {
                    let letters: Vec<char> = own.chars().collect();
                    let at = |n: f64| {
                        if n < 0.0 {
                            letters.len().saturating_sub(-n as usize)
                        } else {
                            (n as usize).min(letters.len())
                        }
                    };
                    let start = at(number(0)?);
                    let end = match number(1) {
                        Some(n) if name == "substr" => (start + n as usize).min(letters.len()),
                        Some(n) => at(n),
                        None => letters.len(),
                    };
                    letters.get(start..end.max(start)).unwrap_or(&[]).iter().collect()
                }
                "charAt" | "at" => own.chars().nth(number(0)? as usize)?.to_string(),
                "repeat" if number(0)? * own.len() as f64 <= LONGEST as f64 => {
                    own.repeat(number(0)? as usize)
                }
                "reverse" => own.chars().rev().collect(),
                "padStart" | "padEnd" | "format" => own.clone(),
                _ => return None,
            };
            Some(Value::Text(out))
        }
        Value::List(items) => match name {
            "join" => {
                let by = text(0).unwrap_or(",");
                Some(Value::Text(items.iter().map(as_text).collect::<Option<Vec<_>>>()?.join(by)))
            }
            "reverse" | "toReversed" => Some(Value::List(items.iter().rev().cloned().collect())),
            "at" | "pop" => items.last().cloned(),
            "concat" => Some(Value::List(items.iter().chain(args).cloned().collect())),
            "slice" => Some(Value::List(items.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// Functions that only spell a text in another way, folded.
pub(super) fn function(path: &[String], args: &[Value]) -> Option<Value> {
    let joined = path.join(".");
    let text = || match args.first() {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let out = match joined.as_str() {
        "atob"
        | "base64.b64decode"
        | "base64.urlsafe_b64decode"
        | "base64.standard_b64decode"
        | "base64.decodebytes"
        | "b64decode" => base64(text()?)?,
        "Buffer.from" => match args.get(1) {
            Some(Value::Text(kind)) if kind.starts_with("base64") => base64(text()?)?,
            Some(Value::Text(kind)) if kind == "hex" => hex(text()?)?,
            _ => text()?.to_owned(),
        },
        "bytes.fromhex" | "binascii.unhexlify" | "bytearray.fromhex" => hex(text()?)?,
        "codecs.decode" => match args.get(1) {
            Some(Value::Text(kind)) if kind.contains("13") => rot13(text()?),
            Some(Value::Text(kind)) if kind.starts_with("hex") => hex(text()?)?,
            Some(Value::Text(kind)) if kind.starts_with("base64") => base64(text()?)?,
            _ => text()?.to_owned(),
        },
        "decodeURIComponent" | "decodeURI" | "unescape" | "urllib.parse.unquote" | "unquote" => {
            percent(text()?)
        }
        "String.fromCharCode" | "String.fromCodePoint" => letters(args)?,
        "chr" => letters(args)?,
        "bytes" | "bytearray" => match args.first()? {
            Value::List(items) => letters(items)?,
            other => as_text(other)?,
        },
        "String" | "str" | "String.raw" | "repr" => as_text(args.first()?)?,
        "map" => match args {
            // `''.join(map(chr, [...]))`
            [Value::Path(f), Value::List(items)] if f.join(".") == "chr" => letters(items)?,
            _ => return None,
        },
        "reversed" => match args.first()? {
            Value::Text(text) => text.chars().rev().collect(),
            Value::List(items) => return Some(Value::List(items.iter().rev().cloned().collect())),
            _ => return None,
        },
        "list" | "tuple" | "Array.from" | "iter" => {
            return args.first().map(|value| match value {
                Value::Text(text) => Value::List(text.chars().map(|c| Value::Text(c.into())).collect()),
                other => other.clone(),
            });
        }
        _ => return None,
    };
    Some(Value::Text(out))
}

fn letters(numbers: &[Value]) -> Option<String> {
    (!numbers.is_empty())
        .then(|| {
            numbers
                .iter()
                .map(|n| match n {
                    Value::Number(n) => char::from_u32(*n as u32),
                    _ => None,
                })
                .collect()
        })
        .flatten()
}

fn base64(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let (mut bits, mut have) = (0_u32, 0);
    for b in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
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
    String::from_utf8(out).ok()
}

fn hex(text: &str) -> Option<String> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    String::from_utf8(
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |sum, d| sum * 16 + *d) as u8).collect(),
    )
    .ok()
}

fn rot13(text: &str) -> String {
    let turn = |c: char, base: u8| char::from((c as u8 - base + 13) % 26 + base);
    text.chars()
        .map(|c| match c {
            'a'..='z' => turn(c, b'a'),
            'A'..='Z' => turn(c, b'A'),
            other => other,
        })
        .collect()
}

fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(b) = bytes.get(i) {
        let code = (*b == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(*b));
        i += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}
