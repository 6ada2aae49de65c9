//! `athena exec`: code from a file or stdin, in the sandbox.

use super::call::{stdin_text, unreadable};
use super::output::{Output, Style, escape, field, pretty};
use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::Refusal;
use athena_schemas::wire::Language;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Run code in the sandbox: `athena exec script.ts`, from stdin with -, or `-e 'return 6 * 7'`
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The file with the code; - reads stdin
    #[arg(value_name = "FILE|-", required_unless_present = "eval")]
    file: Option<PathBuf>,
    /// The code itself, in place of a file
    #[arg(short, long, value_name = "CODE", conflicts_with = "file")]
    eval: Option<String>,
    /// Its language [default: by the file's ending, else ts]
    #[arg(long, value_enum)]
    lang: Option<Lang>,
    /// The `input` of the code, any JSON
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Keeps `session.state` between runs of the same name
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Check TypeScript's types first, and run nothing where they do not fit
    #[arg(long)]
    check: bool,
    /// Run TypeScript or JavaScript on another engine than the built-in one, where the settings permit it
    #[arg(long, value_parser = ["deno"], value_name = "ENGINE")]
    engine: Option<String>,
    /// Lower the wall time, milliseconds
    #[arg(long, value_name = "MS")]
    wall_ms: Option<u64>,
    /// Lower the CPU time, milliseconds
    #[arg(long, value_name = "MS")]
    cpu_ms: Option<u64>,
    /// Lower the heap, mebibytes
    #[arg(long, value_name = "MIB")]
    memory_mb: Option<u32>,
    /// Lower the number of host calls
    #[arg(long, value_name = "N")]
    calls: Option<u32>,
}

/// A language as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lang {
    /// TypeScript
    #[value(alias = "typescript")]
    Ts,
    /// JavaScript
    #[value(alias = "javascript")]
    Js,
    /// Python
    #[value(alias = "python")]
    Py,
}

impl Lang {
    fn of(file: &Path) -> Self {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("py") => Self::Py,
            Some("js" | "mjs") => Self::Js,
            _ => Self::Ts,
        }
    }

    pub(crate) fn language(self) -> Language {
        match self {
            Self::Ts => Language::TypeScript,
            Self::Js => Language::JavaScript,
            Self::Py => Language::Python,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ts => "typescript",
            Self::Js => "javascript",
            Self::Py => "python",
        }
    }
}

impl Exec {
    async fn code(&self) -> Result<String, Refusal> {
        let file = match (&self.eval, &self.file) {
            (Some(code), _) => return Ok(code.clone()),
            (None, Some(file)) if file.as_os_str() != "-" => file,
            _ => return stdin_text().await,
        };
        tokio::fs::read_to_string(file).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Refusal::not_found(format!("there is no file {}", file.display()))
                    .hint("for code itself: athena exec -e CODE; for code from stdin: athena exec -")
            }
            _ => unreadable(e),
        })
    }

    pub(crate) async fn run(self, session: &Session) -> Done {
        let code = self.code().await?;
        let by_ending = || self.file.as_deref().map_or(Lang::Ts, Lang::of);
        let language = self.lang.unwrap_or_else(by_ending);
        let mut params = json!({ "code": code, "language": language.name() });
        if let Some(object) = params.as_object_mut() {
            if let Some(input) = &self.input {
                let input: Value = serde_json::from_str(input)
                    .map_err(|e| Refusal::invalid(format!("--input is not JSON: {e}")))?;
                object.insert("input".into(), input);
            }
            if let Some(name) = &self.session {
                object.insert("session".into(), json!(name));
            }
            if self.check {
                object.insert("check".into(), json!(true));
            }
            if let Some(engine) = &self.engine {
                object.insert("engine".into(), json!(engine));
            }
            let limits = self.limits();
            if !limits.is_empty() {
                object.insert("limits".into(), Value::Object(limits));
            }
        }
        let outcome = session.call("run/execute", params).await?;
        report(&session.out, &outcome)
    }

    fn limits(&self) -> Map<String, Value> {
        let wanted = [
            ("wall_ms", self.wall_ms.map(Value::from)),
            ("cpu_ms", self.cpu_ms.map(Value::from)),
            ("memory_mb", self.memory_mb.map(Value::from)),
            ("calls", self.calls.map(Value::from)),
        ];
        wanted.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Prints what a run answered: with `--json` the same object as the MCP tool; else its value on stdout and the rest on stderr.
pub(crate) fn report(out: &Output, outcome: &Value) -> Done {
    let status = field(outcome, "/status");
    if out.json {
        written(out.json_line(outcome))?;
        return Ok(exit(&status));
    }
    for line in outcome.get("logs").and_then(Value::as_array).into_iter().flatten() {
        out.note(&pretty(line));
    }
    if status == "completed" {
        written(out.text(&pretty(outcome.get("value").unwrap_or(&Value::Null))))?;
    }
    let style = if status == "completed" { Style::Good } else { Style::Bad };
    let mut said = format!(
        "{} · risk {} · {} calls · {} · {}",
        out.paint(style, &status),
        field(outcome, "/risk/level"),
        field(outcome, "/metrics/calls"),
        millis(outcome.pointer("/metrics/wall_us")),
        field(outcome, "/run"),
    );
    for reason in outcome.pointer("/risk/reasons").and_then(Value::as_array).into_iter().flatten() {
        said.push_str(&format!("\n  because: {}", escape(&pretty(reason))));
    }
    if let Some(error) = outcome.get("error").filter(|error| !error.is_null()) {
        said.push_str(&format!(
            "\n  {}: {}",
            escape(&field(error, "/type")),
            escape(&field(error, "/message"))
        ));
        let (line, column) = (field(error, "/line"), field(error, "/column"));
        if !line.is_empty() {
            said.push_str(&format!(" (line {line}, column {column})"));
        }
        let hint = field(error, "/try");
        if !hint.is_empty() {
            said.push_str(&format!("\n  try: {}", escape(&hint)));
        }
    }
    let approval = field(outcome, "/approval");
    if !approval.is_empty() {
        said.push_str(&format!("\n  try: athena approvals show {approval}, then athena approve {approval}"));
    }
    if !out.quiet || status != "completed" {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{said}\n"));
    }
    Ok(exit(&status))
}

/// The exit code of a run's status.
pub(crate) fn exit(status: &str) -> u8 {
    match status {
        "completed" | "running" => 0,
        "approval_required" | "uncertain" => 4,
        "denied" => 5,
        _ => 1,
    }
}

fn millis(us: Option<&Value>) -> String {
    let ms = us.and_then(Value::as_f64).unwrap_or(0.0) / 1_000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_read_off_the_file_s_ending() {
        assert_eq!(Lang::of(Path::new("a/b.py")), Lang::Py);
        assert_eq!(Lang::of(Path::new("b.mjs")), Lang::Js);
        assert_eq!(Lang::of(Path::new("-")), Lang::Ts);
    }

    #[test]
    fn statuses_have_the_exit_codes_scripts_rely_on() {
        assert_eq!(["completed", "failed", "approval_required", "denied"].map(exit), [0, 1, 4, 5]);
    }
}
