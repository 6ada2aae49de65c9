//! What a compiler says, as an error of the code: `run.ts(4,7): error TS2322: …`, with further lines indented.

use super::{RUN, failed};
use athena_schemas::refusal::Refusal;
use athena_schemas::wire::{Fault, FaultKind};
use std::path::Path;

/// "A 'return' statement can only be used within a function body": here it can be used anywhere.
const RETURN: &str = "TS1108";
/// Errors that are told; the first is the one the run ends with.
const TOLD: usize = 20;

/// One error in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Error {
    line: u32,
    column: u32,
    /// Such as `TS2322`.
    code: String,
    message: String,
}

/// The errors in the code, as one; none where its types fit. What is wrong in other files is not the code's.
///
/// # Errors
/// Where the compiler speaks of its own settings: then nothing was checked.
pub(super) fn errors(said: &str, folder: &Path) -> Result<Option<Fault>, Refusal> {
    let folder = format!("{}/", folder.display());
    let mut errors: Vec<Error> = Vec::new();
    // Whether the line before belongs to the code.
    let mut ours = false;
    for line in said.lines() {
        let line = line.replace(&folder, "");
        if line.starts_with(' ') {
            if let Some(error) = errors.last_mut().filter(|_| ours) {
                error.message.push('\n');
                error.message.push_str(line.trim_end());
            }
        } else if line.starts_with("error TS") || line.starts_with("tsconfig.json(") {
            return Err(failed(&line));
        } else if let Some(error) = in_code(&line) {
            ours = error.code != RETURN;
            errors.extend(ours.then_some(error));
        } else {
            ours = false;
        }
    }
    let Some(first) = errors.first() else { return Ok(None) };
    let more = errors.len() - 1;
    let count = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    let told = errors.iter().take(TOLD);
    let stack: Vec<String> =
        told.map(|e| format!("    at {RUN}:{}:{} {}: {}", e.line, e.column, e.code, e.message)).collect();
    Ok(Some(Fault {
        kind: FaultKind::Syntax,
        name: athena_actors::run::TYPE_ERROR.into(),
        message: format!("{}: {}{count}", first.code, first.message),
        line: first.line,
        column: first.column,
        stack: stack.join("\n"),
    }))
}

/// An error in the code, where the line tells one.
fn in_code(line: &str) -> Option<Error> {
    let (place, rest) = line.strip_prefix(RUN)?.strip_prefix('(')?.split_once("): error ")?;
    let (line, column) = place.split_once(',')?;
    let (code, message) = rest.split_once(": ")?;
    Some(Error {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
        code: code.into(),
        message: message.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "mcp-servers/x/y.ts(1,1): error TS2304: Cannot find name 'z'.\n  not of the code\n\
        run.ts(3,1): error TS1108: A 'return' statement can only be used within a function body.\n\
        run.ts(4,7): error TS2322: Type 'number' is not assignable to type 'string'.\n  In /tmp/t/run.ts, because it is so.\n\
        run.ts(9,2): error TS2304: Cannot find name 'q'.\n";

    #[test]
    fn errors_of_the_code_are_told_at_their_place_and_nothing_else_is() {
        let fault = errors(SAID, Path::new("/tmp/t")).unwrap().unwrap();
        assert_eq!((fault.line, fault.column, fault.name.as_str()), (4, 7, "TypeCheckError"));
        assert_eq!(
            fault.message,
            "TS2322: Type 'number' is not assignable to type 'string'.\n  In run.ts, because it is so. (and 1 more)"
        );
        assert!(fault.stack.ends_with("    at run.ts:9:2 TS2304: Cannot find name 'q'."), "{}", fault.stack);
        assert!(!fault.stack.contains("not of the code") && !fault.stack.contains("TS1108"));
        let fits =
            "run.ts(3,1): error TS1108: A 'return' statement can only be used within a function body.\n";
        assert_eq!(errors(fits, Path::new("/tmp/t")).unwrap(), None);
    }

    #[test]
    fn a_compiler_that_was_not_able_to_check_is_no_agreement() {
        for said in ["error TS5023: Unknown compiler option 'x'.", "tsconfig.json(1,2): error TS5024: no."] {
            assert!(errors(said, Path::new("/tmp/t")).is_err(), "{said}");
        }
    }
}
