//! The catalogue: every layer there is, and with them every operation, in one list.

use crate::operation::{Audience, Entry};
use crate::refusal::{Refusal, nearest};
use serde_json::Value;

/// Lists the layers once; enums over all of them, the parser and the rows follow.
macro_rules! catalog {
    ($($layer:ident $Layer:ident),* $(,)?) => {
        /// A command of any layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "one variant a layer; commands are short-lived")]
        pub enum Command { $($Layer(crate::layers::$layer::Command)),* }

        /// A query of any layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, reason = "one variant a layer")]
        pub enum Query { $($Layer(crate::layers::$layer::Query)),* }

        impl Query {
            /// `layer/name` of the query.
            pub fn id(&self) -> &'static str {
                match self { $(Self::$Layer(query) => query.id()),* }
            }
        }

        /// A service of any layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "one variant a layer; calls are short-lived")]
        pub enum Service { $($Layer(crate::layers::$layer::Service)),* }

        /// A parsed call of any layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "named by their sides; calls are short-lived")]
        pub enum Call { Command(Command), Query(Query), Service(Service) }

        /// The layers, in the order of the catalogue.
        pub const LAYERS: &[&str] = &[$(crate::layers::$layer::LAYER),*];

        /// Every row, layer by layer.
        pub fn entries() -> impl Iterator<Item = &'static Entry> {
            [$(crate::layers::$layer::ENTRIES),*].into_iter().flatten()
        }

        /// Parses a call.
        ///
        /// # Errors
        /// When there is no such operation (with the nearest names) or its parameters do not fit (with the path).
        pub fn parse(op: &str, params: Value) -> Result<Call, Refusal> {
            let parsed = match op.split_once('/') {
                $(Some((crate::layers::$layer::LAYER, name)) => crate::layers::$layer::parse(name, params).map(|call| {
                    call.map(|call| match call {
                        crate::layers::$layer::Call::Command(command) => Call::Command(Command::$Layer(command)),
                        crate::layers::$layer::Call::Query(query) => Call::Query(Query::$Layer(query)),
                        crate::layers::$layer::Call::Service(service) => Call::Service(Service::$Layer(service)),
                    })
                }),)*
                _ => None,
            };
            parsed.unwrap_or_else(|| Err(unknown(op)))
        }

        /// The read side of every layer.
        pub trait AllQueries: $(crate::layers::$layer::Queries +)* {
            /// Answers any query.
            ///
            /// # Errors
            /// When the query is refused.
            fn answer_any(&self, cx: &crate::context::Context, query: Query) -> Result<Value, Refusal> {
                match query { $(Query::$Layer(query) => crate::layers::$layer::Queries::answer(self, cx, query)),* }
            }
        }
        impl<T: $(crate::layers::$layer::Queries +)*> AllQueries for T {}
    };
}

catalog! {
    episodic Episodic,
    semantic Semantic,
    procedural Procedural,
    prospective Prospective,
    graph Graph,
    meta Meta,
    consolidation Consolidation,
    rag Rag,
    store Store,
    run Run,
    approval Approval,
    privacy Privacy,
    upstream Upstream,
}

/// The row of an operation.
pub fn find(op: &str) -> Option<&'static Entry> {
    let (layer, name) = op.split_once('/')?;
    entries().find(|entry| entry.layer == layer && entry.name == name)
}

/// Whether `name` is a layer (and so no upstream may take it).
pub fn is_layer(name: &str) -> bool {
    LAYERS.contains(&name)
}

/// The refusal for a name that is no operation, with the nearest ones an agent may call.
pub fn unknown(op: &str) -> Refusal {
    let names: Vec<String> =
        entries().filter(|entry| entry.traits.audience == Audience::Agent).map(Entry::id).collect();
    let near = nearest(op, names.iter().map(String::as_str));
    let hint = if near.is_empty() {
        "search {\"query\": \"…\"} finds operations by intent".into()
    } else {
        near.join(", ")
    };
    Refusal::not_found(format!("there is no operation {op}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for entry in entries() {
            assert!(seen.insert(entry.id()), "{} is declared twice", entry.id());
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(entry.name.bytes().all(plain), "{}", entry.id());
            let schema = (entry.params)().to_value();
            assert!(
                schema["description"].as_str().is_some_and(|doc| doc.len() > 10),
                "{} has no documentation",
                entry.id()
            );
            assert!(
                serde_json::from_str::<Value>(entry.traits.example).is_ok(),
                "{} has no JSON example",
                entry.id()
            );
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_neighbours() {
        let refusal = parse("semantic/serch", Value::Null).unwrap_err();
        assert!(refusal.hint.contains("semantic/search"), "{refusal}");
    }

    #[test]
    fn a_misfit_is_refused_with_its_path() {
        let refusal = parse("semantic/search", serde_json::json!({"query": 7})).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("query"));
        assert!(refusal.hint.contains("semantic/search takes {query"), "{refusal}");
    }
}
