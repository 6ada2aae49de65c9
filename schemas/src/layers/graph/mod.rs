//! The graph layer: entities under all their names, and edges with the time they hold and the time they were learned.
//!
//! Nothing is deleted by a write: an edge's validity is closed, a merge can be split again, a deletion is a tombstone.

mod answers;
mod events;

pub use answers::{Community, CommunitySummary, Edge, Entity, SubGraph};
pub use events::{
    EdgeAdded, EdgeInvalidated, EntitiesMerged, EntityAdded, EntityDeleted, EntityRestored, EntitySplit,
    EntityUpdated, Image, Relocated, Revert, Reverted,
};

use crate::id::Id;
use crate::layers::common::{Ack, Hit, Object, Prov, Time, fifty, ten};
pub use crate::layers::common::{Moved, PutBack, Relocate};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    graph {
        commands {
            add_entity: AddEntity,
            update_entity: UpdateEntity,
            merge_entities: MergeEntities,
            split_entity: SplitEntity,
            add_edge: AddEdge,
            invalidate_edge: InvalidateEdge,
            delete_entity: DeleteEntity,
            restore_entity: RestoreEntity,
            relocate: Relocate,
            revert: Revert,
        }
        queries {
            get_entity: GetEntity,
            search_entities: SearchEntities,
            read_graph: ReadGraph,
            neighbors: Neighbors,
            find_path: FindPath,
            search_graph: SearchGraph,
            as_of: AsOf,
            get_communities: GetCommunities,
            summarize_community: SummarizeCommunity,
        }
    }
}

crate::events! {
    /// What happens in the graph layer.
    graph {
        EntityAdded = 0x0501 "entity_added" v 1 {},
        EntityUpdated = 0x0502 "entity_updated" v 1 {},
        EntitiesMerged = 0x0503 "entities_merged" v 1 {},
        EntitySplit = 0x0504 "entity_split" v 1 {},
        EdgeAdded = 0x0505 "edge_added" v 1 {},
        EdgeInvalidated = 0x0506 "edge_invalidated" v 1 {},
        EntityDeleted = 0x0507 "entity_deleted" v 1 {},
        EntityRestored = 0x0508 "entity_restored" v 1 {},
        Relocated = 0x0509 "relocated" v 1 {},
        Reverted = 0x050a "reverted" v 1 {},
    }
}

/// A name as names are compared: lower case, runs of white space as one space.
pub fn folded(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Add an entity: a person, a place, a thing. One that has this name or alias already is completed instead, and its id returned.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddEntity {
    /// Its name.
    pub name: String,
    /// What it is: `person`, `place`, `project`, or any word of your own.
    #[serde(rename = "type")]
    pub kind: String,
    /// Other names it goes by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Anything else worth knowing, as an object.
    #[serde(default)]
    pub attrs: Object,
}

impl Operation for AddEntity {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["create", "node", "person", "thing"],
        example: r#"{"name": "Ana", "type": "person", "aliases": ["Ana Q."]}"#,
        ..Traits::DEFAULT
    };
}

/// Change an entity: any field of the patch that is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateEntity {
    /// The entity.
    pub id: Id,
    /// What to change.
    pub patch: EntityPatch,
}

/// A change to an entity.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityPatch {
    /// Its name; the old one stays as an alias.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Names to add.
    #[serde(default)]
    pub add_aliases: Vec<String>,
    /// Data to set, key by key; a key set to null is removed.
    #[serde(default)]
    pub attrs: Object,
}

impl Operation for UpdateEntity {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["rename", "alias", "edit"],
        example: r#"{"id": "$id", "patch": {"add_aliases": ["Q."]}}"#,
        ..Traits::DEFAULT
    };
}

/// Merge entities that are one and the same: their names and edges go to the one kept. `split_entity` undoes it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeEntities {
    /// The one that stays.
    pub keep: Id,
    /// The ones that become it, up to 100.
    pub merge: Vec<Id>,
}

impl Operation for MergeEntities {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        cost: 5,
        tags: &["same", "duplicate", "join"],
        example: r#"{"keep": "$id", "merge": ["$other"]}"#,
        ..Traits::DEFAULT
    };
}

/// Split an entity that turned out to be two: the edges named go to a new one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitEntity {
    /// The entity.
    pub id: Id,
    /// Its edges that belong to the new one.
    pub edges: Vec<Id>,
    /// The new one's name; an alias of the old one moves with it.
    pub name: String,
}

impl Operation for SplitEntity {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 5,
        tags: &["separate", "unmerge"],
        example: r#"{"id": "$id", "edges": ["$edge"], "name": "another Ana"}"#,
        ..Traits::DEFAULT
    };
}

/// Link two entities: `from` stands in `relation` to `to`, from and until a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddEdge {
    /// Whose relation.
    pub from: Id,
    /// Which, as a verb: `works_at`, `knows`.
    pub relation: String,
    /// To whom.
    pub to: Id,
    /// True from this time on; always, if not said.
    #[serde(default)]
    pub valid_from: Option<Time>,
    /// True until this time; for ever, if not said.
    #[serde(default)]
    pub valid_to: Option<Time>,
    /// How strong, above 0 and up to 1; 1 if not said.
    #[serde(default)]
    pub weight: Option<f64>,
    /// Where it came from, if not from the caller.
    #[serde(default)]
    pub prov: Option<Prov>,
}

impl Operation for AddEdge {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        cost: 5,
        tags: &["link", "relate", "relation", "connect"],
        example: r#"{"from": "$id", "relation": "knows", "to": "$other"}"#,
        ..Traits::DEFAULT
    };
}

/// Say that an edge has held only until a time. It is never deleted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvalidateEdge {
    /// The edge.
    pub id: Id,
    /// Until when it held.
    pub valid_to: Time,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Operation for InvalidateEdge {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        cost: 3,
        tags: &["end", "unlink", "no longer"],
        example: r#"{"id": "$edge", "valid_to": "2026-11-20"}"#,
        ..Traits::DEFAULT
    };
}

/// Delete an entity and its edges, as a tombstone. Try with `dry_run` first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteEntity {
    /// The entity.
    pub id: Id,
    /// Only count what would go.
    #[serde(default)]
    pub dry_run: bool,
}

impl Operation for DeleteEntity {
    type Returns = Deleted;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        cost: 5,
        tags: &["remove", "forget"],
        example: r#"{"id": "$id", "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// What a deletion takes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// How many edges.
    pub edges: u32,
    /// Position in the log; missing in a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Bring a deleted entity back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreEntity {
    /// The entity.
    pub id: Id,
}

impl Operation for RestoreEntity {
    type Returns = Ack;
    const TRAITS: Traits =
        Traits { audience: Audience::Human, tags: &["undo"], example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Get an entity by its id or by any of its names.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetEntity {
    /// Its id, its name or an alias.
    #[serde(alias = "id", alias = "name", rename = "idOrName")]
    pub id_or_name: String,
}

impl Operation for GetEntity {
    type Returns = Entity;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["who", "what"],
        example: r#"{"idOrName": "Ana"}"#,
        ..Traits::DEFAULT
    };
}

/// Search entities by name, alias, type and data.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchEntities {
    /// What to look for.
    pub query: String,
    /// Only those of this type.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for SearchEntities {
    type Returns = Vec<Hit<Entity>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["find", "who", "node"],
        example: r#"{"query": "ana"}"#,
        ..Traits::DEFAULT
    };
}

/// Read the graph as it holds now: all of it, page by page, or the named entities with the edges among them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadGraph {
    /// Only these, by id or any of their names, at most 1,000; unknown ones are left out.
    #[serde(default)]
    pub names: Vec<String>,
    /// At most this many entities, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for ReadGraph {
    type Returns = GraphPage;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["all", "dump", "open_nodes", "list", "nodes"],
        example: r#"{"names": ["Ana"]}"#,
        ..Traits::DEFAULT
    };
}

/// A page of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphPage {
    /// Entities, oldest first.
    pub entities: Vec<Entity>,
    /// The edges that go out from them; among named ones only those between them.
    pub edges: Vec<Edge>,
    /// Give this as `cursor` for the next page; missing on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The neighbourhood of an entity.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Neighbors {
    /// The entity.
    pub id: Id,
    /// Only over edges of this relation.
    #[serde(default)]
    pub relation: Option<String>,
    /// How many edges away: 1 to 3; 1 if not said.
    #[serde(default)]
    pub depth: Option<u8>,
    /// Only edges that held at this time; now, if not said.
    #[serde(default)]
    pub valid_at: Option<Time>,
    /// At most this many entities, up to 1,000; 50 if not said.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl Operation for Neighbors {
    type Returns = SubGraph;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["related", "edges", "connections"],
        example: r#"{"id": "$id", "depth": 2}"#,
        ..Traits::DEFAULT
    };
}

/// The shortest ways from one entity to another; strong edges count as shorter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindPath {
    /// From here.
    pub from: Id,
    /// To here.
    pub to: Id,
    /// At most this many edges, up to 10; 6 if not said.
    #[serde(default)]
    pub max_depth: Option<u8>,
}

impl Operation for FindPath {
    type Returns = Vec<Vec<Edge>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["route", "connection", "how related"],
        example: r#"{"from": "$id", "to": "$other"}"#,
        ..Traits::DEFAULT
    };
}

/// Search the graph: entities that the text names, and outward from them what is most related (personalised PageRank).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchGraph {
    /// What to look for.
    pub query: String,
    /// How many edges outward, 1 to 4; 2 if not said.
    #[serde(default, alias = "depth")]
    pub hops: Option<u8>,
    /// At most this many entities, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
    /// Only edges that held at this time; now, if not said.
    #[serde(default)]
    pub valid_at: Option<Time>,
}

impl Operation for SearchGraph {
    type Returns = SubGraph;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["related", "explore", "pagerank"],
        example: r#"{"query": "who does Ana know?"}"#,
        ..Traits::DEFAULT
    };
}

/// The neighbourhood of an entity as it was at a time, as far as it was known at another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsOf {
    /// The entity.
    pub id: Id,
    /// Edges that held at this time.
    pub valid_at: Time,
    /// Of those, the ones recorded by this time; all, if not said.
    #[serde(default)]
    pub known_at: Option<Time>,
}

impl Operation for AsOf {
    type Returns = SubGraph;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["history", "time travel", "bitemporal"],
        example: r#"{"id": "$id", "valid_at": "2026-11-20"}"#,
        ..Traits::DEFAULT
    };
}

/// Groups of entities that are linked among themselves more than to the rest (Leiden; Traag et al. 2019).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCommunities {
    /// 0 for the finest groups, 1 and more for groups of groups; 0 if not said.
    #[serde(default)]
    pub level: Option<u8>,
    /// Only groups of at least this many; 2 if not said.
    #[serde(default)]
    pub min_size: Option<u32>,
}

impl Operation for GetCommunities {
    type Returns = Vec<Community>;
    const TRAITS: Traits =
        Traits { sensitive: true, cost: 5, tags: &["cluster", "group", "topic"], ..Traits::DEFAULT };
}

/// What a community is about: its most telling words, its members, and the sentences that speak for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SummarizeCommunity {
    /// The community.
    pub id: Id,
}

impl Operation for SummarizeCommunity {
    type Returns = CommunitySummary;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["about", "topic"],
        example: r#"{"id": "$community"}"#,
        ..Traits::DEFAULT
    };
}
