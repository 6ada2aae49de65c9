//! Tools as Python stubs: typed dictionaries and one function each, with keyword arguments.

use super::Tool;
use super::json_schema::{self, Field, Shape};
use super::names::{docstring, identifier, plain, type_name};
use serde_json::Value;
use std::fmt::Write;

/// The stub of a tool.
pub fn stub(tool: &Tool) -> String {
    let base = type_name(tool.name.rsplit('/').next().unwrap_or(&tool.name));
    let input = json_schema::read(&tool.input, &format!("{base}Input"));
    let output = json_schema::read(&tool.answers(), &format!("{base}Output"));
    let mut module = Module { declared: String::new(), prefix: base.clone(), count: 0 };
    for (name, shape) in input.named.iter().chain(&output.named) {
        module.declare(name, shape);
    }
    let answer = match &output.root {
        Shape::Object(fields, _) if !fields.is_empty() => {
            module.declare(&format!("{base}Output"), &output.root);
            format!("\"{base}Output\"")
        }
        root => module.annotation(root),
    };
    let root = match &input.root {
        Shape::Named(name) => input.named.get(name).unwrap_or(&input.root),
        root => root,
    };
    let parameters = module.parameters(root);
    let mut out = std::mem::take(&mut module.declared);
    let _ = write!(out, "def {}({parameters}) -> {answer}:\n    \"\"\"", tool.function());
    let example = tool.example.clone().unwrap_or_else(|| json_schema::example(&tool.input));
    let doc = format!(
        "{}\n\nRisk: {}.\nExample: {}({})",
        tool.description.trim(),
        tool.risk,
        tool.global(),
        keywords(&example)
    );
    let lines: Vec<String> =
        docstring(&doc).lines().map(|line| format!("    {line}").trim_end().to_string()).collect();
    out.push_str(lines.join("\n").trim_start());
    let _ = write!(out, "\n    \"\"\"\n    ...\n");
    out
}

/// A module of stubs: the functions of one server.
pub fn module<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut out = String::from(
        "from __future__ import annotations\nfrom typing import Any, Literal, NotRequired, TypedDict\n",
    );
    for tool in tools {
        out.push_str("\n\n");
        out.push_str(&stub(tool));
    }
    out
}

struct Module {
    declared: String,
    prefix: String,
    count: usize,
}

impl Module {
    /// The functional form, because any text may be a key.
    fn declare(&mut self, name: &str, shape: &Shape) {
        let line = match shape {
            Shape::Object(fields, _) if !fields.is_empty() => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| {
                        let annotation = self.annotation(&field.shape);
                        let annotation =
                            if field.required { annotation } else { format!("NotRequired[{annotation}]") };
                        format!("    {}: {annotation},\n", quoted(&field.name))
                    })
                    .collect();
                format!("{name} = TypedDict(\"{name}\", {{\n{}}})\n\n", fields.concat())
            }
            shape => format!("{name} = {}\n\n", self.annotation(shape)),
        };
        self.declared.push_str(&line);
    }

    fn annotation(&mut self, shape: &Shape) -> String {
        match shape {
            Shape::Any => "Any".into(),
            Shape::Never => "None".into(),
            Shape::Null => "None".into(),
            Shape::Boolean => "bool".into(),
            Shape::Integer => "int".into(),
            Shape::Number => "float".into(),
            Shape::String => "str".into(),
            Shape::Literal(value) => format!("Literal[{}]", python(value)),
            Shape::Array(item) => format!("list[{}]", self.annotation(item)),
            Shape::Tuple(places, None) if !places.is_empty() => {
                let places: Vec<String> = places.iter().map(|place| self.annotation(place)).collect();
                format!("tuple[{}]", places.join(", "))
            }
            Shape::Tuple(..) => "list[Any]".into(),
            Shape::Object(fields, rest) if fields.is_empty() => match rest {
                Some(rest) => format!("dict[str, {}]", self.annotation(rest)),
                None => "dict[str, Any]".into(),
            },
            Shape::Object(..) => {
                self.count += 1;
                let name = format!("{}Part{}", self.prefix, self.count);
                self.declare(&name, shape);
                format!("\"{name}\"")
            }
            Shape::Union(shapes) => {
                shapes.iter().map(|one| self.annotation(one)).collect::<Vec<_>>().join(" | ")
            }
            // Python has no intersection; the first part is the one with a name.
            Shape::All(shapes) => shapes.first().map_or("Any".into(), |first| self.annotation(first)),
            Shape::Named(name) => format!("\"{name}\""),
        }
    }

    fn parameters(&mut self, shape: &Shape) -> String {
        let Shape::Object(fields, _) = shape else { return "**arguments: Any".into() };
        let (plain, odd): (Vec<&Field>, Vec<&Field>) =
            fields.iter().partition(|field| identifier(&field.name) == field.name);
        let mut list: Vec<String> = Vec::new();
        for required in [true, false] {
            for field in plain.iter().filter(|field| field.required == required) {
                let annotation = self.annotation(&field.shape);
                let annotation = if required { annotation } else { format!("{annotation} | None = None") };
                list.push(format!("{}: {annotation}", field.name));
            }
        }
        if !list.is_empty() {
            list.insert(0, "*".into());
        }
        if !odd.is_empty() {
            // Names that are no identifiers are passed as `**{"a-b": 1}`.
            list.push("**more: Any".into());
        }
        list.join(", ")
    }
}

/// `{"a": 1}` as `a=1`.
fn keywords(example: &Value) -> String {
    let Some(fields) = example.as_object() else { return String::new() };
    let odd = fields.keys().any(|name| identifier(name) != *name);
    if odd {
        return format!("**{}", python(example));
    }
    fields.iter().map(|(name, value)| format!("{name}={}", python(value))).collect::<Vec<_>>().join(", ")
}

/// A JSON value as Python writes it.
fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::String(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}: {}", quoted(name), python(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// A string literal of Python: JSON's escapes are Python's too.
fn quoted(text: &str) -> String {
    Value::String(plain(text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::tool;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stub_has_keyword_arguments_and_typed_answers() {
        let tool = tool(
            "import",
            "Says \"\"\"hello\"\"\" and \\n.",
            json!({"type": "object", "required": ["path", "kind"], "properties": {
                "head": {"type": "integer"}, "path": {"type": "string"}, "kind": {"enum": ["a", 1, true, null]},
                "at": {"type": "object", "properties": {"x-y": {"type": "number"}}, "required": ["x-y"]}, "from": {"type": "string"}}}),
            Some(json!({"type": "object", "properties": {"content": {"type": ["string", "null"]}}})),
        );
        insta::assert_snapshot!(module([&tool]));
    }
}
