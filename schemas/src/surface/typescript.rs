//! Tools as TypeScript: one line for a search result, one file for an import, and the index of a server.

use super::json_schema::{self, Field, Shape, Types};
use super::names::{comment_lines, identifier, is_identifier, plain, type_name};
use super::{HOUSE, Tool};
use serde_json::Value;
use std::fmt::Write;

/// The signature on one line, types spelt out: what a model needs to call it, in as few tokens as possible.
///
/// `export function read_text_file(i:{path:string;head?:number}):Promise<{content:string}>`
pub fn signature(tool: &Tool) -> String {
    let (input, output) = types(tool);
    let mut line = String::new();
    for (name, shape) in input.named.iter().chain(&output.named) {
        let _ = write!(line, "type {name}={};", compact(shape));
    }
    let argument = match &input.root {
        Shape::Object(fields, None | Some(_)) if fields.is_empty() => String::new(),
        Shape::Any => "i?:object".into(),
        root if optional(root) => format!("i?:{}", compact(root)),
        root => format!("i:{}", compact(root)),
    };
    let _ =
        write!(line, "export function {}({argument}):Promise<{}>", tool.function(), compact(&output.root));
    line
}

/// The file of a tool: its types, its documentation, and one function that calls it.
pub fn file(tool: &Tool) -> String {
    let (input, output) = types(tool);
    let mut out = String::new();
    let name = tool.function();
    let base = type_name(tool.name.rsplit('/').next().unwrap_or(&tool.name));
    for (other, shape) in input.named.iter().chain(&output.named) {
        if *other != format!("{base}Input") && *other != format!("{base}Output") {
            declare(&mut out, other, shape);
        }
    }
    declare(
        &mut out,
        &format!("{base}Input"),
        input.named.get(&format!("{base}Input")).unwrap_or(&input.root),
    );
    declare(
        &mut out,
        &format!("{base}Output"),
        output.named.get(&format!("{base}Output")).unwrap_or(&output.root),
    );
    comment(&mut out, "", &documentation(tool));
    let question = if optional(&input.root) { " = {}" } else { "" };
    let (options, pass) =
        if tool.server == HOUSE { (", options?: CallOptions", ", options") } else { ("", "") };
    if tool.server == HOUSE {
        out.insert_str(0, "/** Narrows the scope, makes a retry safe, or asks as of a position. */\nexport interface CallOptions {\n  scope?: { project?: string; user?: string; agent?: string; session?: string };\n  idempotency_key?: string;\n  at_seq?: number;\n}\n\n");
    }
    let _ = write!(
        out,
        "export async function {name}(input: {base}Input{question}{options}): Promise<{base}Output> {{\n  return await callMCPTool({}, input{pass});\n}}\n\nexport default {name};\n",
        quoted(&tool.op()),
    );
    let plain_name = super::names::member(tool.name.rsplit('/').next().unwrap_or(&tool.name));
    if plain_name != name {
        let _ = writeln!(out, "export {{ {name} as {plain_name} }};");
    }
    out
}

/// The index of a server (or of one layer of the house): all its functions under their names.
pub fn index<'a>(folder: &str, tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut out = String::new();
    for tool in tools {
        let relative = tool.path();
        let Some(below) = relative.strip_prefix(folder).map(|path| path.trim_start_matches('/')) else {
            continue;
        };
        if !below.contains('/') {
            let _ =
                writeln!(out, "export {{ {} }} from {};", tool.function(), quoted(&format!("./{below}.ts")));
        }
    }
    out
}

/// The index of a folder of folders: each as one namespace.
pub fn namespace_index<'a>(folders: impl IntoIterator<Item = &'a str>) -> String {
    folders.into_iter().fold(String::new(), |mut out, folder| {
        let _ = writeln!(
            out,
            "export * as {} from {};",
            identifier(folder),
            quoted(&format!("./{folder}/index.ts"))
        );
        out
    })
}

fn types(tool: &Tool) -> (Types, Types) {
    let base = type_name(tool.name.rsplit('/').next().unwrap_or(&tool.name));
    let input = json_schema::read(&tool.input, &format!("{base}Input"));
    (input, json_schema::read(&tool.answers(), &format!("{base}Output")))
}

/// Whether the argument may be left out.
fn optional(shape: &Shape) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Object(fields, _) => fields.iter().all(|field| !field.required),
        _ => false,
    }
}

fn documentation(tool: &Tool) -> String {
    let mut doc = tool.description.trim().to_string();
    let _ = write!(doc, "\n\nRisk: {}.", tool.risk);
    let example = tool.example.clone().unwrap_or_else(|| json_schema::example(&tool.input));
    let _ = write!(doc, "\n@example await {}({})", tool.global(), example);
    doc
}

fn declare(out: &mut String, name: &str, shape: &Shape) {
    match shape {
        Shape::Object(fields, rest) => {
            let _ = write!(out, "export interface {name} ");
            object(out, fields, rest.as_deref(), "");
            out.push_str("\n\n");
        }
        shape => {
            let _ = write!(out, "export type {name} = {};\n\n", spaced(shape, ""));
        }
    }
}

fn object(out: &mut String, fields: &[Field], rest: Option<&Shape>, indent: &str) {
    let inner = format!("{indent}  ");
    out.push_str("{\n");
    for field in fields {
        let doc = match (field.doc.is_empty(), field.note.is_empty()) {
            (_, true) => field.doc.clone(),
            (true, false) => field.note.clone(),
            (false, false) => format!("{} ({})", field.doc, field.note),
        };
        comment(out, &inner, &doc);
        let mark = if field.required { "" } else { "?" };
        let _ = writeln!(out, "{inner}{}{mark}: {};", key(&field.name), spaced(&field.shape, &inner));
    }
    if let Some(rest) = rest {
        // Known fields need not have the type of the others.
        let rest = if fields.is_empty() { spaced(rest, &inner) } else { "unknown".into() };
        let _ = writeln!(out, "{inner}[key: string]: {rest};");
    }
    let _ = write!(out, "{indent}}}");
}

/// A type over several lines, with the documentation of its fields.
fn spaced(shape: &Shape, indent: &str) -> String {
    match shape {
        Shape::Object(fields, rest) if !fields.is_empty() => {
            let mut out = String::new();
            object(&mut out, fields, rest.as_deref(), indent);
            out
        }
        shape => render(shape, &|inner| spaced(inner, indent), " "),
    }
}

/// A type on one line.
fn compact(shape: &Shape) -> String {
    match shape {
        Shape::Object(fields, rest) if !fields.is_empty() => {
            let mut parts: Vec<String> = fields
                .iter()
                .map(|field| {
                    format!(
                        "{}{}:{}",
                        key(&field.name),
                        if field.required { "" } else { "?" },
                        compact(&field.shape)
                    )
                })
                .collect();
            if rest.is_some() {
                parts.push("[k:string]:unknown".into());
            }
            format!("{{{}}}", parts.join(";"))
        }
        shape => render(shape, &compact, ""),
    }
}

fn render(shape: &Shape, inner: &dyn Fn(&Shape) -> String, space: &str) -> String {
    let grouped = |shape: &Shape| match shape {
        Shape::Union(_) | Shape::All(_) => format!("({})", inner(shape)),
        shape => inner(shape),
    };
    match shape {
        Shape::Any => "unknown".into(),
        Shape::Never => "never".into(),
        Shape::Null => "null".into(),
        Shape::Boolean => "boolean".into(),
        Shape::Integer | Shape::Number => "number".into(),
        Shape::String => "string".into(),
        Shape::Literal(value) => literal(value),
        Shape::Array(item) => format!("{}[]", grouped(item)),
        Shape::Tuple(places, rest) => {
            let mut parts: Vec<String> = places.iter().map(inner).collect();
            parts.extend(rest.as_ref().map(|rest| format!("...{}[]", grouped(rest))));
            format!("[{}]", parts.join(&format!(",{space}")))
        }
        Shape::Object(_, None) => "{}".into(),
        Shape::Object(_, Some(rest)) => format!("Record<string,{space}{}>", inner(rest)),
        Shape::Union(shapes) => {
            shapes.iter().map(grouped).collect::<Vec<_>>().join(&format!("{space}|{space}"))
        }
        Shape::All(shapes) => {
            shapes.iter().map(grouped).collect::<Vec<_>>().join(&format!("{space}&{space}"))
        }
        Shape::Named(name) => name.clone(),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn key(name: &str) -> String {
    if is_identifier(name) { name.into() } else { quoted(name) }
}

/// A string literal of TypeScript: JSON is a subset of it, less what nobody sees.
fn quoted(text: &str) -> String {
    Value::String(plain(text)).to_string()
}

fn comment(out: &mut String, indent: &str, text: &str) {
    let lines = comment_lines(text);
    match lines.as_slice() {
        [] => {}
        [line] => {
            let _ = writeln!(out, "{indent}/** {line} */");
        }
        lines => {
            let _ = writeln!(out, "{indent}/**");
            for line in lines {
                let _ = writeln!(out, "{}", format!("{indent} * {line}").trim_end());
            }
            let _ = writeln!(out, "{indent} */");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tool;
    use super::*;
    use serde_json::json;

    fn read_text_file() -> Tool {
        tool(
            "read_text_file",
            "Read the complete contents of a file.\nOnly works within allowed directories.",
            json!({"type": "object", "required": ["path"], "properties": {
                "path": {"type": "string", "description": "Where it is"},
                "tail": {"type": "number"},
                "head": {"type": "number", "description": "First lines", "minimum": 1}}}),
            Some(
                json!({"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]}),
            ),
        )
    }

    #[test]
    fn a_signature_is_one_short_line() {
        assert_eq!(
            signature(&read_text_file()),
            "export function read_text_file(i:{path:string;tail?:number;head?:number}):Promise<{content:string}>"
        );
        let graph = tool("read_graph", "", json!({"type": "object", "properties": {}}), None);
        assert_eq!(
            signature(&graph),
            "export function read_graph():Promise<{content:string;json?:unknown;blocks?:unknown[]}>"
        );
    }

    #[test]
    fn a_file_is_a_module() {
        insta::assert_snapshot!(file(&read_text_file()));
    }

    #[test]
    fn every_form_of_schema_has_its_type() {
        let schema = json!({
            "type": "object",
            "required": ["kind", "tree", "with space"],
            "properties": {
                "kind": {"enum": ["a", "b\"c", 3, null]},
                "either": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "null"]}}]},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": false},
                "open": {"type": "object", "additionalProperties": {"type": "integer"}},
                "both": {"allOf": [{"$ref": "#/$defs/point"}, {"properties": {"z": {"type": "number"}}}]},
                "old": {"type": "string", "nullable": true},
                "tree": {"$ref": "#/$defs/node"},
                "with space": {"const": true},
                "never": false,
                "__proto__": {"type": "string"},
            },
            "$defs": {
                "point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
                "node": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}},
            },
        });
        let tool = tool("delete", "Many forms.", schema, None);
        insta::assert_snapshot!(format!("{}\n\n{}", signature(&tool), file(&tool)));
    }

    #[test]
    fn an_operation_of_the_house_takes_options() {
        let entry = crate::catalog::find("semantic/search").unwrap();
        let source = file(&Tool::of(entry));
        assert!(source.contains("callMCPTool(\"semantic/search\", input, options)"), "{source}");
        assert!(source.contains("@example await athena.semantic.search("), "{source}");
    }

    #[test]
    fn an_index_names_every_function() {
        let tools = [read_text_file(), tool("delete", "", json!({}), None)];
        assert_eq!(
            index("/mcp-servers/files", &tools),
            "export { read_text_file } from \"./read_text_file.ts\";\nexport { delete_ } from \"./delete.ts\";\n"
        );
        assert_eq!(
            namespace_index(["files", "my-git"]),
            "export * as files from \"./files/index.ts\";\nexport * as my_git from \"./my-git/index.ts\";\n"
        );
    }

    /// Takes comments and strings out, as a scanner of TypeScript would; what is left is code.
    fn code(source: &str) -> String {
        let mut out = String::new();
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            if let Some(comment) = rest.strip_prefix("/*") {
                rest = comment.split_once("*/").unwrap().1;
            } else if first == '"' {
                let mut escaped = false;
                let end = rest[1..].char_indices().find(|(_, c)| {
                    let done = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    done
                });
                rest = &rest[1 + end.unwrap().0 + 1..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        out
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(10_000))]

        /// A description, name, default or pattern that ends its comment or string in the generated file and goes on as code.
        #[test]
        fn stride_t13_nothing_hostile_leaves_its_comment_or_string(
            text in "(\\*/|/\\*|\\*|/|\\\\|\"|`|\\$\\{|\\}|\n|\r|\u{2028}|\u{202e}|//|EVIL\\(\\)|[a-z ]){0,40}"
        ) {
            let schema = json!({"type": "object", "description": text, "properties": {
                (text.clone()): {"type": "string", "description": text, "default": text, "pattern": text},
                "a": {"const": text}, "b": {"enum": [text, 1]}, "c": {"$ref": format!("#/$defs/{text}")}},
                "$defs": {(text.clone()): {"type": "object", "properties": {"again": {"$ref": format!("#/$defs/{text}")}}}}});
            let mut hostile = tool("quiet", &text, schema.clone(), Some(schema));
            hostile.example = Some(json!({"x": text}));
            let left = code(&file(&hostile)) + &code(&signature(&hostile));
            proptest::prop_assert!(!left.contains("EVIL()"), "{}", file(&hostile));
            proptest::prop_assert!(!left.contains('`'), "{}", file(&hostile));
        }
    }
}
