//! JSON Schema 2020-12 (and the older forms servers really send) as a small model of types, for TypeScript and Python.
//!
//! Schemas of upstream servers are hostile: references may be cyclic, remote or explode exponentially. Three limits hold:
//! [`MAX_DEPTH`] nested levels, [`MAX_NODES`] nodes in all, and only references within the document. Beyond them everything
//! is [`Shape::Any`], which is true of every value.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Levels of nesting that are looked at.
pub const MAX_DEPTH: usize = 32;
/// Nodes of one schema that are looked at.
pub const MAX_NODES: usize = 5_000;
/// Alternatives of one enum or union that are looked at.
const MAX_ALTERNATIVES: usize = 200;

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any value.
    Any,
    /// No value.
    Never,
    /// `null`.
    Null,
    /// A boolean.
    Boolean,
    /// A number that is whole.
    Integer,
    /// A number.
    Number,
    /// A text.
    String,
    /// Exactly this value.
    Literal(Value),
    /// A list.
    Array(Box<Shape>),
    /// A list with known places, and what follows them.
    Tuple(Vec<Shape>, Option<Box<Shape>>),
    /// An object: its fields, and what others may be there.
    Object(Vec<Field>, Option<Box<Shape>>),
    /// One of them.
    Union(Vec<Shape>),
    /// All of them at once.
    All(Vec<Shape>),
    /// A named type of [`Types::named`].
    Named(String),
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name, any text.
    pub name: String,
    /// Its type.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What it means, in the server's words.
    pub doc: String,
    /// Default, bounds and format, such as `default 10, at least 1`.
    pub note: String,
}

/// A schema as types.
#[derive(Debug, Clone, PartialEq)]
pub struct Types {
    /// The whole.
    pub root: Shape,
    /// The types it refers to: recursive ones and those used more than once.
    pub named: BTreeMap<String, Shape>,
}

/// Reads a schema. `prefix` begins the names of its named types. It never fails: what it does not understand is any value.
pub fn read(schema: &Value, prefix: &str) -> Types {
    let mut reader =
        Reader { document: schema, prefix, names: BTreeMap::new(), named: BTreeMap::new(), nodes: 0 };
    let root = reader.shape(schema, 0);
    // A reference to the whole document names the root.
    let root = match reader.names.get("#") {
        Some(name) => {
            // A schema that is nothing but itself says nothing.
            let itself = root == Shape::Named(name.clone());
            reader.named.insert(name.clone(), if itself { Shape::Any } else { root });
            Shape::Named(name.clone())
        }
        None => root,
    };
    let mut types = Types { root, named: reader.named };
    types.inline_used_once();
    types
}

struct Reader<'a> {
    document: &'a Value,
    prefix: &'a str,
    /// Pointer to name, for references met so far.
    names: BTreeMap<String, String>,
    named: BTreeMap<String, Shape>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn shape(&mut self, schema: &Value, depth: usize) -> Shape {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Shape::Any;
        }
        let schema = match schema {
            Value::Bool(false) => return Shape::Never,
            Value::Object(schema) => schema,
            _ => return Shape::Any,
        };
        let mut parts = Vec::new();
        if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
            parts.push(self.reference(pointer, depth));
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(list) = schema.get(key).and_then(Value::as_array) {
                let shapes =
                    list.iter().take(MAX_ALTERNATIVES).map(|one| self.shape(one, depth + 1)).collect();
                parts.push(union(shapes));
            }
        }
        for one in schema.get("allOf").and_then(Value::as_array).into_iter().flatten().take(MAX_ALTERNATIVES)
        {
            parts.push(self.shape(one, depth + 1));
        }
        parts.push(self.own(schema, depth));
        let shape = intersection(parts);
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            union(vec![shape, Shape::Null])
        } else {
            shape
        }
    }

    /// What the keywords of this very node say.
    fn own(&mut self, schema: &Map<String, Value>, depth: usize) -> Shape {
        if let Some(value) = schema.get("const") {
            return literal(value);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return union(values.iter().take(MAX_ALTERNATIVES).map(literal).collect());
        }
        match schema.get("type") {
            Some(Value::String(name)) => self.typed(name, schema, depth),
            Some(Value::Array(names)) => {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).take(8).collect();
                union(names.into_iter().map(|name| self.typed(name, schema, depth)).collect())
            }
            _ if schema.contains_key("properties") || schema.contains_key("additionalProperties") => {
                self.object(schema, depth)
            }
            _ if schema.contains_key("items") || schema.contains_key("prefixItems") => {
                self.array(schema, depth)
            }
            _ => Shape::Any,
        }
    }

    fn typed(&mut self, name: &str, schema: &Map<String, Value>, depth: usize) -> Shape {
        match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "integer" => Shape::Integer,
            "number" => Shape::Number,
            "string" => Shape::String,
            "array" => self.array(schema, depth),
            "object" => self.object(schema, depth),
            _ => Shape::Any,
        }
    }

    fn array(&mut self, schema: &Map<String, Value>, depth: usize) -> Shape {
        let old_tuple = schema.get("items").and_then(Value::as_array);
        let places = schema.get("prefixItems").and_then(Value::as_array).or(old_tuple);
        let rest = if old_tuple.is_some() { schema.get("additionalItems") } else { schema.get("items") };
        match places {
            Some(places) => {
                let places =
                    places.iter().take(MAX_ALTERNATIVES).map(|one| self.shape(one, depth + 1)).collect();
                let rest = match rest {
                    Some(Value::Bool(false)) => None,
                    Some(rest) => Some(Box::new(self.shape(rest, depth + 1))),
                    None => Some(Box::new(Shape::Any)),
                };
                Shape::Tuple(places, rest)
            }
            None => Shape::Array(Box::new(rest.map_or(Shape::Any, |rest| self.shape(rest, depth + 1)))),
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Shape {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut fields = Vec::new();
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            fields.push(Field {
                name: name.clone(),
                shape: self.shape(field, depth + 1),
                required: required.contains(&name.as_str()),
                doc: field.get("description").and_then(Value::as_str).unwrap_or_default().trim().to_string(),
                note: note(field),
            });
        }
        let mut others: Vec<Shape> = Vec::new();
        for (_, pattern) in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
            others.push(self.shape(pattern, depth + 1));
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {}
            Some(other @ Value::Object(_)) => others.push(self.shape(other, depth + 1)),
            _ if fields.is_empty() && others.is_empty() => others.push(Shape::Any),
            _ => {}
        }
        Shape::Object(fields, (!others.is_empty()).then(|| Box::new(union(others))))
    }

    fn reference(&mut self, pointer: &str, depth: usize) -> Shape {
        if let Some(name) = self.names.get(pointer) {
            return Shape::Named(name.clone());
        }
        let Some(target) = self.resolve(pointer) else { return Shape::Any };
        let name = self.name(pointer);
        self.names.insert(pointer.into(), name.clone());
        if pointer != "#" {
            let shape = self.shape(target, depth + 1);
            self.named.insert(name.clone(), shape);
        }
        Shape::Named(name)
    }

    fn resolve(&self, pointer: &str) -> Option<&'a Value> {
        let fragment = pointer.strip_prefix('#')?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.document.pointer(&percent_decoded(fragment));
        }
        let defs = ["$defs", "definitions"].into_iter().filter_map(|key| self.document.get(key)?.as_object());
        defs.flatten()
            .map(|(_, def)| def)
            .find(|def| def.get("$anchor").and_then(Value::as_str) == Some(fragment))
    }

    /// A name for what a pointer names: its last part, with the prefix where that is taken.
    fn name(&self, pointer: &str) -> String {
        let last = pointer.rsplit('/').next().unwrap_or_default().trim_start_matches('#');
        if last.is_empty() {
            return self.prefix.to_string();
        }
        let base = super::names::type_name(last);
        let own = format!("{}{base}", self.prefix);
        let free = |name: &String| name != self.prefix && !self.names.values().any(|other| other == name);
        let numbered = (2..).map(|n| format!("{own}{n}"));
        [base, own.clone()].into_iter().chain(numbered).find(free).unwrap_or(own)
    }
}

impl Types {
    /// Puts types in place that are small or used once, so that only shared and recursive ones keep a name.
    fn inline_used_once(&mut self) {
        for name in self.named.keys().cloned().collect::<Vec<_>>() {
            let uses =
                self.named.values().chain([&self.root]).map(|shape| count(shape, &name)).sum::<usize>();
            let Some(shape) = self.named.get(&name) else { continue };
            if count(shape, &name) > 0 || (uses > 1 && !small(shape)) {
                continue;
            }
            let Some(shape) = self.named.remove(&name) else { continue };
            self.named.values_mut().chain([&mut self.root]).for_each(|other| replace(other, &name, &shape));
        }
    }
}

/// Small enough to be spelt out at each use. Bounded in nodes, or a chain of such types would explode.
fn small(shape: &Shape) -> bool {
    fn nodes(shape: &Shape) -> usize {
        match shape {
            Shape::Named(_) | Shape::All(_) | Shape::Tuple(..) => 100,
            Shape::Object(fields, _) if !fields.is_empty() => 100,
            shape => 1 + shape.children().into_iter().map(nodes).sum::<usize>(),
        }
    }
    nodes(shape) <= 6
}

impl Shape {
    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Array(inner) => vec![inner],
            Self::Tuple(places, rest) => places.iter().chain(rest.as_deref()).collect(),
            Self::Object(fields, rest) => {
                fields.iter().map(|field| &field.shape).chain(rest.as_deref()).collect()
            }
            Self::Union(shapes) | Self::All(shapes) => shapes.iter().collect(),
            _ => Vec::new(),
        }
    }

    fn children_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Array(inner) => vec![inner],
            Self::Tuple(places, rest) => places.iter_mut().chain(rest.as_deref_mut()).collect(),
            Self::Object(fields, rest) => {
                fields.iter_mut().map(|field| &mut field.shape).chain(rest.as_deref_mut()).collect()
            }
            Self::Union(shapes) | Self::All(shapes) => shapes.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}

fn count(shape: &Shape, name: &str) -> usize {
    match shape {
        Shape::Named(other) => usize::from(other == name),
        shape => shape.children().into_iter().map(|child| count(child, name)).sum(),
    }
}

fn replace(shape: &mut Shape, name: &str, by: &Shape) {
    match shape {
        Shape::Named(other) if other == name => *shape = by.clone(),
        shape => shape.children_mut().into_iter().for_each(|child| replace(child, name, by)),
    }
}

/// A union, flat, without duplicates.
fn union(shapes: Vec<Shape>) -> Shape {
    let mut flat: Vec<Shape> = Vec::new();
    for shape in shapes {
        match shape {
            Shape::Any => return Shape::Any,
            Shape::Never => {}
            Shape::Union(inner) => inner.into_iter().for_each(|one| push_new(&mut flat, one)),
            one => push_new(&mut flat, one),
        }
    }
    match flat.len() {
        0 => Shape::Never,
        1 => flat.pop().unwrap_or(Shape::Never),
        _ => Shape::Union(flat),
    }
}

fn push_new(list: &mut Vec<Shape>, shape: Shape) {
    if !list.contains(&shape) {
        list.push(shape);
    }
}

/// All at once: objects are merged, what says nothing is left out.
fn intersection(parts: Vec<Shape>) -> Shape {
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = None;
    let mut objects = 0;
    let mut others = Vec::new();
    for part in parts {
        match part {
            Shape::Any => {}
            Shape::Object(more, other) => {
                objects += 1;
                fields.retain(|field| !more.iter().any(|new| new.name == field.name));
                fields.extend(more);
                rest = rest.or(other);
            }
            other => push_new(&mut others, other),
        }
    }
    // An object of which nothing is known adds nothing to a type that is named or listed beside it.
    if objects > 0 && !(fields.is_empty() && !others.is_empty()) {
        if !fields.is_empty() && rest.as_deref() == Some(&Shape::Any) {
            rest = None;
        }
        others.push(Shape::Object(fields, rest));
    }
    match others.len() {
        0 => Shape::Any,
        1 => others.pop().unwrap_or(Shape::Any),
        _ => Shape::All(others),
    }
}

fn literal(value: &Value) -> Shape {
    match value {
        Value::Null => Shape::Null,
        Value::Array(_) | Value::Object(_) => Shape::Any,
        scalar => Shape::Literal(scalar.clone()),
    }
}

/// Default, bounds and format of a field in words.
fn note(schema: &Value) -> String {
    let mut notes = Vec::new();
    for (key, words) in [
        ("default", "default"),
        ("format", "format"),
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
        ("minLength", "characters at least"),
        ("maxLength", "characters at most"),
        ("minItems", "items at least"),
        ("maxItems", "items at most"),
        ("pattern", "matches"),
    ] {
        match schema.get(key) {
            None | Some(Value::Object(_)) => {}
            Some(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                if text.len() <= 80 {
                    notes.push(format!("{words} {text}"));
                }
            }
        }
    }
    notes.join(", ")
}

/// A JSON pointer in a URI fragment (RFC 6901, section 6): `%25` is `%`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An example of the arguments a schema asks for: required fields only, with their example, default, first alternative or a
/// stand-in.
pub fn example(schema: &Value) -> Value {
    let types = read(schema, "T");
    sample(schema, &types, &types.root, 0)
}

fn sample(schema: &Value, types: &Types, shape: &Shape, depth: usize) -> Value {
    let given =
        schema.pointer("/examples/0").or_else(|| schema.get("example")).or_else(|| schema.get("default"));
    if let Some(value) = given.filter(|value| value.to_string().len() <= 200) {
        return value.clone();
    }
    match shape {
        _ if depth > 4 => Value::Null,
        Shape::Object(fields, _) => fields
            .iter()
            .filter(|field| field.required)
            .take(8)
            .map(|field| {
                let below =
                    schema.get("properties").and_then(|all| all.get(&field.name)).unwrap_or(&Value::Null);
                (field.name.clone(), sample(below, types, &field.shape, depth + 1))
            })
            .collect::<Map<_, _>>()
            .into(),
        Shape::Array(inner) => {
            vec![sample(schema.get("items").unwrap_or(&Value::Null), types, inner, depth + 1)].into()
        }
        Shape::Tuple(places, _) => {
            places.iter().map(|one| sample(&Value::Null, types, one, depth + 1)).collect()
        }
        Shape::Union(shapes) | Shape::All(shapes) => {
            shapes.first().map_or(Value::Null, |one| sample(&Value::Null, types, one, depth + 1))
        }
        Shape::Named(name) => {
            types.named.get(name).map_or(Value::Null, |named| sample(&Value::Null, types, named, depth + 1))
        }
        Shape::Literal(value) => value.clone(),
        Shape::Boolean => true.into(),
        Shape::Integer | Shape::Number => 1.into(),
        Shape::String => "…".into(),
        Shape::Any | Shape::Never | Shape::Null => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn recursion_keeps_its_name_and_what_is_used_once_does_not() {
        let types = read(
            &json!({
                "type": "object",
                "properties": {"tree": {"$ref": "#/$defs/node"}, "once": {"$ref": "#/$defs/leaf"}},
                "$defs": {
                    "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}},
                    "leaf": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
                },
            }),
            "In",
        );
        assert_eq!(types.named.keys().collect::<Vec<_>>(), ["Node"]);
        let Shape::Object(fields, None) = &types.root else { panic!("{:?}", types.root) };
        assert_eq!(fields[0].shape, Shape::Named("Node".into()));
        assert!(matches!(&fields[1].shape, Shape::Object(leaf, None) if leaf[0].required));
    }

    #[test]
    fn a_reference_to_the_whole_names_the_whole() {
        let types = read(&json!({"type": "object", "properties": {"again": {"$ref": "#"}}}), "In");
        assert_eq!(types.root, Shape::Named("In".into()));
        assert!(types.named.contains_key("In"));
    }

    #[test]
    fn remote_broken_and_cyclic_references_are_any_value() {
        for pointer in ["https://example.com/s.json", "#/nowhere", "#missing", "file:///etc/passwd"] {
            assert_eq!(read(&json!({"$ref": pointer}), "T").root, Shape::Any, "{pointer}");
        }
        let types = read(
            &json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            "T",
        );
        assert!(!types.named.is_empty() || types.root == Shape::Any, "{types:?}");
    }

    #[test]
    fn an_exploding_schema_stays_small() {
        let mut defs = Map::new();
        for n in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            defs.insert(format!("d{n}"), json!({"anyOf": [{"type": "array", "items": next.clone()}, {"type": "object", "properties": {"a": next.clone(), "b": next}}]}));
        }
        defs.insert("d60".into(), json!({"type": "string"}));
        let types = read(&json!({"$ref": "#/$defs/d0", "$defs": defs}), "T");
        assert!(format!("{types:?}").len() < 100_000);
        let mut deep = json!({"type": "string"});
        for _ in 0..100 {
            deep = json!({"type": "array", "items": deep});
        }
        assert!(format!("{:?}", read(&deep, "T")).len() < 2_000);
        let wide: Map<String, Value> =
            (0..20_000).map(|n| (format!("f{n}"), json!({"type": "string"}))).collect();
        let Shape::Object(fields, _) = read(&json!({"type": "object", "properties": wide}), "T").root else {
            panic!()
        };
        assert_eq!(fields.iter().filter(|field| field.shape == Shape::String).count(), MAX_NODES - 1);
    }

    #[test]
    fn an_example_fills_what_is_required() {
        let schema = json!({"type": "object", "required": ["a", "b", "c"], "properties": {
            "a": {"type": "string"}, "b": {"enum": ["x", "y"]}, "c": {"type": "array", "items": {"type": "number", "default": 7}},
            "d": {"type": "string"}}});
        assert_eq!(example(&schema), json!({"a": "…", "b": "x", "c": [7]}));
    }

    fn schema() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(json!({"type": "string"})),
            Just(json!({"$ref": "#"})),
            Just(json!({"$ref": "#/properties/a"})),
            Just(json!({"type": ["integer", "null"]})),
            Just(json!({"enum": ["a", 1, null, "*/"]})),
            Just(json!(false)),
            Just(json!("not a schema")),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|s| json!({"type": "array", "items": s})),
                proptest::collection::vec(inner.clone(), 0..3).prop_map(|s| json!({"anyOf": s})),
                proptest::collection::vec(inner.clone(), 0..3)
                    .prop_map(|s| json!({"allOf": s, "properties": {"z": true}})),
                (inner.clone(), inner).prop_map(
                    |(a, b)| json!({"type": "object", "properties": {"a": a, "b-c": b}, "required": ["a"]})
                ),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn any_schema_is_read_and_every_name_is_defined(schema in schema()) {
            let types = read(&schema, "T");
            let mut wanted: Vec<&Shape> = types.named.values().chain([&types.root]).collect();
            while let Some(shape) = wanted.pop() {
                if let Shape::Named(name) = shape {
                    proptest::prop_assert!(types.named.contains_key(name), "{name} in {types:?}");
                }
                wanted.extend(shape.children());
            }
            let _ = example(&schema);
        }
    }
}
