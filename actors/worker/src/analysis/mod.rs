//! Static analysis of agent code: it informs, it never grants. A low verdict adds no right; the jail holds either way.
//!
//! Both languages are brought to one small tree ([`tree`]), which is walked once ([`judge`]) with texts folded and names followed,
//! and held against tables ([`rules`], [`texts`]). It runs in the disposable worker, because a parser can be made to overflow.

mod judge;
mod python;
mod rules;
mod script;
mod texts;
mod tree;
mod value;

use crate::engines::monty;
use crate::source::{self, Lines, nesting};
use athena_schemas::risk::Risk;
use athena_schemas::wire::{Assessment, Fault, Language, Reason};
use oxc_allocator::Allocator;
use tree::Tree;

/// Judges code: how much harm it can do and why, what it asks for, where its texts lie. Code that does not parse is
/// [`Risk::High`], with the place.
pub fn assess(language: Language, code: &str) -> Assessment {
    let tree = match parse(language, code) {
        Ok(tree) => tree,
        Err(fault) => {
            let reason = Reason {
                rule: "syntax".into(),
                level: Risk::High,
                message: "code that cannot be parsed cannot be judged".into(),
                line: fault.line,
                column: fault.column,
            };
            return Assessment {
                level: Risk::High,
                reasons: vec![reason],
                syntax: Some(fault),
                ..Assessment::default()
            };
        }
    };
    let found = judge::judge(language, &tree, 0);
    let lines = Lines::new(code);
    let mut reasons: Vec<Reason> = found
        .notes
        .into_iter()
        .map(|note| {
            let (line, column) = lines.place(note.at as usize);
            Reason { rule: note.rule.into(), level: note.level, message: note.message, line, column }
        })
        .collect();
    reasons.sort_by(|a, b| b.level.cmp(&a.level).then((a.line, a.column).cmp(&(b.line, b.column))));
    let level = reasons.first().map_or(Risk::Low, |reason| reason.level);
    Assessment {
        level,
        reasons,
        capabilities: found.capabilities.into_iter().collect(),
        literals: tree.literals,
        syntax: None,
        beyond: match language {
            Language::TypeScript | Language::JavaScript => None,
            Language::Python => monty::beyond(code),
        },
    }
}

/// The level of code that other code keeps.
fn level_of(language: Language, code: &str, depth: u32) -> Risk {
    match parse(language, code) {
        Ok(tree) => {
            judge::judge(language, &tree, depth).notes.iter().map(|note| note.level).max().unwrap_or_default()
        }
        // A text that is no code of this language is not run as such.
        Err(_) => Risk::Medium,
    }
}

fn parse(language: Language, code: &str) -> Result<Tree, Fault> {
    match language {
        Language::TypeScript | Language::JavaScript => {
            let allocator = Allocator::default();
            let program = source::script::parse(&allocator, language, code)?;
            Ok(script::lower(&program, code))
        }
        Language::Python => {
            if let Some(at) = nesting::too_deep(code) {
                return Err(source::syntax_fault(
                    code,
                    at,
                    "the code nests too deeply to be parsed; split it up",
                ));
            }
            let parsed = ruff_python_parser::parse_module(code).map_err(|error| {
                source::syntax_fault(code, error.location.start().into(), error.error.to_string())
            })?;
            Ok(python::lower(&parsed, code))
        }
    }
}

#[cfg(test)]
mod tests;
