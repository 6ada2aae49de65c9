//! Values put together: texts that are joined, sums, objects with a credential in them.

use super::super::texts;
use super::super::tree::{Key, Node, Operator};
use super::super::value::{self, Seen, Value};
use super::Judge;
use athena_schemas::risk::Risk::{Critical, High};

impl Judge {
    pub(super) fn text(&mut self, text: &str, at: u32) {
        if texts::instructs(text) {
            self.note(
                High,
                "hidden-instruction",
                at,
                "a text speaks to a model or hides something from people",
            );
        }
        if texts::credential("", text) {
            self.note(High, "hard-coded-credential", at, "a key is written into the code");
        }
        if self.is_python() && text.contains('{') && (text.contains(".__") || text.contains("[__")) {
            self.note(Critical, "introspection", at, "a format string reaches into the interpreter");
        }
    }

    pub(super) fn dict(&mut self, fields: &[(Key, Node)]) -> Seen {
        let mut all = Seen::from(Value::Constant);
        all.value = Value::Unknown;
        for (key, field) in fields {
            let name = match key {
                Key::Known(name) => Some(name.clone()),
                Key::Computed(inner) => self.value(inner).text().map(str::to_owned),
                Key::Spread => None,
            };
            let seen = self.value(field);
            if let (Some(name), Some(text)) = (&name, seen.text()) {
                self.credential(name, text, field.at);
            }
            if name.as_deref() == Some("__proto__") {
                self.note(Critical, "prototype", field.at, "__proto__ changes what an object is");
            }
            all = all.with(&seen);
        }
        all
    }

    pub(super) fn credential(&mut self, name: &str, text: &str, at: u32) {
        if texts::credential(name, text) {
            self.note(
                High,
                "hard-coded-credential",
                at,
                format!("a value for {name} is written into the code"),
            );
        }
    }

    pub(super) fn join(&mut self, parts: &[Node], at: u32) -> Seen {
        let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
        let texts: Option<Vec<String>> = seen.iter().map(|s| value::as_text(&s.value)).collect();
        let lists = seen.iter().all(|s| matches!(s.value, Value::List(_)));
        let value = match texts {
            Some(texts) if texts.iter().map(String::len).sum::<usize>() <= 16 << 10 => {
                let text = texts.concat();
                self.text(&text, at);
                Value::Text(text)
            }
            _ if lists => Value::List(
                seen.iter()
                    .flat_map(|s| if let Value::List(items) = &s.value { items.clone() } else { Vec::new() })
                    .collect(),
            ),
            _ => Value::Unknown,
        };
        seen.iter().fold(Seen::from(value), Seen::with)
    }

    pub(super) fn binary(&mut self, operator: Operator, left: &Node, right: &Node, at: u32) -> Seen {
        let a = self.value(left);
        let b = if operator == Operator::InstanceOf { self.look(right) } else { self.value(right) };
        let value = match (operator, &a.value, &b.value) {
            (Operator::Power, Value::Number(a), Value::Number(b)) => Value::Number(a.powf(*b)),
            (Operator::Times, Value::Number(a), Value::Number(b)) => Value::Number(a * b),
            (Operator::Times, Value::List(_) | Value::Text(_), Value::Number(n))
            | (Operator::Times, Value::Number(n), Value::List(_) | Value::Text(_)) => {
                if *n >= 1e8 {
                    self.note(High, "denial-of-service", at, "this fills the memory");
                }
                Value::Unknown
            }
            (Operator::Modulo, Value::Text(format), other) => {
                let arg = match other {
                    Value::List(items) => items.iter().map(value::as_text).collect::<Option<Vec<_>>>(),
                    other => value::as_text(other).map(|text| vec![text]),
                };
                arg.map_or(Value::Unknown, |args| {
                    Value::Text(args.iter().fold(format.clone(), |all, arg| all.replacen("%s", arg, 1)))
                })
            }
            _ => Value::Unknown,
        };
        if operator == Operator::Compare {
            return Value::Constant.into();
        }
        Seen::from(value).with(&a).with(&b)
    }
}
