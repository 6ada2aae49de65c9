//! Across the layers: bringing memories in and out, moving them, erasing a scope, checking and rebuilding the store.

use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{Range, Time};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

crate::layer! {
    store {
        commands {
            note_export: NoteExport,
            note_import: NoteImport,
            note_erasure: NoteErasure,
            note_undo: NoteUndo,
            note_items_erased: NoteItemsErased,
        }
        queries { list_scopes: ListScopes }
        services {
            export: Export,
            import: Import,
            erase_scope: EraseScope,
            erase_items: EraseItems,
            move: Move,
            verify: Verify,
            rebuild: Rebuild,
            health: Health,
            undo: Undo,
            retain: Retain,
        }
    }
}

crate::events! {
    /// What happens across the layers.
    store {
        Exported = 0x0901 "exported" v 1 {},
        Imported = 0x0902 "imported" v 1 {},
        ScopeErased = 0x0903 "scope_erased" v 1 {},
        Undone = 0x0904 "undone" v 1 {},
        Retired = 0x0905 "retired" v 1 {},
        ItemsErased = 0x0906 "items_erased" v 1 {},
    }
}

/// What a person must type to erase a scope: `erase` and the project's name, or `erase everything`.
pub fn confirmation(scope: &Scope) -> String {
    match &scope.project {
        Some(project) => format!("erase {project}"),
        None => "erase everything".into(),
    }
}

// ── Services ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A form of file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object a line, as `export` writes it. Lossless.
    #[default]
    Jsonl,
    /// For people: a list, day by day.
    Markdown,
    /// The JSONL of `@modelcontextprotocol/server-memory`: entities and relations.
    ServerMemory,
    /// The JSON of mem0: a list of objects with `memory`.
    Mem0,
}

/// Write memories to a file. Tokens stay tokens: no sensitive value leaves the vault.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Only of this scope, within the caller's.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Only of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// `jsonl` or `markdown`.
    #[serde(default)]
    pub format: Format,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportDone {
    /// The file, in the store's `exports` folder.
    pub path: String,
    /// How many items.
    pub count: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl Operation for Export {
    type Returns = ExportDone;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 50,
        tags: &["backup", "dump", "download"],
        example: r#"{"format": "jsonl"}"#,
        ..Traits::DEFAULT
    };
}

/// Bring memories in from a file of the store's `imports` folder. Doing it again adds nothing; `athena undo` takes it back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The file's name, within the store's `imports` folder.
    pub path: String,
    /// Its form; told from its content, if not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// Only count what would be added.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportDone {
    /// How many items are new.
    pub added: u64,
    /// How many were there before.
    pub deduped: u64,
    /// Lines that hold no memory, with why; at most 1,000 are named.
    pub rejected: Vec<Rejected>,
    /// Position of the record of it: what `athena undo` takes back. Missing where nothing was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// A line that could not be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// Its number, from 1.
    pub line: u64,
    /// Why.
    pub why: String,
}

impl Rejected {
    /// A line that could not be imported, with why.
    pub fn new(line: u64, why: impl Into<String>) -> Self {
        Self { line, why: why.into() }
    }
}

impl Operation for Import {
    type Returns = ImportDone;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 50,
        tags: &["restore", "migrate", "upload", "mem0", "server-memory"],
        example: r#"{"path": "example.jsonl", "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// Erase everything of a scope for ever: its keys are destroyed, no copy of the store can read it again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseScope {
    /// What to erase.
    pub scope: Scope,
    /// `erase` and the project's name, typed out.
    pub confirm: String,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErasureDone {
    /// How many items.
    pub erased: u64,
    /// Position in the log.
    pub seq: u64,
}

impl Operation for EraseScope {
    type Returns = ErasureDone;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        audience: Audience::Human,
        cost: 50,
        tags: &["delete", "gdpr", "forget"],
        example: r#"{"scope": {"project": "test"}, "confirm": "erase test"}"#,
        ..Traits::DEFAULT
    };
}

/// Erase items of any layer for ever: episodes, facts, tasks, goals, triggers, entities with their edges, edges, procedures. The
/// keys of the events that tell of them are destroyed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseItems {
    /// The items, up to 1,000.
    pub ids: Vec<Id>,
}

impl Operation for EraseItems {
    type Returns = ItemsErasedDone;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        audience: Audience::Human,
        cost: 50,
        tags: &["delete", "gdpr", "forget"],
        example: r#"{"ids": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemsErasedDone {
    /// How many items, edges of entities included.
    pub changed: u64,
    /// Position in the log.
    pub seq: u64,
}

/// Put items into the scope they were meant for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The items, of any layer.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// How many items were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveDone {
    /// How many items.
    pub changed: u64,
    /// Position in the log; missing where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Move {
    type Returns = MoveDone;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        cost: 10,
        tags: &["relocate", "wrong project"],
        example: r#"{"ids": ["$id"], "to": {"project": "test"}}"#,
        ..Traits::DEFAULT
    };
}

/// Check that the log is what was written and that the read models are what it says.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Whether all is as it should be.
    pub ok: bool,
    /// How many events were checked.
    pub events: u64,
    /// The first position that is not what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
}

impl Operation for Verify {
    type Returns = Verified;
    const TRAITS: Traits = Traits { cost: 50, tags: &["integrity", "check", "hash"], ..Traits::DEFAULT };
}

/// Build read models anew from the log.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// Which one; all, if not said.
    #[serde(default)]
    pub projection: Option<String>,
}

/// What was rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildDone {
    /// The read models.
    pub projections: Vec<String>,
    /// The position they have reached.
    pub seq: u64,
}

impl Operation for Rebuild {
    type Returns = RebuildDone;
    const TRAITS: Traits =
        Traits { risk: Risk::Medium, cost: 50, tags: &["reindex", "repair"], ..Traits::DEFAULT };
}

/// See whether everything works: actors, read models, model, disk.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {}

/// Whether everything works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Whether all of it works.
    pub ok: bool,
    /// The last position of the log.
    pub head: u64,
    /// How many positions each read model is behind.
    pub lag: BTreeMap<String, u64>,
    /// How many positions each one is behind that is being built anew, beside the read model that answers meanwhile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rebuilding: BTreeMap<String, u64>,
    /// The model texts are embedded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Bytes the store takes on disk.
    pub disk_bytes: u64,
    /// What does not work.
    pub problems: Vec<String>,
}

impl Operation for Health {
    type Returns = Condition;
    const TRAITS: Traits = Traits { tags: &["status", "ping", "lag"], ..Traits::DEFAULT };
}

/// Take back what an event, a run, an import or an earlier undo did, by new events: every item stands again as it stood before.
/// What was built on it since stops it, unless forced. Undoing an undo does it again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// A position in the log, an event's id, a run (`run_…`), a consolidation pass (`co_…`), or an item: its last change.
    pub target: String,
    /// Only say what would be taken back.
    #[serde(default)]
    pub dry_run: bool,
    /// Take it back although the same items were changed since; those later changes are lost with it.
    #[serde(default)]
    pub force: bool,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UndoDone {
    /// The events taken back, the last one first.
    pub undone: Vec<UndoneEvent>,
    /// The events that cannot be, with why.
    pub kept: Vec<KeptEvent>,
    /// How many items stand as before.
    pub items: u32,
    /// Position of the record of it; undo that to do it all again. Missing where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// An event that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UndoneEvent {
    /// Its position.
    pub seq: u64,
    /// Its kind, such as `semantic.stored`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it had changed, or the operation that takes it back.
    pub by: Vec<String>,
}

/// An event that cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptEvent {
    /// Its position.
    pub seq: u64,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why not, and what to do instead.
    pub why: String,
}

impl Operation for Undo {
    type Returns = UndoDone;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        audience: Audience::Human,
        cost: 50,
        tags: &["revert", "take back", "rollback", "redo"],
        example: r#"{"target": "1", "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// Give back the room of what run records keep beyond the settings: the answers that old runs were given, and large texts that
/// no kept run needs. Their events stay, with every hash; a run whose answers are gone cannot be replayed any more. Runs that
/// are not finished, wait for approval or are pinned are not touched, nor is anything that memories are made of.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// Do it. Without, only say what would be done.
    #[serde(default)]
    pub apply: bool,
}

/// What was retired, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetainDone {
    /// Whether it was done.
    pub applied: bool,
    /// Runs whose end lies further back than this are retired, days; 0 is never.
    pub run_days: u64,
    /// What run records may take in all before the oldest are retired, bytes; 0 is any amount.
    pub run_bytes: u64,
    /// What run records that can be retired take now, bytes.
    pub kept_bytes: u64,
    /// Runs that are due.
    pub runs: u64,
    /// Payloads dropped with them: answers and large texts.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runs that were retired before.
    pub retired: u64,
    /// Runs that are not finished: they run, wait, or were interrupted.
    pub unfinished: u64,
    /// Runs that the settings pin.
    pub pinned: u64,
    /// Bytes of the log's files given back to the disk; `None` where nothing was rewritten.
    pub freed: Option<u64>,
    /// Position of the last event that says so.
    pub seq: Option<u64>,
}

impl Operation for Retain {
    type Returns = RetainDone;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        audience: Audience::Human,
        cost: 100,
        tags: &["retention", "quota", "disk space", "expire", "purge runs"],
        ..Traits::DEFAULT
    };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// List the scopes that hold items, within the caller's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListScopes {}

/// A scope that holds items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScopeInfo {
    /// The scope.
    pub scope: Scope,
    /// How many items of each layer.
    pub items: BTreeMap<String, u64>,
    /// When the last one was recorded.
    pub last: Time,
}

impl Operation for ListScopes {
    type Returns = Vec<ScopeInfo>;
    const TRAITS: Traits = Traits { cost: 3, tags: &["projects", "users"], ..Traits::DEFAULT };
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The answer of a note: its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {
    /// Position in the log.
    pub seq: u64,
}

/// Record that memories left the store.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteExport {
    /// The file.
    pub path: String,
    /// How many items.
    pub count: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl Operation for NoteExport {
    type Returns = Noted;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"path": "x.jsonl", "count": 1, "sha256": "00"}"#,
        ..Traits::DEFAULT
    };
}

/// Record that memories were brought in, so that it can be taken back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteImport {
    /// The file.
    pub path: String,
    /// The items that were added.
    pub ids: Vec<Id>,
}

impl Operation for NoteImport {
    type Returns = Noted;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"path": "x.jsonl", "ids": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

/// Record that a scope was erased.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteErasure {
    /// The scope.
    pub scope: Scope,
    /// How many items.
    pub erased: u64,
    /// How many keys were destroyed.
    pub keys: u64,
}

impl Operation for NoteErasure {
    type Returns = Noted;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"scope": {"project": "gone"}, "erased": 1, "keys": 1}"#,
        ..Traits::DEFAULT
    };
}

/// Record that items are to be erased. It says which, not what they said.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteItemsErased {
    /// The items.
    pub ids: Vec<Id>,
}

impl Operation for NoteItemsErased {
    type Returns = Noted;
    const TRAITS: Traits =
        Traits { audience: Audience::System, example: r#"{"ids": ["$id"]}"#, ..Traits::DEFAULT };
}

/// Record that something was taken back, so that this can be taken back too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteUndo {
    /// What was named.
    pub target: String,
    /// Positions of the events taken back.
    pub undone: Vec<u64>,
    /// Positions of the events that did it.
    pub by: Vec<u64>,
}

impl Operation for NoteUndo {
    type Returns = Noted;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"target": "1", "undone": [1], "by": [2]}"#,
        ..Traits::DEFAULT
    };
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Memories left the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The file.
    pub path: String,
    /// How many items.
    pub count: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// Memories were brought in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The file.
    pub path: String,
    /// The items that were added.
    pub ids: Vec<Id>,
}

/// A scope was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeErased {
    /// The scope.
    pub scope: Scope,
    /// How many items.
    pub erased: u64,
    /// How many keys were destroyed.
    pub keys: u64,
}

/// Something was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// What was named.
    pub target: String,
    /// Positions of the events taken back.
    pub undone: Vec<u64>,
    /// Positions of the events that did it.
    pub by: Vec<u64>,
}

/// Payloads were dropped because their age or size went beyond what the settings keep. The events stay, with their hashes.
///
/// It is recorded before they are dropped, and in the clear: who checks the log needs no key to see that nothing else is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The runs that lose their answers.
    pub runs: Vec<Id>,
    /// First and last positions of what is dropped, ascending.
    pub spans: Vec<(u64, u64)>,
    /// How many events that are.
    pub events: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// What ended before this was due, milliseconds since 1970.
    pub before_ms: u64,
    /// BLAKE3 over what is left of the events.
    pub digest: [u8; 32],
}

impl Retired {
    /// The positions, ascending.
    pub fn positions(&self) -> impl Iterator<Item = u64> {
        self.spans.iter().flat_map(|(first, last)| *first..=*last)
    }
}

/// Items were erased: their tombstone, where their layer has none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemsErased {
    /// The items.
    pub ids: Vec<Id>,
}

crate::undo! {
    Exported(_) => Undo::never("the file is out of Athena's reach; delete it"),
    Imported(it) => Undo::Made(it.ids.clone()),
    ScopeErased(_) => Undo::never("its keys were destroyed; nothing brings it back"),
    Undone(it) => Undo::Events(it.by.clone()),
    Retired(_) => Undo::never("what was dropped is gone; a backup from before has it"),
    ItemsErased(_) => Undo::never("their content was destroyed with its keys; nothing brings it back"),
}
