//! Events as the log keeps them: numbered kinds, versions frozen for ever, and the way from every old shape to today's.
//!
//! Payloads are postcard, which is compact and does not describe itself. Three rules follow: a shape never changes without
//! a new version; every version ever written has a golden file (`schemas/golden/`); and leftover bytes are an error
//! ([`exactly`]), because postcard would ignore them. In events: no unordered maps, no floats where integers do, no `usize`,
//! no serde attributes.

use crate::context::{Channel, Party, Scope};
use crate::id::{CommandId, EventId, Id};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A position in the whole log: gapless, from 1. Zero means "before the first".
pub type Seq = u64;

/// The number of an event's kind: never reused, never renumbered. The high byte names the family.
///
/// As with PNG's chunks, a kind with the high bit set may be ignored by a reader that does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind(pub u16);

impl Kind {
    /// Whether a reader that does not know the kind may pass it over.
    pub const fn is_ignorable(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// The family (layer) of the kind, without the ignorable bit.
    pub const fn family(self) -> u8 {
        ((self.0 >> 8) & 0x7f) as u8
    }
}

/// Who caused an event, as the runtime saw it; nothing of it is read from a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Author {
    /// What kind of party.
    pub party: Party,
    /// Which door.
    pub channel: Channel,
    /// Its name.
    pub name: String,
}

/// The clear part of an event: hashed, not encrypted. It holds no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Wall time of the decision, milliseconds since 1970 (UTC). Advisory: order is the position.
    pub at_ms: u64,
    /// Where it belongs.
    pub scope: Scope,
    /// Who caused it.
    pub author: Author,
    /// The command that led to it.
    pub command: CommandId,
    /// The run whose code led to it.
    pub run: Option<Id>,
    /// Names the data key its payload is sealed under; `None` where the payload is public by nature.
    pub key: Option<KeyRef>,
}

/// A data key: one per scope or subject and generation. Destroying it erases what it sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRef {
    /// Random name of the key; says nothing about what it protects.
    pub name: [u8; 8],
    /// Key version.
    pub version: u32,
}

/// An event on its way to the log: everything but its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The ordered stream it belongs to: a layer's name, or `run/<id>`.
    pub stream: String,
    /// Its identity for ever.
    pub id: EventId,
    /// Its kind.
    pub kind: Kind,
    /// The version of its shape.
    pub schema: u8,
    /// The clear part.
    pub meta: Meta,
    /// The payload: sealed where `meta.key` names a key.
    pub payload: Vec<u8>,
}

/// What a payload holds before it is sealed: the event, and the answer its command was given.
///
/// The answer travels with the command's first event, so that a retry after a crash is answered as the first try was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The event, as [`Family::encode`] wrote it.
    pub event: Vec<u8>,
    /// The command's answer, JSON; only with the first event of a command that carried an idempotency key.
    pub answer: Option<String>,
}

impl Draft {
    /// Whether its payload was dropped to give back its room: a sealed one is never empty.
    pub fn is_dropped(&self) -> bool {
        self.payload.is_empty() && self.meta.key.is_some()
    }

    /// A draft of one event; its payload is still to be sealed.
    ///
    /// # Errors
    /// Only if the event cannot be serialized, which its golden test rules out.
    pub fn of<E: Family>(
        stream: &str,
        id: EventId,
        meta: Meta,
        event: &E,
        answer: Option<String>,
    ) -> Result<Self, DecodeError> {
        let (kind, schema, event) = event.encode()?;
        let payload = postcard::to_stdvec(&Body { event, answer })?;
        Ok(Self { stream: stream.to_owned(), id, kind, schema, meta, payload })
    }
}

impl Meta {
    /// The clear part of an event that `cx` leads to.
    pub fn of(cx: &crate::context::Context) -> Self {
        let author =
            Author { party: cx.caller.party, channel: cx.caller.channel, name: cx.caller.name.clone() };
        Self {
            at_ms: cx.now_ms,
            scope: cx.scope.clone(),
            author,
            command: cx.command,
            run: cx.caller.run.clone(),
            key: None,
        }
    }
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Position in the log.
    pub seq: Seq,
    /// Position in its stream, from 1.
    pub version: u64,
    /// What was appended.
    pub draft: Draft,
    /// Leaf hash: BLAKE3 over header and ciphertext.
    pub leaf: [u8; 32],
    /// Chain hash: over the chain hash before and the leaf.
    pub chain: [u8; 32],
}

impl Record {
    /// Opens the payload; `None` where its key was destroyed.
    ///
    /// # Errors
    /// When the bytes are not what was sealed or not a body.
    pub fn body(&self, sealer: &dyn crate::ports::Sealer) -> Result<Option<Body>, crate::refusal::Refusal> {
        use crate::refusal::{Code, Refusal};
        match sealer.open(&self.draft)? {
            crate::ports::Opened::Erased => Ok(None),
            crate::ports::Opened::Plain(bytes) => exactly(&bytes)
                .map(Some)
                .map_err(|error| Refusal::new(Code::Integrity, format!("position {}: {error}", self.seq))),
        }
    }

    /// Opens and decodes the event as one of family `E`; `None` where it was erased, or is ignorable and unknown.
    ///
    /// # Errors
    /// When the bytes are not what was sealed, or not of their stated kind and version.
    pub fn event<E: Family>(
        &self,
        sealer: &dyn crate::ports::Sealer,
    ) -> Result<Option<E>, crate::refusal::Refusal> {
        use crate::refusal::{Code, Refusal};
        let Some(body) = self.body(sealer)? else { return Ok(None) };
        E::decode(self.draft.kind, self.draft.schema, &body.event)
            .map_err(|error| Refusal::new(Code::Integrity, format!("position {}: {error}", self.seq)))
    }
}

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer build.
    #[error("event kind {0:#06x} is unknown to this build; the log was written by a newer one")]
    UnknownKind(u16),
    /// Written by a newer build.
    #[error("{name} version {version} is newer than this build knows")]
    UnknownVersion {
        /// The event.
        name: &'static str,
        /// The version found.
        version: u8,
    },
    /// The shape is not the one its version says.
    #[error("{0} bytes left over after the event")]
    Trailing(usize),
    /// Not postcard, or another shape.
    #[error("not the shape its version says: {0}")]
    Shape(#[from] postcard::Error),
}

/// Decodes all of `bytes`. `postcard::from_bytes` ignores what is left over, which hides a wrong version; this does not.
///
/// # Errors
/// When the bytes are not exactly one `T`.
pub fn exactly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(DecodeError::Trailing(rest.len())),
    }
}

/// One event shape that is current, with the way from its old ones. Written by [`history!`](crate::history).
pub trait Versioned: Serialize + DeserializeOwned {
    /// Its number.
    const KIND: Kind;
    /// The version written today.
    const SCHEMA: u8;
    /// Its name, for people.
    const NAME: &'static str;

    /// Reads any version ever written.
    ///
    /// # Errors
    /// When the bytes are not of that version, or the version is newer than this build.
    fn decode(schema: u8, payload: &[u8]) -> Result<Self, DecodeError>;

    /// Today's bytes.
    ///
    /// # Errors
    /// Only if the type cannot be serialized, which its golden test rules out.
    fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        Ok(postcard::to_stdvec(self)?)
    }
}

/// A row of [`Family::KINDS`]: what the golden tests, the audit and the documentation need of one kind.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// Its number.
    pub kind: Kind,
    /// The version written today.
    pub schema: u8,
    /// Its name, such as `semantic.stored`.
    pub name: &'static str,
    /// Any version's bytes as the JSON of today's shape.
    pub to_json: fn(u8, &[u8]) -> Result<serde_json::Value, DecodeError>,
    /// The JSON of today's shape as today's bytes.
    pub from_json: fn(serde_json::Value) -> Result<Vec<u8>, String>,
}

/// All events of one layer. Written by [`events!`](crate::events).
pub trait Family: Sized {
    /// Every kind of the family.
    const KINDS: &'static [KindInfo];

    /// Decodes an event; `None` for an ignorable kind this build does not know.
    ///
    /// # Errors
    /// When the kind is unknown and not ignorable, or the bytes are not of the stated version.
    fn decode(kind: Kind, schema: u8, payload: &[u8]) -> Result<Option<Self>, DecodeError>;

    /// Kind, version and bytes of an event.
    ///
    /// # Errors
    /// Only if the type cannot be serialized, which its golden test rules out.
    fn encode(&self) -> Result<(Kind, u8, Vec<u8>), DecodeError>;

    /// The event's name, such as `semantic.stored`.
    fn name(&self) -> &'static str;
}

/// Declares the event shapes of a layer and the enum its folds match on.
///
/// ```text
/// events! {
///     /// What happens in the semantic layer.
///     semantic {
///         Stored = 0x0201 "stored" v2 { 1 => v1::Stored },
///         Retracted = 0x0202 "retracted" v1 {},
///     }
/// }
/// ```
/// Each old shape names its way to the present: `1 => v1::Stored => v2::Stored` goes through `From` at every arrow.
/// Folds can only match current shapes; old ones cannot be named there.
#[macro_export]
macro_rules! events {
    ($(#[$doc:meta])* $layer:ident {
        $($event:ident = $kind:literal $name:literal v $schema:literal { $($old:literal => $shape:ty $(=> $next:ty)*),* $(,)? }),* $(,)?
    }) => {
        $(
            impl $crate::envelope::Versioned for $event {
                const KIND: $crate::envelope::Kind = $crate::envelope::Kind($kind);
                const SCHEMA: u8 = $schema;
                const NAME: &'static str = concat!(stringify!($layer), ".", $name);

                fn decode(schema: u8, payload: &[u8]) -> Result<Self, $crate::envelope::DecodeError> {
                    Ok(match schema {
                        $schema => $crate::envelope::exactly(payload)?,
                        $($old => {
                            let event: $shape = $crate::envelope::exactly(payload)?;
                            $(let event: $next = event.into();)*
                            event.into()
                        })*
                        version => return Err($crate::envelope::DecodeError::UnknownVersion { name: Self::NAME, version }),
                    })
                }
            }

            impl From<$event> for Event {
                fn from(event: $event) -> Self {
                    Self::$event(event)
                }
            }
        )*

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Event { $($event($event)),* }

        impl $crate::undo::Undoable for Event {
            fn undo(&self) -> $crate::undo::Undo {
                match self { $(Self::$event(event) => event.undo()),* }
            }
        }

        impl $crate::envelope::Family for Event {
            const KINDS: &'static [$crate::envelope::KindInfo] = &[$($crate::envelope::KindInfo {
                kind: <$event as $crate::envelope::Versioned>::KIND,
                schema: <$event as $crate::envelope::Versioned>::SCHEMA,
                name: <$event as $crate::envelope::Versioned>::NAME,
                to_json: |schema, bytes| {
                    let event = <$event as $crate::envelope::Versioned>::decode(schema, bytes)?;
                    Ok(serde_json::to_value(event).unwrap_or_default())
                },
                from_json: |json| {
                    let event: $event = serde_json::from_value(json).map_err(|e| e.to_string())?;
                    $crate::envelope::Versioned::encode(&event).map_err(|e| e.to_string())
                },
            }),*];

            fn decode(kind: $crate::envelope::Kind, schema: u8, payload: &[u8]) -> Result<Option<Self>, $crate::envelope::DecodeError> {
                match kind {
                    $(<$event as $crate::envelope::Versioned>::KIND =>
                        <$event as $crate::envelope::Versioned>::decode(schema, payload).map(|event| Some(Self::$event(event))),)*
                    kind if kind.is_ignorable() => Ok(None),
                    kind => Err($crate::envelope::DecodeError::UnknownKind(kind.0)),
                }
            }

            fn encode(&self) -> Result<($crate::envelope::Kind, u8, Vec<u8>), $crate::envelope::DecodeError> {
                match self {
                    $(Self::$event(event) => Ok((
                        <$event as $crate::envelope::Versioned>::KIND,
                        <$event as $crate::envelope::Versioned>::SCHEMA,
                        $crate::envelope::Versioned::encode(event)?,
                    ))),*
                }
            }

            fn name(&self) -> &'static str {
                match self { $(Self::$event(_) => <$event as $crate::envelope::Versioned>::NAME),* }
            }
        }
    };
}
