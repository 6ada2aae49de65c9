//! The episodic layer: what happened, in order, by session. Content is never edited; later insight is an annotation.

use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{
    self, Ack, Forgetting, Hit, Imaged, Object, Origin, Paged, Prov, Range, Time, fifty, ten,
};
pub use crate::layers::common::{Moved, PutBack, Relocate};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    episodic {
        commands {
            remember: Remember,
            bulk_remember: BulkRemember,
            annotate: Annotate,
            forget: Forget,
            restore: Restore,
            relocate: Relocate,
            revert: Revert,
        }
        queries {
            recall: Recall,
            get: Get,
            list_events: ListEvents,
            query_temporal: QueryTemporal,
            timeline: Timeline,
            context: Context,
            get_session: GetSession,
            stats: Stats,
        }
    }
}

crate::events! {
    /// What happens in the episodic layer.
    episodic {
        Remembered = 0x0101 "remembered" v 1 {},
        Annotated = 0x0102 "annotated" v 1 {},
        Forgotten = 0x0103 "forgotten" v 1 {},
        Restored = 0x0104 "restored" v 1 {},
        Relocated = 0x0105 "relocated" v 1 {},
        Reverted = 0x0106 "reverted" v 1 {},
    }
}

/// Most events one `bulk_remember` takes.
pub const BULK: usize = 1_000;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As wanted.
    Success,
    /// Not as wanted.
    Failure,
    /// In part.
    Partial,
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Remember an event: what was said, done or seen. The same content in the same minute of the same scope returns the first id.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remember {
    /// What happened, at most 64 KiB.
    pub content: String,
    /// What kind of event: `message`, `decision`, `error`, or any word of your own. `event` if not said.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// When it happened; now, if not said.
    #[serde(default)]
    pub time: Option<Time>,
    /// The conversation it belongs to; the scope's session, if not said.
    #[serde(default)]
    pub session: Option<String>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// How much it matters, from 0 to 1; 0.5 if not said.
    #[serde(default)]
    pub importance: Option<f64>,
    /// Words to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Anything else worth keeping, as an object.
    #[serde(default)]
    pub meta: Object,
    /// Where it came from, if not from the caller.
    #[serde(default)]
    pub prov: Option<Prov>,
    /// The content came from outside (a web page, a mail) and may try to instruct whoever reads it.
    #[serde(default)]
    pub untrusted: bool,
}

impl Operation for Remember {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["add", "save", "log", "note"],
        example: r#"{"content": "Ana: the kettle broke this morning", "type": "message", "time": "2026-11-20T08:00:00Z", "session": "kitchen"}"#,
        ..Traits::DEFAULT
    };
}

/// Remember up to 1,000 events at once: all of them or none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRemember {
    /// The events, each as `remember` takes them.
    pub events: Vec<Remember>,
}

impl Operation for BulkRemember {
    type Returns = Vec<Ack>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 20,
        tags: &["batch", "import", "many"],
        example: r#"{"events": [{"content": "Ana: is there tea?"}, {"content": "Ben: yes, in the red tin"}]}"#,
        ..Traits::DEFAULT
    };
}

/// Add insight to an event: its outcome, importance, tags or data. Its content is never edited.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotate {
    /// The event.
    pub id: Id,
    /// What to change.
    pub patch: Annotation,
}

/// A change to what is said about an event.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// How much it matters, from 0 to 1.
    #[serde(default)]
    pub importance: Option<f64>,
    /// Tags to add.
    #[serde(default)]
    pub add_tags: Vec<String>,
    /// Tags to remove.
    #[serde(default)]
    pub remove_tags: Vec<String>,
    /// Data to set, key by key; a key set to null is removed.
    #[serde(default)]
    pub meta: Object,
}

impl Operation for Annotate {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["tag", "rate", "update"],
        example: r#"{"id": "$id", "patch": {"outcome": "success", "add_tags": ["kitchen"]}}"#,
        ..Traits::DEFAULT
    };
}

/// Forget events: `hide` them from every answer, or `erase` their content for ever. Try with `dry_run` first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// Which events: at least one criterion; all that are given must hold.
    pub sel: Selection,
    /// Hide or erase.
    pub mode: Forgetting,
    /// Only count what would be forgotten.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// These.
    #[serde(default)]
    pub ids: Vec<Id>,
    /// Those of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// Those with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgot {
    /// How many events matched.
    pub matched: u32,
    /// Position in the log; missing where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Forget {
    type Returns = Forgot;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        evidence: true,
        cost: 10,
        tags: &["delete", "remove", "erase", "hide"],
        example: r#"{"sel": {"ids": ["$id"]}, "mode": "hide", "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// Bring hidden events back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The events.
    pub ids: Vec<Id>,
}

impl Operation for Restore {
    type Returns = Forgot;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        tags: &["undo"],
        example: r#"{"ids": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Recall events by meaning and words, best first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recall {
    /// What to look for, in plain words.
    pub query: String,
    /// Only those of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// Only those of this kind.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Only those with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Recall {
    type Returns = Vec<Hit<Episode>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["search", "find", "history"],
        example: r#"{"query": "kettle", "limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Get one event by its id.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The event.
    pub id: Id,
}

impl Operation for Get {
    type Returns = Episode;
    const TRAITS: Traits = Traits { sensitive: true, example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// List events, newest first, without ranking.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListEvents {
    /// Only those of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// Only those of this kind.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Only those with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only those of this conversation.
    #[serde(default)]
    pub session: Option<String>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for ListEvents {
    type Returns = Paged<Episode>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["browse", "recent", "log"],
        example: r#"{"limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Recall by a time in words: "last Tuesday", "in March", "3 days ago", "before 2026-11-01"; words beyond the time are searched for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryTemporal {
    /// The time, and what to look for in it.
    pub expr: String,
    /// What "now" means; the present, if not said.
    #[serde(default)]
    pub now: Option<Time>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

/// Events of a time that was said in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Temporal {
    /// The span the words were understood as; open where no time was said.
    pub range: Range,
    /// What was searched for in it; empty where the expression was all time.
    pub query: String,
    /// The events: best first where something was searched for, else newest first.
    pub hits: Vec<Hit<Episode>>,
}

impl Operation for QueryTemporal {
    type Returns = Temporal;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["when", "date", "yesterday", "last week"],
        example: r#"{"expr": "kettle last week", "now": "2026-11-24T09:00:00Z"}"#,
        ..Traits::DEFAULT
    };
}

/// A length of time on the calendar (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BucketSize {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A month.
    Month,
}

/// Count events by hour, day, week or month, with the words that stand out in each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// Which span.
    pub range: Range,
    /// How long a bucket is.
    pub bucket: BucketSize,
}

/// The events of one hour, day, week or month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// When it begins.
    pub start: Time,
    /// How many events.
    pub count: u32,
    /// The words that stand out in it, at most five.
    pub terms: Vec<String>,
}

impl Operation for Timeline {
    type Returns = Vec<Bucket>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["histogram", "activity"],
        example: r#"{"range": {"from": "2026-11-01", "to": "2026-12-01"}, "bucket": "day"}"#,
        ..Traits::DEFAULT
    };
}

/// Get what happened right before and after an event in its session.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The event.
    pub id: Id,
    /// How many before it, up to 100.
    #[serde(default = "three")]
    pub before: u32,
    /// How many after it, up to 100.
    #[serde(default = "three")]
    pub after: u32,
}

fn three() -> u32 {
    3
}

impl Operation for Context {
    type Returns = Vec<Episode>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["neighbours", "surroundings"],
        example: r#"{"id": "$id", "before": 2, "after": 2}"#,
        ..Traits::DEFAULT
    };
}

/// Get one session: when it was, and its events in order.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetSession {
    /// The conversation, as its client named it.
    pub session: String,
}

/// One conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Its first event.
    pub start: Time,
    /// Its last event.
    pub end: Time,
    /// Its events in order, at most 1,000.
    pub events: Vec<Episode>,
    /// What it was about, where a consolidation said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

impl Operation for GetSession {
    type Returns = Session;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["conversation", "transcript"],
        example: r#"{"session": "kitchen"}"#,
        ..Traits::DEFAULT
    };
}

/// Count events: by kind, by session, first and last.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stats {}

/// Counts of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// How many.
    pub count: u64,
    /// How many of each kind.
    pub by_type: std::collections::BTreeMap<String, u64>,
    /// The first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Time>,
    /// The last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// How many conversations.
    pub sessions: u64,
}

impl Operation for Stats {
    type Returns = Counts;
    const TRAITS: Traits = Traits { tags: &["count", "how many"], ..Traits::DEFAULT };
}

/// An event that was remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Episode {
    /// Its id.
    pub id: Id,
    /// What happened.
    pub content: String,
    /// What kind of event.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub time: Time,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How much it matters, from 0 to 1.
    pub importance: f64,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Anything else.
    pub meta: Object,
    /// The content came from outside and may try to instruct whoever reads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Something was remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The episode.
    pub id: Id,
    /// What happened.
    pub content: String,
    /// What kind of event.
    pub kind: String,
    /// When it happened, milliseconds since 1970.
    pub time_ms: i64,
    /// The conversation.
    pub session: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Importance in thousandths.
    pub importance: u16,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// Other data, a JSON object; empty where there is none.
    pub meta: String,
    /// Where it came from.
    pub origin: Origin,
    /// Came from outside.
    pub untrusted: bool,
}

/// Something was said about an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotated {
    /// The episode.
    pub id: Id,
    /// How it ended, where it was said.
    pub outcome: Option<Outcome>,
    /// Importance in thousandths, where it was said.
    pub importance: Option<u16>,
    /// Tags added.
    pub add_tags: Vec<String>,
    /// Tags removed.
    pub remove_tags: Vec<String>,
    /// Data set, a JSON object whose nulls remove; empty where there is none.
    pub meta: String,
}

/// Episodes were hidden or erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The episodes.
    pub ids: Vec<Id>,
    /// Hidden or erased.
    pub mode: Forgetting,
}

/// Hidden episodes were brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The episodes.
    pub ids: Vec<Id>,
}

/// Episodes were put into another scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocated {
    /// The episodes.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// What can change of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it belongs.
    pub scope: Scope,
    /// Whether it is hidden.
    pub hidden: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Importance in thousandths.
    pub importance: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Free-form data, JSON; empty for none.
    pub meta: String,
}

impl Imaged for Image {
    const EXAMPLE: &'static str = r#"{"items": [{"id": "ep_0", "to": null}]}"#;
}

/// Put items back as they stood: how changes are undone.
pub type Revert = common::Revert<Image>;

/// Items stand again as they stood before.
pub type Reverted = common::Reverted<Image>;

crate::undo! {
    Remembered(it) => Undo::items([&it.id]),
    Annotated(it) => Undo::items([&it.id]),
    Forgotten(it) => match it.mode {
        Forgetting::Hide => Undo::items(&it.ids),
        Forgetting::Erase => Undo::never("its content was destroyed with its key; nothing brings it back"),
    },
    Restored(it) => Undo::items(&it.ids),
    Relocated(it) => Undo::items(&it.ids),
}
