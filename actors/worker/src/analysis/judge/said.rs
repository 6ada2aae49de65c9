//! A call with what is known of its arguments.

use super::super::tree::{Call, Key, Kind, Node};
use super::super::value::{self, Seen, Value};
use std::collections::BTreeMap;

/// A call with what is known of its arguments.
pub(super) struct Said<'a> {
    pub(super) call: &'a Call,
    /// What it is a method of.
    pub(super) owner: &'a Seen,
    pub(super) args: &'a [Seen],
    pub(super) named: &'a BTreeMap<&'a str, Seen>,
    pub(super) at: u32,
    pub(super) awaited: bool,
}

impl<'a> Said<'a> {
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Seen> {
        self.args.iter().chain(self.named.values())
    }

    /// Texts among the arguments, with their names: also those in an object or a list.
    pub(super) fn strings(&self) -> impl Iterator<Item = (String, String)> {
        let mut out = Vec::new();
        for (node, seen) in self.call.args.iter().zip(self.args) {
            collect("", node, Some(seen), &mut out);
        }
        for (name, node) in &self.call.named {
            collect(name, node, self.named.get(name.as_str()), &mut out);
        }
        out.into_iter()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = (String, f64)> {
        let mut out = Vec::new();
        for arg in &self.call.args {
            if let Kind::Dict(fields) = &arg.kind {
                for (key, value) in fields {
                    if let (Key::Known(key), Kind::Number(n)) = (key, &value.kind) {
                        out.push((key.clone(), *n));
                    }
                }
            }
        }
        for (name, node) in &self.call.named {
            if let Kind::Number(n) = node.kind {
                out.push((name.clone(), n));
            }
        }
        out.into_iter()
    }
}

fn collect(name: &str, node: &Node, seen: Option<&Seen>, out: &mut Vec<(String, String)>) {
    if out.len() > 256 {
        return;
    }
    match (&node.kind, seen.map(|s| &s.value)) {
        (_, Some(Value::Text(text))) | (Kind::Text(text), _) => out.push((name.to_owned(), text.clone())),
        (_, Some(Value::List(items))) => {
            let parts: Vec<String> = items.iter().filter_map(value::as_text).collect();
            out.push((name.to_owned(), parts.join(" ")));
            out.extend(parts.into_iter().map(|part| (name.to_owned(), part)));
        }
        (Kind::Dict(fields), _) => {
            for (key, value) in fields {
                let key = if let Key::Known(key) = key { key.as_str() } else { "" };
                collect(key, value, None, out);
            }
        }
        (Kind::List(items), _) => items.iter().for_each(|item| collect(name, item, None, out)),
        (Kind::Join(parts), _) => parts.iter().for_each(|part| collect(name, part, None, out)),
        _ => {}
    }
}
