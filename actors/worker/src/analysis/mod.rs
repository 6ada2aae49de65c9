//! Static analysis of agent code: it informs, it never grants.

use crate::source::script;
use athena_schemas::wire::{Assessment, Language};
use oxc_allocator::Allocator;
use oxc_ast::ast::{StringLiteral, TemplateElement};
use oxc_ast_visit::Visit;

/// Judges code: whether it parses, and where its texts lie.
pub fn assess(language: Language, code: &str) -> Assessment {
    match language {
        Language::TypeScript | Language::JavaScript => script_literals(language, code),
        Language::Python => Assessment::default(),
    }
}

fn script_literals(language: Language, code: &str) -> Assessment {
    let allocator = Allocator::default();
    match script::parse(&allocator, language, code) {
        Ok(program) => {
            let mut texts = Texts::default();
            texts.visit_program(&program);
            texts.0.extend(program.comments.iter().map(|comment| {
                let span = comment.content_span();
                (span.start, span.end)
            }));
            texts.0.sort_unstable();
            Assessment { literals: texts.0, ..Assessment::default() }
        }
        Err(fault) => Assessment { syntax: Some(fault), ..Assessment::default() },
    }
}

/// Byte ranges between the quotes of strings and templates.
#[derive(Default)]
struct Texts(Vec<(u32, u32)>);

impl<'a> Visit<'a> for Texts {
    fn visit_string_literal(&mut self, it: &StringLiteral<'a>) {
        self.0.push((it.span.start + 1, it.span.end.saturating_sub(1)));
    }

    fn visit_template_element(&mut self, it: &TemplateElement<'a>) {
        self.0.push((it.span.start, it.span.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_nothing_else() {
        let code = "const a = \"b@c.d\"; // e\nconst n = 4111; `x${n}y`; /* z */";
        let found: Vec<&str> = assess(Language::TypeScript, code)
            .literals
            .into_iter()
            .map(|(start, end)| &code[start as usize..end as usize])
            .collect();
        assert_eq!(found, ["b@c.d", " e", "x", "y", " z "]);
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let fault = assess(Language::JavaScript, "let a = 1;\nlet = = 2;").syntax.unwrap();
        assert_eq!((fault.line, fault.name.as_str()), (2, "SyntaxError"));
    }
}
