//! Tools as documentation for people: Markdown, HTML and plain JSON.

use super::json_schema::{self, Field, Shape};
use super::names::plain;
use super::{Effect, Tool};
use serde_json::{Value, json};
use std::fmt::Write;

/// The README of a server: what it offers, one line a tool.
pub fn readme<'a>(server: &str, tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut out = format!("# {}\n", inline(server));
    let mut section = String::new();
    for tool in tools {
        let group = tool.name.rsplit_once('/').map_or("", |(group, _)| group);
        if group != section {
            let _ = write!(out, "\n## {}\n", inline(group));
            section = group.into();
        }
        let _ = write!(out, "\n- `{}.ts` {}", tool.name, inline(&tool.summary()));
    }
    out.push('\n');
    out
}

/// The reference of tools: each with its fields, its answer and an example.
pub fn reference<'a>(title: &str, tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut out = format!("# {}\n", inline(title));
    let mut section = String::new();
    for tool in tools {
        let group = tool.op().split_once('/').map_or(String::new(), |(group, _)| group.to_string());
        if group != section {
            let _ = write!(out, "\n## {}\n", inline(&group));
            section = group;
        }
        let _ = write!(
            out,
            "\n### {}\n\n{}\n\nRisk {}, {}.\n",
            inline(&tool.op()),
            block(&tool.description),
            tool.risk,
            effect(tool)
        );
        let rows = fields(&tool.input);
        if !rows.is_empty() {
            out.push_str("\n| field | type | meaning |\n| --- | --- | --- |\n");
        }
        for field in rows {
            let (name, kind, meaning) = row(&field);
            let _ = writeln!(out, "| `{}` | `{}` | {} |", cell(&name), cell(&kind), cell(&meaning));
        }
        if let Some(output) = &tool.output {
            let _ = write!(out, "\nAnswers `{}`.\n", cell(&brief(&json_schema::read(output, "Answer").root)));
        }
        if let Some(example) = &tool.example {
            let _ = write!(out, "\n```ts\nawait {}({example})\n```\n", tool.global());
        }
    }
    out
}

/// The same as one HTML page without scripts.
pub fn html<'a>(title: &str, tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title></head>\n<body>\n<h1>{0}</h1>\n",
        escaped(title)
    );
    for tool in tools {
        let _ = write!(
            out,
            "<section id=\"{id}\"><h2>{id}</h2>\n<p>{}</p>\n<p>Risk {}, {}.</p>\n",
            escaped(tool.description.trim()),
            tool.risk,
            effect(tool),
            id = escaped(&tool.op()),
        );
        let rows = fields(&tool.input);
        if !rows.is_empty() {
            out.push_str("<table><tr><th>field</th><th>type</th><th>meaning</th></tr>\n");
            for field in rows {
                let (name, kind, meaning) = row(&field);
                let _ = writeln!(
                    out,
                    "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>",
                    escaped(&name),
                    escaped(&kind),
                    escaped(&meaning)
                );
            }
            out.push_str("</table>\n");
        }
        if let Some(example) = &tool.example {
            let _ = writeln!(
                out,
                "<pre>await {}({})</pre>",
                escaped(&tool.global()),
                escaped(&example.to_string())
            );
        }
        out.push_str("</section>\n");
    }
    out.push_str("</body></html>\n");
    out
}

/// The same for a program.
pub fn json<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> Value {
    tools
        .into_iter()
        .map(|tool| {
            json!({
                "op": tool.op(), "path": format!("{}.ts", tool.path()), "description": tool.description, "risk": tool.risk,
                "effect": tool.effect(), "input": tool.input, "output": tool.output, "example": tool.example,
            })
        })
        .collect()
}

fn effect(tool: &Tool) -> &'static str {
    match tool.effect() {
        Effect::Read => "reads only",
        Effect::Idempotent => "changes something, the same again when repeated",
        Effect::Write => "changes something",
    }
}

fn fields(schema: &Value) -> Vec<Field> {
    let types = json_schema::read(schema, "Input");
    let root = match &types.root {
        Shape::Named(name) => types.named.get(name).cloned().unwrap_or(Shape::Any),
        root => root.clone(),
    };
    match root {
        Shape::Object(fields, _) => fields,
        _ => Vec::new(),
    }
}

fn row(field: &Field) -> (String, String, String) {
    let name = if field.required { field.name.clone() } else { format!("{}?", field.name) };
    let meaning = [field.doc.as_str(), field.note.as_str()]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>();
    (plain(&name), brief(&field.shape), plain(&meaning.join("; ")))
}

/// A type in a few words.
fn brief(shape: &Shape) -> String {
    match shape {
        Shape::Any => "any".into(),
        Shape::Never => "never".into(),
        Shape::Null => "null".into(),
        Shape::Boolean => "boolean".into(),
        Shape::Integer => "integer".into(),
        Shape::Number => "number".into(),
        Shape::String => "string".into(),
        Shape::Literal(value) => value.to_string(),
        Shape::Array(item) => format!("{}[]", brief(item)),
        Shape::Tuple(places, _) => format!("[{}]", places.iter().map(brief).collect::<Vec<_>>().join(", ")),
        Shape::Object(fields, _) if fields.is_empty() => "object".into(),
        Shape::Object(fields, _) => {
            let names: Vec<String> = fields
                .iter()
                .map(|field| format!("{}{}", field.name, if field.required { "" } else { "?" }))
                .collect();
            format!("{{{}}}", names.join(", "))
        }
        Shape::Union(shapes) => shapes.iter().map(brief).collect::<Vec<_>>().join(" | "),
        Shape::All(shapes) => shapes.iter().map(brief).collect::<Vec<_>>().join(" & "),
        Shape::Named(name) => name.clone(),
    }
}

/// Text on one line of Markdown that cannot start HTML, a link or code.
fn inline(text: &str) -> String {
    let line = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('<', "&lt;").replace('[', "\\[").replace('`', "'")
}

/// As [`inline`], but with line breaks; no line is a heading, a fence or a rule.
fn block(text: &str) -> String {
    let lines = plain(text.trim());
    lines
        .lines()
        .map(|line| {
            let line = line.trim().replace('<', "&lt;").replace("](", "]\\(").replace("```", "'''");
            if line.starts_with(['#', '>', '=', '~']) || line.starts_with("---") {
                format!("\\{line}")
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    inline(text).replace('|', "\\|")
}

fn escaped(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::tool;
    use super::*;

    fn hostile() -> Tool {
        tool(
            "read",
            "# Not a heading\n<script>alert(1)</script> [x](javascript:1) ```",
            json!({"type": "object", "required": ["a|b"], "properties": {"a|b": {"type": "string", "description": "x | <b>"}, "n": {"type": "integer", "default": 3}}}),
            Some(json!({"type": "object", "properties": {"content": {"type": "string"}}})),
        )
    }

    #[test]
    fn documentation_is_inert() {
        let text = reference("Tools", [&hostile()]);
        insta::assert_snapshot!(text);
        let page = html("<T>", [&hostile()]);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(
            page.contains("<td><code>n?</code></td><td><code>integer</code></td><td>default 3</td>"),
            "{page}"
        );
    }

    #[test]
    fn a_readme_lists_every_tool() {
        let entries: Vec<Tool> = crate::catalog::entries().map(Tool::of).collect();
        let text = readme("athena", &entries);
        assert!(
            text.contains("## semantic") && text.contains("- `semantic/search.ts` Search facts"),
            "{text}"
        );
        assert_eq!(json(&entries).as_array().unwrap().len(), entries.len());
    }
}
