//! Arguments and answers against a tool's schemas.

use athena_schemas::refusal::Refusal;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// A schema that can be checked in time linear in the value.
#[derive(Debug)]
pub struct Checker(Option<Validator>);

impl Checker {
    /// Compiles a schema. One that cannot be compiled, or that could make checking explode (branches within a recursion, or
    /// too many of them), checks nothing: a server must not be able to stop Athena with a schema.
    pub fn new(schema: &Value) -> Self {
        if !Branching::of(schema).harmless() {
            return Self(None);
        }
        // Patterns run in linear time; no reference leaves the document.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
            .offline()
            .build(schema);
        Self(validator.ok())
    }

    /// Whether anything is checked.
    pub fn checks(&self) -> bool {
        self.0.is_some()
    }

    /// The first few misfits: path and reason.
    pub fn misfits(&self, value: &Value) -> Vec<(String, String)> {
        let Some(validator) = &self.0 else { return Vec::new() };
        validator
            .iter_errors(value)
            .take(3)
            .map(|error| (dotted(&error.instance_path().to_string()), short(&error.masked().to_string())))
            .collect()
    }

    /// Checks the arguments of a call.
    ///
    /// # Errors
    /// With the path of the first misfit; all of them in the message.
    pub fn arguments(&self, op: &str, value: &Value) -> Result<(), Refusal> {
        let misfits = self.misfits(value);
        let Some((path, _)) = misfits.first() else { return Ok(()) };
        let all: Vec<String> = misfits
            .iter()
            .map(|(path, why)| if path.is_empty() { why.clone() } else { format!("{path}: {why}") })
            .collect();
        let refusal = Refusal::invalid(format!("{op}: {}", all.join("; ")))
            .hint(format!("readToolDefinition(\"{op}\") shows its arguments"));
        Err(if path.is_empty() { refusal } else { refusal.at(path.clone()) })
    }
}

/// `/entities/0/name` as `entities[0].name`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    path
}

fn short(text: &str) -> String {
    super::answer::cut(text, 300).to_string()
}

/// How often a schema can branch.
struct Branching<'a> {
    document: &'a Value,
    nodes: u64,
    branches: bool,
    recursive: bool,
}

impl<'a> Branching<'a> {
    fn of(document: &'a Value) -> Self {
        let mut found = Self { document, nodes: 0, branches: false, recursive: false };
        found.visit(document, &mut Vec::new());
        found
    }

    fn harmless(&self) -> bool {
        self.nodes < 100_000 && !(self.recursive && self.branches)
    }

    /// Walks the schema as a validator would, references followed.
    fn visit(&mut self, schema: &'a Value, within: &mut Vec<&'a str>) {
        self.nodes += 1;
        if self.nodes >= 100_000 || within.len() > 64 {
            self.nodes = self.nodes.max(100_000);
            return;
        }
        match schema {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("$ref" | "$dynamicRef", Value::String(pointer)) => self.follow(pointer, within),
                        ("$defs" | "definitions" | "enum" | "const" | "default" | "examples", _) => {}
                        ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                            self.branches |= list.len() > 1;
                            list.iter().for_each(|one| self.visit(one, within));
                        }
                        (
                            "if"
                            | "not"
                            | "dependentSchemas"
                            | "unevaluatedProperties"
                            | "unevaluatedItems"
                            | "contains",
                            value,
                        ) => {
                            self.branches = true;
                            self.visit(value, within);
                        }
                        (_, value) => self.visit(value, within),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.visit(item, within)),
            _ => {}
        }
    }

    fn follow(&mut self, pointer: &'a str, within: &mut Vec<&'a str>) {
        if within.contains(&pointer) || pointer == "#" {
            self.recursive = true;
            return;
        }
        let target = pointer.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer));
        if let Some(target) = target {
            within.push(pointer);
            self.visit(target, within);
            within.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn a_misfit_is_named_by_its_path() {
        let schema = json!({"type": "object", "required": ["entities"], "properties": {"entities": {"type": "array", "items":
            {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}});
        let checker = Checker::new(&schema);
        assert!(checker.arguments("s/t", &json!({"entities": [{"name": "x"}]})).is_ok());
        let refusal =
            checker.arguments("s/t", &json!({"entities": [{"name": "x"}, {"name": 7}]})).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("entities[1].name"));
        let refusal = checker.arguments("s/t", &json!({})).unwrap_err();
        assert!(refusal.message.contains("entities"), "{refusal}");
        assert!(
            !checker
                .arguments("s/t", &json!({"entities": "secret-value"}))
                .unwrap_err()
                .message
                .contains("secret")
        );
    }

    #[test]
    fn recursion_is_checked_unless_it_branches() {
        let list = json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}, "x": {"type": "number"}}}}});
        let checker = Checker::new(&list);
        assert_eq!(checker.misfits(&json!({"next": {"next": {"x": "y"}}}))[0].0, "next.next.x");
        let bomb = json!({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"items": {"$ref": "#/$defs/n"}}, {"items": {"$ref": "#/$defs/n"}}]}}});
        assert!(!Checker::new(&bomb).checks());
    }

    #[test]
    fn bombs_and_strange_schemas_check_nothing() {
        let mut defs = Map::new();
        for n in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            defs.insert(format!("d{n}"), json!({"allOf": [next.clone(), next]}));
        }
        defs.insert("d40".into(), json!({"type": "string"}));
        assert!(!Checker::new(&json!({"$ref": "#/$defs/d0", "$defs": defs})).checks());
        for odd in [
            json!({"$ref": "http://127.0.0.1:1/x"}),
            json!({"type": 7}),
            json!({"pattern": "(?=x)"}),
            json!(3),
        ] {
            assert_eq!(Checker::new(&odd).misfits(&json!("x")), []);
        }
        let slow = Checker::new(&json!({"type": "string", "pattern": "^(a+)+$"}));
        assert_eq!(slow.misfits(&json!(format!("{}b", "a".repeat(5_000)))).len(), 1);
    }
}
