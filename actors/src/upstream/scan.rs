//! Reads a JSON-RPC answer of any length in constant memory: its id, whether it is an error, and the text of its content.
//!
//! Used only for messages beyond [`INLINE_MAX`], which are never held in memory. It follows the
//! structure (strings, depth, keys) and checks nothing else.

use super::spool::{INLINE_MAX, SPOOL_KEY, Spools, Writer};
use serde_json::{Value, json};

/// Levels whose keys are remembered; the texts looked for lie at the fourth.
const LEVELS: usize = 6;
/// The longest key that is remembered, and the longest id.
const WORD_MAX: usize = 128;

/// What a long answer was.
#[derive(Debug)]
pub struct Scanned {
    /// Its id, as JSON.
    pub id: Option<String>,
    /// Whether the tool said it failed.
    pub is_error: bool,
    /// Whether it has its end.
    pub whole: bool,
    /// The text of its content; where it has none, its structured content as JSON.
    pub text: Option<std::io::Result<Writer>>,
    /// The beginning of that text.
    pub head: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Between,
    Key,
    Text,
    Escape,
    Unicode(u8),
    Scalar,
}

/// The scanner: fed with chunks, asked at the end.
#[derive(Debug)]
pub struct Scanner {
    /// Of each level, whether it is an object, and its current key.
    levels: Vec<(bool, Vec<u8>)>,
    depth: usize,
    mode: Mode,
    expects_key: bool,
    in_key: bool,
    word: Vec<u8>,
    unicode: u16,
    surrogate: Option<u16>,
    id: Option<String>,
    is_error: bool,
    content: Option<Writer>,
    structured: Option<Writer>,
    head: Vec<u8>,
    texts: usize,
    failed: Option<std::io::Error>,
}

/// The beginning that is kept in memory, bytes.
const HEAD_MAX: usize = 2_000;

impl Default for Scanner {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            depth: 0,
            mode: Mode::Between,
            expects_key: false,
            in_key: false,
            word: Vec::new(),
            unicode: 0,
            surrogate: None,
            id: None,
            is_error: false,
            content: None,
            structured: None,
            head: Vec::new(),
            texts: 0,
            failed: None,
        }
    }
}

impl Scanner {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            // What lies inside `result.structuredContent` is kept as it is, until there is text.
            let raw = self.depth >= 2 && self.texts == 0 && self.at(&["result", "structuredContent"]);
            // Within a string, everything up to its end or the next escape goes in one piece.
            if matches!(self.mode, Mode::Key | Mode::Text) {
                let run = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                let (piece, after) = rest.split_at(run);
                if run > 0 {
                    if raw {
                        keep(&mut self.structured, &mut self.failed, piece);
                    }
                    self.put(piece);
                    rest = after;
                    continue;
                }
            }
            if raw {
                let opening = self.mode == Mode::Between && self.structured.is_none();
                if !(opening && matches!(byte, b':' | b' ' | b'\n' | b'\r' | b'\t')) && !self.closes(byte) {
                    keep(&mut self.structured, &mut self.failed, &[byte]);
                }
            }
            self.step(byte);
            rest = tail;
        }
    }

    /// What it was.
    pub fn finish(mut self) -> Scanned {
        let cut = std::str::from_utf8(&self.head).map_or_else(|error| error.valid_up_to(), str::len);
        self.head.truncate(cut);
        Scanned {
            id: self.id,
            is_error: self.is_error,
            whole: self.depth == 0,
            text: self.failed.map(Err).or_else(|| self.content.or(self.structured).map(Ok)),
            head: String::from_utf8_lossy(&self.head).into_owned(),
        }
    }

    /// A short answer in place of a long one, whose text is kept in `spools`; nothing where nobody waits for it.
    pub fn stand_in(self, spools: &Spools) -> Option<Vec<u8>> {
        let mut scanned = self.finish();
        let id: Value = serde_json::from_str(scanned.id.as_deref()?).ok()?;
        if !scanned.whole {
            return Some(failure(&id, "the answer ends in the middle").to_string().into_bytes());
        }
        let kept = scanned.text.take().map(|writer| writer.and_then(|writer| spools.keep(writer)));
        let answer = match kept {
            Some(Ok(handle)) => json!({"jsonrpc": "2.0", "id": id, "result": {
                "content": [{"type": "text", "text": scanned.head}], "isError": scanned.is_error, "_meta": {SPOOL_KEY: handle}}}),
            Some(Err(error)) => {
                failure(&id, &format!("an answer of more than {INLINE_MAX} bytes could not be kept: {error}"))
            }
            None => failure(&id, &format!("the answer has more than {INLINE_MAX} bytes and no text")),
        };
        Some(answer.to_string().into_bytes())
    }

    /// An answer that says why there is none, in place of one that is dropped.
    pub fn failed(self, why: &str) -> Option<Vec<u8>> {
        let id: Value = serde_json::from_str(self.finish().id.as_deref()?).ok()?;
        Some(failure(&id, why).to_string().into_bytes())
    }

    /// Whether `byte` ends the object that holds `structuredContent`, or starts its next field.
    fn closes(&self, byte: u8) -> bool {
        self.depth == 2 && self.mode == Mode::Between && matches!(byte, b',' | b'}')
    }

    fn at(&self, path: &[&str]) -> bool {
        path.iter().enumerate().all(|(level, key)| {
            self.levels.get(level).is_some_and(|(object, current)| *object && current == key.as_bytes())
        })
    }

    /// Whether the current string is `result.content[].text`.
    fn in_text(&self) -> bool {
        self.depth == 4
            && self.at(&["result", "content"])
            && self.levels.get(3).is_some_and(|(_, key)| key == b"text")
    }

    fn step(&mut self, byte: u8) {
        match self.mode {
            Mode::Between => self.between(byte),
            Mode::Scalar => {
                if matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                    self.end_of_scalar();
                    self.between(byte);
                } else {
                    self.remember(byte);
                }
            }
            Mode::Key | Mode::Text => match byte {
                b'"' => self.end_of_string(),
                b'\\' => self.mode = Mode::Escape,
                _ => self.put(&[byte]),
            },
            Mode::Escape => self.escape(byte),
            Mode::Unicode(left) => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0) as u16;
                self.unicode = (self.unicode << 4) | digit;
                match left {
                    1 => self.end_of_unicode(),
                    left => self.mode = Mode::Unicode(left - 1),
                }
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth <= LEVELS {
                    self.levels.push((byte == b'{', Vec::new()));
                }
                self.expects_key = byte == b'{';
            }
            b'}' | b']' => {
                if self.depth <= LEVELS {
                    self.levels.pop();
                }
                self.depth = self.depth.saturating_sub(1);
                self.expects_key = false;
            }
            b',' => {
                self.expects_key = self.depth > LEVELS;
                if let (Some((true, key)), true) = (self.levels.last_mut(), self.depth <= LEVELS) {
                    key.clear();
                    self.expects_key = true;
                }
            }
            b':' => self.expects_key = false,
            b'"' => {
                self.in_key = self.expects_key && self.depth <= LEVELS;
                self.mode = if self.in_key { Mode::Key } else { Mode::Text };
                self.word.clear();
                if !self.in_key && self.in_text() {
                    if self.texts > 0 {
                        keep(&mut self.content, &mut self.failed, b"\n");
                    }
                    self.texts += 1;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                self.mode = Mode::Scalar;
                self.word.clear();
                self.remember(byte);
            }
        }
    }

    fn escape(&mut self, byte: u8) {
        self.mode = if self.in_key { Mode::Key } else { Mode::Text };
        match byte {
            b'u' => {
                self.unicode = 0;
                self.mode = Mode::Unicode(4);
            }
            b'n' => self.put(b"\n"),
            b't' => self.put(b"\t"),
            b'r' => self.put(b"\r"),
            b'b' => self.put(&[8]),
            b'f' => self.put(&[12]),
            other => self.put(&[other]),
        }
    }

    fn end_of_unicode(&mut self) {
        self.mode = if self.in_key { Mode::Key } else { Mode::Text };
        let unit = self.unicode;
        let code = match (self.surrogate.take(), unit) {
            (None, 0xd800..=0xdbff) => {
                self.surrogate = Some(unit);
                return;
            }
            (Some(high), 0xdc00..=0xdfff) => {
                0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00)
            }
            (_, unit) => u32::from(unit),
        };
        let mut buffer = [0; 4];
        let text = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut buffer).len();
        let bytes = buffer;
        self.put(bytes.get(..text).unwrap_or_default());
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.in_key || self.depth == 1 {
            let room = WORD_MAX.saturating_sub(self.word.len());
            self.word.extend(bytes.iter().take(room));
        } else if self.in_text() {
            let room = HEAD_MAX.saturating_sub(self.head.len());
            self.head.extend(bytes.iter().take(room));
            keep(&mut self.content, &mut self.failed, bytes);
        }
    }

    fn remember(&mut self, byte: u8) {
        if self.word.len() < WORD_MAX {
            self.word.push(byte);
        }
    }

    fn end_of_string(&mut self) {
        self.mode = Mode::Between;
        self.surrogate = None;
        if self.in_key {
            let word = std::mem::take(&mut self.word);
            if let Some((_, key)) = self.levels.last_mut() {
                *key = word;
            }
            self.in_key = false;
        } else if self.depth == 1 && self.at(&["id"]) {
            self.id = serde_json::to_string(&String::from_utf8_lossy(&self.word)).ok();
        }
    }

    fn end_of_scalar(&mut self) {
        self.mode = Mode::Between;
        let word = String::from_utf8_lossy(&self.word).into_owned();
        if self.depth == 1 && self.at(&["id"]) {
            self.id = word.parse::<i64>().ok().map(|id| id.to_string());
        } else if self.depth == 2 && self.at(&["result", "isError"]) {
            self.is_error = word == "true";
        }
    }
}

fn failure(id: &Value, why: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": why}})
}

fn keep(writer: &mut Option<Writer>, failed: &mut Option<std::io::Error>, bytes: &[u8]) {
    if failed.is_some() {
        return;
    }
    let written = match writer {
        Some(writer) => writer.write(bytes),
        None => Writer::open().and_then(|fresh| writer.insert(fresh).write(bytes)),
    };
    *failed = written.err();
}

#[cfg(test)]
mod tests {
    use super::super::spool::Spools;
    use super::*;

    fn scan(text: &str, chunk: usize) -> (Scanned, String) {
        let mut scanner = Scanner::default();
        text.as_bytes().chunks(chunk).for_each(|chunk| scanner.feed(chunk));
        let mut scanned = scanner.finish();
        let spools = Spools::default();
        let all = scanned.text.take().map(|writer| {
            let handle = spools.keep(writer.unwrap()).unwrap();
            spools.slice(&handle, 0, 1 << 20).unwrap().text
        });
        (scanned, all.unwrap_or_default())
    }

    #[test]
    fn the_text_of_an_answer_is_found_wherever_its_id_stands() {
        let text = "line\n\"quoted\" \\ é 😀 \u{1}";
        let result = json!({"_meta": {"id": 9, "text": "no"}, "content": [{"type": "text", "text": text}, {"text": "two", "annotations": {"text": "no"}}], "isError": true});
        for answer in [
            json!({"jsonrpc": "2.0", "id": 7, "result": result}),
            json!({"result": result, "id": 7, "jsonrpc": "2.0"}),
        ] {
            for chunk in [1, 3, 1000] {
                let (scanned, all) = scan(&answer.to_string(), chunk);
                assert_eq!(scanned.id.as_deref(), Some("7"));
                assert!(scanned.is_error);
                assert_eq!(all, format!("{text}\ntwo"));
                assert!(scanned.head.starts_with("line"));
            }
        }
        let escaped = r#"{"id":"a","result":{"content":[{"text":"\ud83d\ude00\u00e9"}]}}"#;
        let (scanned, all) = scan(escaped, 1);
        assert_eq!((scanned.id.as_deref(), all.as_str()), (Some("\"a\""), "😀é"));
    }

    #[test]
    fn an_answer_that_ends_in_the_middle_is_none() {
        let text = json!({"id": 1, "result": {"content": [{"type": "text", "text": "words"}]}}).to_string();
        let short = |text: &str| {
            let mut scanner = Scanner::default();
            scanner.feed(text.as_bytes());
            serde_json::from_slice::<Value>(&scanner.stand_in(&Spools::default()).unwrap()).unwrap()
        };
        assert_eq!(short(&text)["result"]["content"][0]["text"], "words");
        for end in [1, 4, 20] {
            let cut = short(&text[..text.len() - end]);
            assert!(cut["error"]["message"].as_str().unwrap().contains("in the middle"), "{cut}");
        }
    }

    #[test]
    fn structured_content_stands_in_where_there_is_no_text() {
        let structured = json!({"a": [1, {"b": "x,}"}], "c": null});
        let (_, all) = scan(
            &json!({"id": 1, "result": {"structuredContent": structured, "isError": false}}).to_string(),
            2,
        );
        assert_eq!(serde_json::from_str::<Value>(&all).unwrap(), structured);
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(text in proptest::prelude::any::<String>(), chunk in 1_usize..9) {
            let (_, all) = scan(&json!({"id": 1, "result": {"content": [{"type": "text", "text": text}]}}).to_string(), chunk);
            proptest::prop_assert_eq!(all, text);
        }

        #[test]
        fn garbage_harms_nothing(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let mut scanner = Scanner::default();
            scanner.feed(&bytes);
            let _ = scanner.finish();
        }
    }
}
