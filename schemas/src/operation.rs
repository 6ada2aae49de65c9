//! Operations, declared once. The params struct *is* the operation and its doc comment *is* its documentation.
//!
//! [`layer!`](crate::layer) turns a list of such structs into everything else: the parser, the catalogue rows, and the traits
//! that the write side, the read side and the composition must implement. An operation without an implementation does not
//! compile, and whether it changes anything cannot be misdeclared: it is the list it stands in.

use crate::refusal::Refusal;
use crate::risk::Risk;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everyone, agents and their code included.
    Agent,
    /// People at the command line or the web page, and embedding programs. Not on the agent's bus at all.
    Human,
    /// Athena's own parts.
    System,
}

/// What cannot be read off the types.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// How much harm a call can do.
    pub risk: Risk,
    /// Who may call it.
    pub audience: Audience,
    /// Whether its answers or parameters may hold sensitive text.
    pub sensitive: bool,
    /// Whether the read side gathers evidence before the decision.
    pub evidence: bool,
    /// What it is charged against a run's budget.
    pub cost: u32,
    /// Words people look for it with, beyond its name and documentation.
    pub tags: &'static [&'static str],
    /// Its parameters in an example that a test runs, as JSON. `$id` stands for the id of an item the test has made.
    pub example: &'static str,
}

impl Traits {
    /// Low risk, for everyone, no evidence, cost 1.
    pub const DEFAULT: Self = Self {
        risk: Risk::Low,
        audience: Audience::Agent,
        sensitive: false,
        evidence: false,
        cost: 1,
        tags: &[],
        example: "{}",
    };
}

/// A params struct that is an operation.
pub trait Operation: DeserializeOwned + JsonSchema {
    /// What it answers.
    type Returns: Serialize + JsonSchema;
    /// What cannot be read off the types.
    const TRAITS: Traits = Traits::DEFAULT;
}

/// Which side of the house answers an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Decided by a layer; leads to events.
    Command,
    /// Answered by a projection; changes nothing.
    Query,
    /// Composed by the root out of other operations and parts (a run, an export).
    Service,
}

/// One row of the catalogue; every surface (files, stubs, help, allow-list, charges) is a function of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The layer.
    pub layer: &'static str,
    /// The operation's name within the layer.
    pub name: &'static str,
    /// Which side answers it.
    pub side: Side,
    /// What cannot be read off the types.
    pub traits: Traits,
    /// JSON Schema of the parameters.
    pub params: fn() -> Schema,
    /// JSON Schema of the answer.
    pub returns: fn() -> Schema,
}

impl Entry {
    /// The row of operation `O`.
    pub const fn of<O: Operation>(layer: &'static str, name: &'static str, side: Side) -> Self {
        Self {
            layer,
            name,
            side,
            traits: O::TRAITS,
            params: schema_of::<O>,
            returns: schema_of::<O::Returns>,
        }
    }

    /// `layer/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.layer, self.name)
    }

    /// Whether a call may change something.
    pub fn mutating(&self) -> bool {
        self.side != Side::Query
    }
}

/// The schema of one type, by JSON Schema 2020-12, without `$schema` (it costs tokens in every tool).
fn schema_of<T: JsonSchema>() -> Schema {
    SchemaGenerator::new(SchemaSettings::draft2020_12().with(|s| s.meta_schema = None))
        .into_root_schema_for::<T>()
}

/// A schema that allows any JSON value, as `{}`: the schema `true` breaks clients that expect an object.
pub fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

/// What a command leads to: facts to record, and the answer to give once they are durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<E, A> {
    /// In order, all or none.
    pub events: Vec<E>,
    /// The answer. A field `seq` that is 0 is filled with the position once it is known.
    pub answer: A,
}

impl<E, A> Decision<E, A> {
    /// One event and its answer.
    pub fn one(event: impl Into<E>, answer: A) -> Self {
        Self { events: vec![event.into()], answer }
    }

    /// Nothing to record.
    pub fn nothing(answer: A) -> Self {
        Self { events: Vec::new(), answer }
    }

    /// Several events and their answer.
    pub fn many(events: Vec<E>, answer: A) -> Self {
        Self { events, answer }
    }
}

/// Parses parameters; the error names the path of the field at fault.
///
/// # Errors
/// [`Code::Invalid`](crate::refusal::Code::Invalid) with the path, and with the operation's fields as the hint.
pub fn parse<O: Operation>(id: &str, params: Value) -> Result<O, Refusal> {
    let params = if params.is_null() { Value::Object(serde_json::Map::new()) } else { params };
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let refusal = Refusal::invalid(format!("{id}: {}", error.inner())).hint(signature::<O>(id));
        if path == "." { refusal } else { refusal.at(path) }
    })
}

/// `semantic/search takes {query, limit?, tags?}`.
fn signature<O: Operation>(id: &str) -> String {
    let schema = schema_of::<O>().to_value();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let fields: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| if required.contains(&name.as_str()) { name.clone() } else { format!("{name}?") })
        .collect();
    format!("{id} takes {{{}}}", fields.join(", "))
}

/// An answer as JSON.
///
/// # Errors
/// [`Code::Internal`](crate::refusal::Code::Internal) if the answer is not plain data, which its example test rules out.
pub fn to_json<T: Serialize>(value: T) -> Result<Value, Refusal> {
    serde_json::to_value(value)
        .map_err(|error| Refusal::internal(format!("the answer is not plain data: {error}")))
}

/// Declares a layer: its commands (decided by the layer), its queries (answered by projections) and its services (composed
/// by the root).
#[macro_export]
macro_rules! layer {
    ($layer:ident {
        commands { $($command:ident: $Command:ident),* $(,)? }
        queries { $($query:ident: $Query:ident),* $(,)? }
        $(services { $($service:ident: $Service:ident),* $(,)? })?
    }) => {
        /// A parsed command of this layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "each variant is documented at its struct; commands are short-lived")]
        pub enum Command { $($Command($Command)),* }

        /// A parsed query of this layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Query { $($Query($Query)),* }

        impl Query {
            /// `layer/name` of the query.
            pub fn id(&self) -> &'static str {
                match *self { $(Self::$Query(_) => concat!(stringify!($layer), "/", stringify!($query))),* }
            }
        }

        /// A parsed service call of this layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "each variant is documented at its struct; calls are short-lived")]
        pub enum Service { $($($Service($Service)),*)? }

        /// A parsed call of this layer.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "named by their sides; calls are short-lived")]
        pub enum Call { Command(Command), Query(Query), Service(Service) }

        /// The write side: implemented once, by the layer's state. Pure.
        #[allow(missing_docs, reason = "each method is documented at its operation")]
        pub trait Commands {
            $(fn $command(&self, cx: &$crate::context::Context, op: $Command)
                -> Result<$crate::operation::Decision<Event, <$Command as $crate::operation::Operation>::Returns>, $crate::refusal::Refusal>;)*

            /// Decides any command.
            ///
            /// # Errors
            /// When the layer refuses.
            #[allow(unused_variables, reason = "a layer may have no commands")]
            fn decide(&self, cx: &$crate::context::Context, command: Command)
                -> Result<$crate::operation::Decision<Event, serde_json::Value>, $crate::refusal::Refusal> {
                match command {
                    $(Command::$Command(op) => {
                        let decision = self.$command(cx, op)?;
                        Ok($crate::operation::Decision { events: decision.events, answer: $crate::operation::to_json(decision.answer)? })
                    })*
                }
            }
        }

        /// The read side: implemented once, by the projections' view.
        #[allow(missing_docs, reason = "each method is documented at its operation")]
        pub trait Queries {
            $(fn $query(&self, cx: &$crate::context::Context, op: $Query)
                -> Result<<$Query as $crate::operation::Operation>::Returns, $crate::refusal::Refusal>;)*

            /// Answers any query.
            ///
            /// # Errors
            /// When the query is refused.
            #[allow(unused_variables, reason = "a layer may have no queries")]
            fn answer(&self, cx: &$crate::context::Context, query: Query) -> Result<serde_json::Value, $crate::refusal::Refusal> {
                match query { $(Query::$Query(op) => $crate::operation::to_json(self.$query(cx, op)?)),* }
            }
        }

        /// The layer's name.
        pub const LAYER: &str = stringify!($layer);

        /// The layer's rows of the catalogue.
        pub const ENTRIES: &[$crate::operation::Entry] = &[
            $($crate::operation::Entry::of::<$Command>(LAYER, stringify!($command), $crate::operation::Side::Command),)*
            $($crate::operation::Entry::of::<$Query>(LAYER, stringify!($query), $crate::operation::Side::Query),)*
            $($($crate::operation::Entry::of::<$Service>(LAYER, stringify!($service), $crate::operation::Side::Service),)*)?
        ];

        /// Parses a call by its name within the layer; `None` if there is no such operation.
        ///
        /// # Errors
        /// When the parameters do not fit.
        pub fn parse(name: &str, params: serde_json::Value) -> Option<Result<Call, $crate::refusal::Refusal>> {
            Some(match name {
                $(stringify!($command) => $crate::operation::parse::<$Command>(concat!(stringify!($layer), "/", stringify!($command)), params)
                    .map(|op| Call::Command(Command::$Command(op))),)*
                $(stringify!($query) => $crate::operation::parse::<$Query>(concat!(stringify!($layer), "/", stringify!($query)), params)
                    .map(|op| Call::Query(Query::$Query(op))),)*
                $($(stringify!($service) => $crate::operation::parse::<$Service>(concat!(stringify!($layer), "/", stringify!($service)), params)
                    .map(|op| Call::Service(Service::$Service(op))),)*)?
                _ => return None,
            })
        }
    };
}
