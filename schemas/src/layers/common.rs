//! Shapes that several layers share.

use crate::context::Scope;
use crate::id::Id;
use crate::operation::{Audience, Operation, Traits};
use crate::refusal::Refusal;
use crate::risk::Risk;
use crate::undo::{Undo, Undoable};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// RFC 3339, such as `2026-11-20T10:31:04Z`. A date alone means its midnight, a time without a zone means UTC.
pub type Time = String;

/// Free-form data beside an item: a JSON object.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// The acknowledgement of a command. It is given only after its events are on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// The item.
    pub id: Id,
    /// Position in the log; a read with `at_seq` of at least this sees it.
    pub seq: u64,
    /// Set where an equal item already existed: its id. Nothing was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduped_into: Option<Id>,
    /// Items that resemble the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<Id>,
    /// Items that seem to contradict the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Id>,
}

impl Ack {
    /// An acknowledgement of `id`; the position is filled in once it is known.
    pub fn of(id: Id) -> Self {
        Self { id, seq: 0, deduped_into: None, similar: Vec::new(), conflicts: Vec::new() }
    }

    /// An acknowledgement that `id` was there before; nothing was added.
    pub fn duplicate(id: Id) -> Self {
        Self { deduped_into: Some(id.clone()), ..Self::of(id) }
    }
}

/// A span of time. A missing end is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// From this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
}

impl Range {
    /// The span in milliseconds since 1970: from the first inclusive to the second exclusive.
    ///
    /// # Errors
    /// When an end is no time, or the span is empty.
    pub fn millis(&self) -> Result<(i64, i64), Refusal> {
        let from =
            self.from.as_deref().map_or(Ok(i64::MIN), |t| millis(t).map_err(|e| e.at("range.from")))?;
        let to = self.to.as_deref().map_or(Ok(i64::MAX), |t| millis(t).map_err(|e| e.at("range.to")))?;
        if from >= to {
            return Err(Refusal::invalid("the range is empty: it ends before it starts").at("range"));
        }
        Ok((from, to))
    }
}

/// The memory layers that hold items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// What happened.
    Episodic,
    /// What is true.
    Semantic,
    /// How to do things.
    Procedural,
    /// What is intended.
    Prospective,
    /// What things there are and how they relate.
    Graph,
}

impl Layer {
    /// Every layer that holds items.
    pub const ALL: [Self; 5] =
        [Self::Episodic, Self::Semantic, Self::Procedural, Self::Prospective, Self::Graph];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Episodic => "episodic",
            Self::Semantic => "semantic",
            Self::Procedural => "procedural",
            Self::Prospective => "prospective",
            Self::Graph => "graph",
        }
    }

    /// The layer whose items have this id.
    pub fn of(id: &Id) -> Option<Self> {
        Some(match id.prefix() {
            "ep" => Self::Episodic,
            "fa" => Self::Semantic,
            "pr" => Self::Procedural,
            "ta" | "go" | "tr" => Self::Prospective,
            "en" | "ed" => Self::Graph,
            _ => return None,
        })
    }
}

/// Where content came from.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A person said so.
    User,
    /// A model concluded it.
    #[default]
    Agent,
    /// A tool answered it.
    Tool,
    /// It was brought from elsewhere.
    Import,
    /// It was derived from other memories.
    Consolidation,
}

/// Provenance: where an item came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prov {
    /// What kind of source.
    #[serde(default)]
    pub source: Source,
    /// The items it was derived from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Id>,
    /// Who recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The model that concluded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Provenance as events keep it. (Events have no optional fields in their encoding, hence a shape of its own.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What kind of source.
    pub source: Source,
    /// The items it was derived from.
    pub events: Vec<Id>,
    /// Who recorded it.
    pub actor: Option<String>,
    /// The model that concluded it.
    pub model: Option<String>,
}

impl From<Prov> for Origin {
    fn from(prov: Prov) -> Self {
        Self { source: prov.source, events: prov.events, actor: prov.actor, model: prov.model }
    }
}

impl From<Origin> for Prov {
    fn from(origin: Origin) -> Self {
        Self { source: origin.source, events: origin.events, actor: origin.actor, model: origin.model }
    }
}

/// What a hit's score is made of. A missing signal did not take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Signals {
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bm25: Option<f64>,
    /// Meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<f64>,
    /// What stands before and after it in its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<f64>,
    /// The rest of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<f64>,
    /// It is by, or about, the one the query names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<f64>,
    /// Entities that lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<f64>,
    /// It happened when the query says, or soon after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// It answers one part of a query that asks several things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<f64>,
    /// How recent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recency: Option<f64>,
    /// How much it says by itself: its length, in the first person, not a question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substance: Option<f64>,
    /// How useful it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<f64>,
}

/// Something found, with why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit<T> {
    /// The item's id.
    pub id: Id,
    /// Its layer.
    pub layer: Layer,
    /// How well it fits; comparable within one answer only.
    pub score: f64,
    /// What the score is made of.
    #[serde(default)]
    pub signals: Signals,
    /// The item.
    pub item: T,
    /// Where it came from.
    pub prov: Prov,
    /// Set where it should be checked before it is relied on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The item that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Id>,
    /// Items that seem to contradict it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Id>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paged<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; missing on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// Nothing.
    pub fn empty() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

/// An item and how it stood at some time, as a layer's `revert` puts it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past<T> {
    /// The item.
    pub id: Id,
    /// How it stood; missing where it was not there yet.
    pub to: Option<T>,
}

/// How an item of a layer stood, whole enough to be put back.
pub trait Imaged: DeserializeOwned {
    /// Parameters of the layer's `revert` that its example test runs.
    const EXAMPLE: &'static str;
}

/// Put items back as they stood: how changes are undone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Revert", bound = "")]
pub struct Revert<I> {
    /// The items.
    #[schemars(schema_with = "crate::operation::any")]
    pub items: Vec<Past<I>>,
}

/// How many items were put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutBack {
    /// How many items.
    pub items: u32,
    /// Position in the log.
    pub seq: u64,
}

impl<I: Imaged> Operation for Revert<I> {
    type Returns = PutBack;
    const TRAITS: Traits =
        Traits { risk: Risk::Medium, audience: Audience::System, example: I::EXAMPLE, ..Traits::DEFAULT };
}

/// Items stand again as they stood before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted<I> {
    /// The items.
    pub items: Vec<Past<I>>,
}

impl<I> Undoable for Reverted<I> {
    fn undo(&self) -> Undo {
        Undo::items(self.items.iter().map(|past| &past.id))
    }
}

/// Put items into another scope, one they were meant for; an entity takes its edges along. `store/move` calls it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relocate {
    /// The items.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// How many items were moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// How many.
    pub matched: u32,
    /// Position in the log; missing where nothing was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Relocate {
    type Returns = Moved;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        audience: Audience::System,
        example: r#"{"ids": ["$id"], "to": {"project": "test"}}"#,
        ..Traits::DEFAULT
    };
}

/// What forgetting means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forgetting {
    /// Not found any more; the log keeps it, and it can be restored.
    Hide,
    /// Its content is destroyed for ever: the key it is sealed under is shredded. Survives replay.
    Erase,
}

/// The default number of results.
pub fn ten() -> u32 {
    10
}

/// The default size of a page.
pub fn fifty() -> u32 {
    50
}

/// Reads a [`Time`] as milliseconds since 1970 (UTC).
///
/// # Errors
/// When it is no time.
pub fn millis(text: &str) -> Result<i64, Refusal> {
    use jiff::{Timestamp, civil, tz::TimeZone};
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    text.parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)))
        .and_then(|civil| civil.to_zoned(TimeZone::UTC))
        .map(|zoned| zoned.timestamp().as_millisecond())
        .map_err(|_| {
            Refusal::invalid(format!("{text:?} is no time")).hint("RFC 3339, such as 2026-11-20T10:31:04Z")
        })
}

/// Milliseconds since 1970 as a [`Time`] in UTC. Beyond what can be said (year 9999) it is the nearest that can.
pub fn time(at_ms: i64) -> Time {
    let (min, max) = (jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
    jiff::Timestamp::from_millisecond(at_ms.clamp(min, max)).map(|at| at.to_string()).unwrap_or_default()
}

/// The bound of confidence in log-odds, in millionths: about 0.001 to 0.999.
pub const LOG_ODDS_BOUND: i32 = 6_906_755;

/// A confidence from 0 to 1 as log-odds in millionths, bounded to ±[`LOG_ODDS_BOUND`].
pub fn log_odds(confidence: f64) -> i32 {
    let odds = (confidence / (1.0 - confidence)).ln() * 1e6;
    if odds.is_nan() {
        0
    } else {
        odds.clamp(-f64::from(LOG_ODDS_BOUND), f64::from(LOG_ODDS_BOUND)).round() as i32
    }
}

/// Log-odds in millionths as a confidence, to four places.
pub fn confidence(log_odds_micro: i32) -> f64 {
    let probability = 1.0 / (1.0 + (-f64::from(log_odds_micro) / 1e6).exp());
    (probability * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        assert_eq!(millis("1970-01-01T00:00:01Z").unwrap(), 1000);
        assert_eq!(millis("1970-01-01T01:00:01+01:00").unwrap(), 1000);
        assert_eq!(millis("1970-01-01T00:00:01").unwrap(), 1000);
        assert_eq!(millis("1970-01-02").unwrap(), 86_400_000);
        assert!(millis("tomorrow").unwrap_err().hint.contains("RFC 3339"));
        assert_eq!(time(1000), "1970-01-01T00:00:01Z");
        assert_eq!(time(1), "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn confidence_survives_its_log_odds_within_the_bound() {
        for percent in 1..=99 {
            let given = f64::from(percent) / 100.0;
            assert!((confidence(log_odds(given)) - given).abs() < 1e-9, "{given}");
        }
        assert_eq!(log_odds(1.0), LOG_ODDS_BOUND);
        assert_eq!(confidence(log_odds(1.0)), 0.999);
        assert_eq!(confidence(log_odds(0.0)), 0.001);
    }

    #[test]
    fn an_empty_range_is_refused() {
        let range = |from: &str, to: &str| Range { from: Some(from.into()), to: Some(to.into()) };
        assert_eq!(range("1970-01-01", "1970-01-02").millis().unwrap(), (0, 86_400_000));
        assert!(range("1970-01-02", "1970-01-02").millis().is_err());
    }
}
