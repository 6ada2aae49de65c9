//! What a command says: data to stdout, everything else to stderr, and no control character that came from data reaches a
//! terminal.

use athena_schemas::refusal::Refusal;
use comfy_table::{Table, presets};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How a command speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON: one value, or one a line for lists.
    pub(crate) json: bool,
    /// Tables as tab-separated lines.
    pub(crate) plain: bool,
    /// Colours on stdout.
    pub(crate) color: bool,
    /// Nothing on stderr but errors.
    pub(crate) quiet: bool,
}

impl Output {
    /// One value: JSON on a line with `--json`, else as `text` says it.
    pub(crate) fn value(&self, value: &Value, text: impl FnOnce(&Value) -> String) -> io::Result<()> {
        if self.json { self.json_line(value) } else { self.text(&text(value)) }
    }

    /// A list: a JSON value a line with `--json`, else a table.
    pub(crate) fn rows(
        &self,
        values: &[Value],
        columns: &[&str],
        cells: impl Fn(&Value) -> Vec<String>,
    ) -> io::Result<()> {
        if self.json {
            return values.iter().try_for_each(|value| self.json_line(value));
        }
        let rows = values.iter().map(|value| cells(value).iter().map(|cell| one_line(cell)).collect());
        if self.plain {
            return rows.map(|row: Vec<String>| row.join("\t")).try_for_each(|line| self.text(&line));
        }
        if values.is_empty() {
            self.note("nothing found");
            return Ok(());
        }
        self.text(&table(columns, rows))
    }

    /// A JSON value on one line.
    pub(crate) fn json_line(&self, value: &Value) -> io::Result<()> {
        put(&format!("{}\n", escape_json(&value.to_string())))
    }

    /// Lines of text, control characters spelt out.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        put(&format!("{}\n", escape(text)))
    }

    /// Text of our own with our own colours in it; what came from data must have been escaped.
    pub(crate) fn painted(&self, text: &str) -> io::Result<()> {
        put(&format!("{text}\n"))
    }

    /// Something to know that is not data.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", escape(text));
        }
    }

    /// Why a command failed: the error object with `--json`, else what happened and what to try.
    pub(crate) fn refusal(&self, refusal: &Refusal) {
        let text = if self.json {
            serde_json::to_string(refusal).map(|text| escape_json(&text)).unwrap_or_default()
        } else {
            let code = serde_json::to_value(refusal.code).unwrap_or_default();
            let mut text =
                format!("error[{}]: {}", code.as_str().unwrap_or("internal"), escape(&refusal.message));
            if let Some(path) = &refusal.path {
                let _ = write!(text, "\n  at:  {}", escape(path));
            }
            if !refusal.hint.is_empty() {
                let _ = write!(text, "\n  try: {}", escape(&refusal.hint));
            }
            text
        };
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A spinner on stderr for long work; nothing where stderr is no terminal, or with `--quiet` or `--json`.
    pub(crate) fn progress(&self, what: &'static str) -> Progress {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return Progress(indicatif::ProgressBar::hidden());
        }
        let bar = indicatif::ProgressBar::new_spinner();
        if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar.with_message(what))
    }

    /// How far long work has come, with its total: a bar on a terminal, a JSON object a line where stderr is none or with
    /// `--json`, nothing with `--quiet`.
    pub(crate) fn bar(&self, what: &'static str) -> Bar {
        if self.quiet {
            return Bar { what, form: Form::Silent };
        }
        if self.json || !io::stderr().is_terminal() {
            return Bar { what, form: Form::Lines(Instant::now() + LINE_EVERY) };
        }
        let bar = indicatif::ProgressBar::new(0);
        let form = "{msg} {wide_bar} {percent:>3} % {human_pos}/{human_len} {eta}";
        if let Ok(style) = indicatif::ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Bar { what, form: Form::Drawn(Progress(bar.with_message(what))) }
    }

    /// `text` in a style, where colours are wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.color { format!("\u{1b}[{}m{text}\u{1b}[0m", style.code()) } else { text.to_owned() }
    }
}

/// Long work, shown while it lasts.
pub(crate) struct Progress(indicatif::ProgressBar);

impl Progress {
    /// It is over, and goes from the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How often a line says how far work has come.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Long work whose total is known.
pub(crate) struct Bar {
    what: &'static str,
    form: Form,
}

enum Form {
    Drawn(Progress),
    /// When the next line is due.
    Lines(Instant),
    Silent,
}

impl Bar {
    /// It has come so far.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        match &mut self.form {
            Form::Silent => {}
            Form::Drawn(Progress(bar)) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Form::Lines(due) => {
                let now = Instant::now();
                if now < *due && done < total {
                    return;
                }
                *due = now + LINE_EVERY;
                let line = serde_json::json!({ "progress": self.what, "done": done, "total": total });
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }

    /// What is behind, such as the name of the slowest.
    pub(crate) fn note(&self, text: &str) {
        if let Form::Drawn(Progress(bar)) = &self.form {
            bar.set_message(format!("{} {}", self.what, escape(text)));
        }
    }
}

/// The few styles there are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Dim,
    Good,
    Bad,
    Name,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Name => "36",
        }
    }
}

/// Whether stdout takes colours: <https://no-color.org>.
pub(crate) fn colors_wanted(no_color: bool) -> bool {
    !no_color
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && io::stdout().is_terminal()
}

/// A list of objects as people read it. Cells are never wrapped, so that ids can be copied; long ones are cut.
fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|name| name.to_uppercase()));
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Control characters and those that turn the direction of text, spelt out; line ends and tabs stay.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' && c != '\t' {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The same inside JSON, where serde has escaped the ASCII ones already.
fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A cell of a table: one line, cut where it is very long.
fn one_line(text: &str) -> String {
    const CELL_MAX: usize = 72;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CELL_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A field of an object as text: a string bare, anything else as JSON, nothing for null.
pub(crate) fn field(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// JSON as people read it.
pub(crate) fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_data_never_reach_a_terminal() {
        assert_eq!(escape("a\u{1b}[31mb\u{202e}c\r\n\td"), "a\\u{1b}[31mb\\u{202e}c\\u{d}\n\td");
        let json = escape_json(&serde_json::json!({"a": "\u{1b}\u{9b}\u{202e}"}).to_string());
        assert_eq!(json, r#"{"a":"\u001b\u009b\u202e"}"#);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["a"], "\u{1b}\u{9b}\u{202e}");
    }

    /// A payload that forges a line or drives the terminal: every control, and what ends lines or turns them in Unicode, is
    /// spelt out in text and in JSON; in a table a line break is a space.
    #[test]
    fn stride_r04() {
        let hostile = (0..=0x1f).chain(0x7f..=0x9f).chain([0x2028, 0x2029, 0x200e, 0x200f, 0x202e, 0x2066]);
        for c in hostile.filter_map(char::from_u32).filter(|c| !matches!(c, '\n' | '\t')) {
            let text = format!("before{c}[2Jafter");
            assert!(
                !escape(&text).contains(c) && escape(&text).starts_with("before\\u{"),
                "{:x}",
                u32::from(c)
            );
            let json = escape_json(&serde_json::json!({ "a": text }).to_string());
            assert!(!json.contains(c), "{:x}", u32::from(c));
            assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["a"], text);
        }
        assert_eq!(one_line("a\n2 approval.granted\r\nb"), "a 2 approval.granted b");
    }

    #[test]
    fn a_table_has_its_columns_under_their_names() {
        let text = table(
            &["id", "text"],
            [vec!["1".into(), "one".into()], vec!["22".into(), "two".into()]].into_iter(),
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("ID") && lines[2].contains("two"));
        assert_eq!(one_line(" a\n b "), "a b");
    }
}
