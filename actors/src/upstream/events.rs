//! An event stream, byte by byte, in constant memory: what is short passes as it is, and an event whose data is a long message is
//! replaced by one with a short message in its place.

use super::scan::Scanner;
use super::spool::{INLINE_MAX, Spools};

/// What is kept of the other fields of a long event, bytes; its id is one of them.
const OTHERS_MAX: usize = 4 << 10;
/// The longest name of a field that is told from another, bytes.
const FIELD_MAX: usize = 8;

/// A stream of events on its way through.
#[derive(Debug)]
pub(super) struct Events {
    spools: Spools,
    /// The event so far, as long as it is short; its lines end in `\n`, however they came.
    held: Vec<u8>,
    long: Option<Long>,
    /// Bytes of the current line so far.
    line: u64,
    /// Bytes of the current event so far.
    bytes: u64,
    /// The last line ended in `\r`, of which a `\n` may be the other half.
    half: bool,
    over: bool,
}

/// An event that is not held.
#[derive(Debug, Default)]
struct Long {
    scanner: Scanner,
    /// Its other fields.
    others: Vec<u8>,
    /// The current line's field, until its name is known.
    field: Vec<u8>,
    kind: Kind,
    /// Lines of data so far.
    lines: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// Not known yet.
    #[default]
    Name,
    /// Data, whose first space does not count.
    Begun,
    Data,
    Other,
}

impl Events {
    /// A stream whose long messages are kept in `spools`.
    pub(super) fn new(spools: Spools) -> Self {
        Self { spools, held: Vec::new(), long: None, line: 0, bytes: 0, half: false, over: false }
    }

    /// Whether nothing more is read of the stream, at its end or before.
    pub(super) fn over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes; gives what of them is to be passed on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() && !self.over {
            if std::mem::take(&mut self.half) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', rest);
            let (piece, tail) = rest.split_at(end.unwrap_or(rest.len()));
            self.piece(piece);
            if self.bytes > self.spools.largest() {
                self.over = true;
                passed.append(&mut self.ended());
            }
            if let Some((&mark, after)) = tail.split_first() {
                self.half = mark == b'\r';
                rest = after;
                if !self.over && self.end_of_line() {
                    passed.append(&mut self.ended());
                }
            } else {
                rest = tail;
            }
        }
        passed
    }

    /// What is left when the stream ends, perhaps in the middle of an event.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        if self.over {
            return Vec::new();
        }
        let rest = if self.long.is_some() { self.ended() } else { std::mem::take(&mut self.held) };
        self.over = true;
        rest
    }

    fn piece(&mut self, piece: &[u8]) {
        self.line += piece.len() as u64;
        self.bytes += piece.len() as u64;
        if let Some(long) = &mut self.long {
            long.feed(piece);
            return;
        }
        self.held.extend_from_slice(piece);
        if self.held.len() > INLINE_MAX {
            let mut long = Long::default();
            let held = std::mem::take(&mut self.held);
            for (at, line) in held.split(|byte| *byte == b'\n').enumerate() {
                if at > 0 {
                    long.end_of_line();
                }
                long.feed(line);
            }
            self.long = Some(long);
        }
    }

    /// Whether that was the end of an event.
    fn end_of_line(&mut self) -> bool {
        if std::mem::take(&mut self.line) == 0 {
            return true;
        }
        match &mut self.long {
            Some(long) => long.end_of_line(),
            None => self.held.push(b'\n'),
        }
        false
    }

    /// What is passed on of the event that ended.
    fn ended(&mut self) -> Vec<u8> {
        self.bytes = 0;
        let Some(long) = self.long.take() else {
            let mut event = std::mem::take(&mut self.held);
            event.push(b'\n');
            return event;
        };
        let mut event = long.others;
        let short = if self.over {
            let why = format!("an answer has at most {} MiB", self.spools.largest() >> 20);
            long.scanner.failed(&why)
        } else {
            long.scanner.stand_in(&self.spools)
        };
        if let Some(short) = short {
            event.extend_from_slice(b"data: ");
            event.extend_from_slice(&short);
            event.push(b'\n');
        }
        event.push(b'\n');
        event
    }
}

impl Long {
    fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if self.kind == Kind::Name {
            for (at, byte) in piece.iter().enumerate() {
                if *byte == b':' {
                    self.kind = if self.field == b"data" { Kind::Begun } else { Kind::Other };
                } else if self.field.len() < FIELD_MAX {
                    self.field.push(*byte);
                    continue;
                } else {
                    self.kind = Kind::Other;
                }
                rest = piece.get(at..).unwrap_or_default();
                break;
            }
            match self.kind {
                Kind::Name => return,
                Kind::Begun => {
                    if self.lines > 0 {
                        self.scanner.feed(b"\n");
                    }
                    self.lines += 1;
                    rest = rest.get(1..).unwrap_or_default();
                }
                Kind::Other | Kind::Data => {
                    let field = std::mem::take(&mut self.field);
                    self.other(&field);
                }
            }
        }
        if self.kind == Kind::Begun && !rest.is_empty() {
            self.kind = Kind::Data;
            rest = rest.strip_prefix(b" ").unwrap_or(rest);
        }
        match self.kind {
            Kind::Data => self.scanner.feed(rest),
            Kind::Other => self.other(rest),
            Kind::Name | Kind::Begun => {}
        }
    }

    fn end_of_line(&mut self) {
        if self.kind == Kind::Other {
            self.other(b"\n");
        }
        self.field.clear();
        self.kind = Kind::Name;
    }

    /// Other fields are kept as long as they are short: half a line would be another field.
    fn other(&mut self, bytes: &[u8]) {
        if self.others.len() + bytes.len() <= OTHERS_MAX {
            self.others.extend_from_slice(bytes);
        } else if self.others.last() != Some(&b'\n') {
            let whole = self.others.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.others.truncate(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::SPOOL_KEY;
    use super::*;
    use serde_json::{Value, json};

    fn through(events: &mut Events, text: &[u8], chunk: usize) -> String {
        let passed: Vec<u8> = text.chunks(chunk).flat_map(|chunk| events.feed(chunk)).collect();
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn short_events_pass_however_their_lines_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "id: 1\nevent: message\ndata: {\"a\":\ndata: 1}\n\n: ping\n\ndata: 2\n\n";
            for chunk in [1, 2, 1_000] {
                let mut events = Events::new(Spools::default());
                let passed = through(&mut events, text.replace('\n', end).as_bytes(), chunk);
                assert_eq!(passed, text, "{end:?} {chunk}");
                assert!(events.rest().is_empty());
            }
        }
    }

    #[test]
    fn a_long_message_becomes_a_short_one_and_its_neighbours_pass() {
        let text = "x".repeat(INLINE_MAX);
        let pretty = serde_json::to_string_pretty(
            &json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": text}]}}),
        );
        let data: String = pretty.unwrap().lines().map(|line| format!("data: {line}\r\n")).collect();
        let all = format!("data: before\r\n\r\nid: 3\r\n{data}event: message\r\n\r\ndata: after\r\n\r\n");
        for chunk in [977, 1 << 20] {
            let spools = Spools::default();
            let passed = through(&mut Events::new(spools.clone()), all.as_bytes(), chunk);
            let (before, rest) = passed.split_once("\n\n").unwrap();
            let (long, after) = rest.split_once("\n\n").unwrap();
            assert_eq!((before, after), ("data: before", "data: after\n\n"));
            let short = long.strip_prefix("id: 3\nevent: message\ndata: ").unwrap();
            let short: Value = serde_json::from_str(short).unwrap();
            let handle = short["result"]["_meta"][SPOOL_KEY].as_str().unwrap();
            assert_eq!(spools.size(handle), Some(text.len() as u64));
        }
    }

    #[test]
    fn an_event_that_the_stream_s_end_cuts_short_is_not_lost() {
        let mut events = Events::new(Spools::default());
        assert!(events.feed(b"data: {\"a\": 1}\n").is_empty());
        assert_eq!(events.rest(), b"data: {\"a\": 1}\n");
        assert!(events.rest().is_empty());
    }

    #[test]
    fn what_never_ends_is_read_no_further_and_who_waits_is_told() {
        let spools = Spools::holding(16 << 20);
        let mut events = Events::new(spools);
        let mut passed =
            events.feed(b"data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"text\":\"");
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            passed.append(&mut events.feed(&piece));
        }
        let passed = String::from_utf8(passed).unwrap();
        assert!(
            events.over() && passed.contains("at most 16 MiB") && passed.contains("\"id\":7"),
            "{passed}"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_passes_unharmed(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), chunk in 1_usize..9) {
            let whole = Events::new(Spools::default()).feed(&bytes);
            let mut events = Events::new(Spools::default());
            let parts: Vec<u8> = bytes.chunks(chunk).flat_map(|chunk| events.feed(chunk)).collect();
            proptest::prop_assert_eq!(whole, parts);
        }
    }
}
