//! Everything as real files, for people: the virtual folder written out, and the reference of the operations.

use super::{Toolbox, house, tree};
use athena_schemas::context::Context;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::surface::{Tool, markdown};
use std::path::Path;

impl Toolbox {
    /// Writes every virtual file below `out` and answers how many. Blocking.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_files(&self, cx: &Context, out: &Path) -> Result<usize, Refusal> {
        let (shelf, skills) = (self.shelf(), self.skills.list(cx));
        let failed = |path: &Path, error: std::io::Error| {
            Refusal::new(Code::Unavailable, format!("{} cannot be written: {error}", path.display()))
        };
        let paths = tree::paths(&shelf.tools, &skills);
        let mut written = 0;
        for path in &paths {
            // Every part of a path was made of safe names; a second look costs nothing.
            let parts = path.trim_start_matches('/');
            if parts.split('/').any(|part| part.is_empty() || part == "..") {
                continue;
            }
            let Some(text) = tree::generated(&shelf.tools, &skills, path) else { continue };
            let target = out.join(parts);
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
            }
            std::fs::write(&target, text).map_err(|error| failed(&target, error))?;
            written += 1;
        }
        let types = out.join("sandbox.d.ts");
        std::fs::write(&types, SANDBOX).map_err(|error| failed(&types, error))?;
        Ok(written + 1)
    }
}

/// The functions every file counts on.
const SANDBOX: &str =
    "declare function callMCPTool(op: string, input?: unknown, options?: unknown): Promise<any>;\n";

/// A form of the reference.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For people.
    #[default]
    Markdown,
    /// For a browser.
    Html,
    /// For programs.
    Json,
}

/// The reference of all operations that agents may call.
pub fn reference(form: Form) -> String {
    written(form, "Operations", house().iter())
}

/// The reference of tools: each with its fields, its answer, its risk and an example.
pub(super) fn written<'a>(form: Form, title: &str, tools: impl IntoIterator<Item = &'a Tool>) -> String {
    match form {
        Form::Markdown => markdown::reference(title, tools),
        Form::Html => markdown::html(title, tools),
        Form::Json => format!("{:#}\n", markdown::json(tools)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/operations.md` is generated; `ATHENA_DOCS=write cargo test` writes it.
    #[test]
    fn the_reference_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
        let now = reference(Form::Markdown);
        if std::env::var_os("ATHENA_DOCS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == now,
            "docs/operations.md is not current; ATHENA_DOCS=write cargo test -p athena --lib the_reference_is_current"
        );
    }

    #[test]
    fn every_form_names_every_operation() {
        for form in [Form::Markdown, Form::Html, Form::Json] {
            let text = reference(form);
            for tool in house() {
                assert!(text.contains(&tool.op()), "{form:?} lacks {}", tool.op());
            }
        }
    }
}
