//! TypeScript and JavaScript: parsing, and the form that runs.
//!
//! Agent code is parsed as a module that may `return` and `await` at its top. What runs is built from the syntax tree: imports
//! stay where a module needs them, everything else becomes the body of one async function, the default export. Types are
//! stripped on the way. Without a `return`, the last expression statement is the value. No text is ever pasted into a
//! wrapper, so no code can close one.

use super::{nesting, syntax_fault};
use athena_schemas::wire::{Fault, FaultKind, Language};
use oxc_allocator::{Allocator, ArenaBox, ArenaVec, TakeIn};
use oxc_ast::ast::{
    Declaration, ExportDefaultDeclaration, ExportDefaultDeclarationKind, Expression, FormalParameterKind,
    FormalParameters, Function, FunctionBody, FunctionType, Program, ReturnStatement, Statement,
};
use oxc_ast::builder::AstBuilder;
use oxc_ast_visit::{Visit, walk};
use oxc_codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::{ScopeFlags, SemanticBuilder};
use oxc_span::{GetSpan, SPAN, SourceType};
use oxc_transformer::{TransformOptions, Transformer};
use std::ops::Range;
use std::path::Path;

/// What QuickJS gets: a module, and the way back from its places to the agent's.
#[derive(Debug, Clone, Default)]
pub struct Emitted {
    /// The module's text.
    pub code: String,
    /// Generated place to source place (line, column; all from 0, columns in UTF-16 units), ascending.
    places: Vec<((u32, u32), (u32, u32))>,
}

impl Emitted {
    /// Line and column in the agent's source, from 1, for a line and column of the emitted code, from 1.
    pub fn origin(&self, line: u32, column: u32) -> Option<(u32, u32)> {
        let wanted = (line.checked_sub(1)?, column.saturating_sub(1));
        let after = self.places.partition_point(|(generated, _)| *generated <= wanted);
        // The token at or before the column, else the first of the line: engines differ in where an expression begins.
        let on_line = |at: Option<usize>| self.places.get(at?).filter(|((line, _), _)| *line == wanted.0);
        let (_, source) = on_line(after.checked_sub(1)).or_else(|| on_line(Some(after)))?;
        Some((source.0 + 1, source.1 + 1))
    }
}

/// How source is read: as TypeScript or as JavaScript, always as a module.
pub fn source_type(language: Language) -> SourceType {
    match language {
        // `ts()` alone would guess from the text whether it is a module.
        Language::TypeScript => SourceType::ts().with_module(true),
        Language::JavaScript | Language::Python => SourceType::mjs(),
    }
}

/// Parses a module, after the cap on nesting; a syntax error carries its place.
pub fn parse<'a>(allocator: &'a Allocator, language: Language, text: &'a str) -> Result<Program<'a>, Fault> {
    if let Some(at) = nesting::too_deep(text) {
        return Err(syntax_fault(text, at, "the code nests too deeply to be parsed; split it up"));
    }
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    let parsed = Parser::new(allocator, text, source_type(language)).with_options(options).parse();
    match parsed.diagnostics.errors().next() {
        Some(error) => Err(diagnosed(text, error)),
        None if parsed.panicked => Err(syntax_fault(text, 0, "the code cannot be parsed")),
        None => Ok(parsed.program),
    }
}

/// The module that runs a whole script: its imports, and an async function with the rest as the default export.
pub fn emit_run(language: Language, text: &str) -> Result<Emitted, Fault> {
    let allocator = Allocator::default();
    let mut program = stripped(&allocator, language, text)?;
    wrap(&allocator, &mut program, text)?;
    Ok(print(&program, text))
}

/// The module that another module imports: the source with its types stripped.
pub fn emit_module(text: &str) -> Result<Emitted, Fault> {
    let allocator = Allocator::default();
    let program = stripped(&allocator, Language::TypeScript, text)?;
    Ok(print(&program, text))
}

/// What an emitted module imports: the literals that name the modules, quotes included, with what they say; and the place (line
/// and column from 1) of the first import that is an expression.
pub fn imports(code: &str) -> Imports {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, code, SourceType::mjs()).parse();
    let record = parsed.module_record;
    let mut named: Vec<(Range<usize>, String)> = Vec::new();
    for (name, places) in &record.requested_modules {
        named.extend(
            places.iter().map(|at| (at.span.start as usize..at.span.end as usize, name.as_str().to_owned())),
        );
    }
    named.sort_by_key(|(at, _)| at.start);
    let dynamic = record.dynamic_imports.iter().map(|import| import.span.start as usize).min();
    let dynamic = dynamic.map(|offset| {
        let before = code.get(..offset).unwrap_or_default();
        let column = before.rsplit('\n').next().map_or(0, |line| line.encode_utf16().count());
        (before.matches('\n').count() as u32 + 1, column as u32 + 1)
    });
    Imports { named, dynamic }
}

/// The imports of an emitted module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imports {
    /// Statements, in their order.
    pub named: Vec<(Range<usize>, String)>,
    /// The first expression.
    pub dynamic: Option<(u32, u32)>,
}

/// Parses, checks redeclarations and the like, and strips types.
fn stripped<'a>(allocator: &'a Allocator, language: Language, text: &'a str) -> Result<Program<'a>, Fault> {
    let mut program = parse(allocator, language, text)?;
    let checked = SemanticBuilder::new().with_check_syntax_error(true).with_enum_eval(true).build(&program);
    if let Some(error) = checked.diagnostics.errors().next() {
        return Err(diagnosed(text, error));
    }
    let scoping = checked.semantic.into_scoping();
    let options = TransformOptions::default();
    let outcome =
        Transformer::new(allocator, Path::new("run.ts"), &options).build_with_scoping(scoping, &mut program);
    match outcome.diagnostics.errors().next() {
        Some(error) => Err(diagnosed(text, error)),
        None => Ok(program),
    }
}

/// Moves everything but the imports into one async function.
fn wrap<'a>(allocator: &'a Allocator, program: &mut Program<'a>, text: &str) -> Result<(), Fault> {
    let builder = AstBuilder::new(allocator);
    let mut imports = ArenaVec::new_in(&allocator);
    let mut body = ArenaVec::new_in(&allocator);
    for statement in program.body.take_in(&allocator) {
        match statement {
            Statement::ImportDeclaration(_) => imports.push(statement),
            _ if statement.as_module_declaration().is_some() => {
                body.extend(unexported(statement, text, &builder)?)
            }
            _ => body.push(statement),
        }
    }
    if !returns(&body) {
        give_back_last(&mut body, program, &builder);
    }
    let directives = program.directives.take_in(&allocator);
    let body = FunctionBody::boxed(SPAN, directives, body, &builder);
    let parameters = FormalParameters::boxed(
        SPAN,
        FormalParameterKind::FormalParameter,
        ArenaVec::new_in(&allocator),
        None,
        &builder,
    );
    let main = Function::boxed(
        SPAN,
        FunctionType::FunctionDeclaration,
        None,
        false,
        true,
        false,
        None,
        None,
        parameters,
        None,
        Some(body),
        &builder,
    );
    let export = ExportDefaultDeclaration::boxed(
        SPAN,
        ExportDefaultDeclarationKind::FunctionDeclaration(main),
        &builder,
    );
    imports.push(Statement::ExportDefaultDeclaration(export));
    program.body = imports;
    Ok(())
}

/// A script exports nothing: declarations lose the keyword, a default expression becomes a statement.
fn unexported<'a>(
    statement: Statement<'a>,
    text: &str,
    builder: &AstBuilder<'a>,
) -> Result<Option<Statement<'a>>, Fault> {
    let at = statement.span().start as usize;
    match statement {
        Statement::ExportDeclaration(export) => Ok(Some(match ArenaBox::unbox(export).declaration {
            Declaration::VariableDeclaration(it) => Statement::VariableDeclaration(it),
            Declaration::FunctionDeclaration(it) => Statement::FunctionDeclaration(it),
            Declaration::ClassDeclaration(it) => Statement::ClassDeclaration(it),
            _ => return Ok(None),
        })),
        Statement::ExportDefaultDeclaration(export) => Ok(Some(match ArenaBox::unbox(export).declaration {
            ExportDefaultDeclarationKind::FunctionDeclaration(it) if it.id.is_some() => {
                Statement::FunctionDeclaration(it)
            }
            ExportDefaultDeclarationKind::ClassDeclaration(it) if it.id.is_some() => {
                Statement::ClassDeclaration(it)
            }
            ExportDefaultDeclarationKind::FunctionDeclaration(mut it) => {
                it.r#type = FunctionType::FunctionExpression;
                value_statement(Expression::FunctionExpression(it), builder)
            }
            ExportDefaultDeclarationKind::ClassDeclaration(mut it) => {
                it.r#type = oxc_ast::ast::ClassType::ClassExpression;
                value_statement(Expression::ClassExpression(it), builder)
            }
            other => match Expression::try_from(other) {
                Ok(expression) => value_statement(expression, builder),
                Err(()) => return Ok(None),
            },
        })),
        Statement::ExportNamedDeclaration(_) => Ok(None),
        _ => Err(syntax_fault(
            text,
            at,
            "a script cannot re-export another module; import it and return what you need",
        )),
    }
}

fn value_statement<'a>(expression: Expression<'a>, builder: &AstBuilder<'a>) -> Statement<'a> {
    Statement::new_expression_statement(expression.span(), expression, builder)
}

/// Turns the last expression statement into the value. Declarations after it do not change what it is.
fn give_back_last<'a>(
    body: &mut ArenaVec<'a, Statement<'a>>,
    program: &mut Program<'a>,
    builder: &AstBuilder<'a>,
) {
    let passive = |statement: &Statement<'_>| {
        matches!(
            statement,
            Statement::EmptyStatement(_) | Statement::FunctionDeclaration(_) | Statement::ClassDeclaration(_)
        )
    };
    if let Some(last) = body.iter_mut().rev().find(|statement| !passive(statement)) {
        if let Statement::ExpressionStatement(_) = last {
            let span = last.span();
            let taken = std::mem::replace(last, Statement::new_empty_statement(span, builder));
            if let Statement::ExpressionStatement(it) = taken {
                let value = ArenaBox::unbox(it).expression;
                *last = Statement::ReturnStatement(ReturnStatement::boxed(span, Some(value), builder));
            }
        }
        return;
    }
    // `"text"` alone parses as a directive, and is meant as a value.
    if let Some(directive) = program.directives.pop() {
        let value = Expression::StringLiteral(ArenaBox::new_in(directive.expression, builder));
        body.push(Statement::ReturnStatement(ReturnStatement::boxed(directive.span, Some(value), builder)));
    }
}

/// Whether the script itself returns somewhere; functions within it do not count.
fn returns(body: &[Statement<'_>]) -> bool {
    struct Search(bool);
    impl<'a> Visit<'a> for Search {
        fn visit_return_statement(&mut self, _: &ReturnStatement<'a>) {
            self.0 = true;
        }
        fn visit_function(&mut self, _: &Function<'a>, _: ScopeFlags) {}
        fn visit_arrow_function_expression(&mut self, _: &oxc_ast::ast::ArrowFunctionExpression<'a>) {}
        fn visit_class(&mut self, _: &oxc_ast::ast::Class<'a>) {}
    }
    let mut search = Search(false);
    body.iter().for_each(|statement| walk::walk_statement(&mut search, statement));
    search.0
}

/// Prints the tree, with the table of places.
fn print(program: &Program<'_>, text: &str) -> Emitted {
    let options = CodegenOptions {
        comments: CommentOptions::disabled(),
        source_map_path: Some("run".into()),
        ..CodegenOptions::default()
    };
    let printed = Codegen::new().with_options(options).with_source_text(text).build(program);
    let places =
        printed.map.iter().flat_map(|map| map.get_tokens()).filter(|token| token.get_source_id().is_some());
    let places = places
        .map(|token| {
            ((token.get_dst_line(), token.get_dst_col()), (token.get_src_line(), token.get_src_col()))
        })
        .collect();
    Emitted { code: printed.code, places }
}

/// A diagnostic as a fault.
fn diagnosed(text: &str, error: &oxc_diagnostics::OxcDiagnostic) -> Fault {
    let offset = error.labels.first().map_or(0, |label| label.span().start as usize);
    let mut message = error.message.to_string();
    if let Some(help) = &error.help {
        message.push_str("; ");
        message.push_str(help);
    }
    Fault { kind: FaultKind::Syntax, ..syntax_fault(text, offset, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_in_what_was_emitted() {
        let code = "import a from \"/a.ts\";\nimport '/b.ts';\nexport * from '/a.ts';\nf('ü', import(x));\nimport.meta.url";
        let found = imports(code);
        let said: Vec<_> = found.named.iter().map(|(at, name)| (&code[at.clone()], name.as_str())).collect();
        assert_eq!(said, [("\"/a.ts\"", "/a.ts"), ("'/b.ts'", "/b.ts"), ("'/a.ts'", "/a.ts")]);
        assert_eq!(found.dynamic, Some((4, 8)));
        assert_eq!(imports("f(import.meta)"), Imports { named: Vec::new(), dynamic: None });
    }

    #[test]
    fn the_emitted_form_maps_back() {
        let source = "import a, { T } from '/skills/a.ts';\nconst x: T = a;\nnull.x";
        let emitted = emit_run(Language::TypeScript, source).unwrap();
        assert_eq!(
            emitted.code,
            "import a from \"/skills/a.ts\";\nexport default async function() {\n\tconst x = a;\n\treturn null.x;\n}\n"
        );
        assert_eq!(emitted.origin(4, 14), Some((3, 6)));
    }
}
