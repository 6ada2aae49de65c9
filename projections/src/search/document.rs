//! What is searched: one document an item, and the changes that events make to them.

use athena_schemas::context::Scope;
use athena_schemas::envelope::Meta;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, Layer, Past, confidence};
use athena_schemas::layers::{consolidation, episodic, graph, procedural, prospective, semantic};
use serde::{Deserialize, Serialize};

/// One item as search sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The item.
    pub id: Id,
    /// Its layer.
    pub layer: Layer,
    /// Where it belongs.
    pub scope: Scope,
    /// The conversation it is part of.
    pub session: Option<String>,
    /// Its type within the layer, such as `message`.
    pub kind: String,
    /// Who said or did it.
    pub actor: Option<String>,
    /// What is indexed.
    pub text: String,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// When it happened or was recorded, milliseconds since 1970.
    pub at_ms: i64,
    /// Position of the event that made it: the order among equals of time. An edit does not change it.
    pub order: u64,
    /// Confidence in thousandths; 1000 where the layer has none.
    pub confidence: u16,
    /// True from this time on, milliseconds since 1970.
    pub valid_from: Option<i64>,
    /// True until this time, milliseconds since 1970.
    pub valid_to: Option<i64>,
    /// Where another item took its place: that one, and until when this one was said to be true before. Such a document is found
    /// only by those who ask for it.
    pub superseded: Option<(Id, Option<i64>)>,
    /// The items whose place it took.
    pub supersedes: Vec<Id>,
    /// Forgotten, but not erased: not found at all.
    pub hidden: bool,
    /// Its strength is gone: not found, unless it is named.
    pub faded: bool,
    /// Taken back as never true: not found at all.
    pub retracted: bool,
}

/// What an event does to the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A document appears.
    Put(Box<Document>),
    /// A document changes in part.
    Patch(Id, Patch),
    /// A document goes; where its text must not survive in old files of the index, `erase` says so.
    Remove {
        /// The item.
        id: Id,
        /// Purge it from disk too.
        erase: bool,
    },
}

/// A change in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// Tags added and removed.
    Tags {
        /// Added.
        add: Vec<String>,
        /// Removed.
        remove: Vec<String>,
    },
    /// Hidden, or brought back.
    Hidden(bool),
    /// Faded, or found again.
    Faded(bool),
    /// Taken back as never true, or held true again.
    Retracted(bool),
    /// Its tags are these.
    Tagged(Vec<String>),
    /// What took its place, if anything did, and until when it is true.
    Standing(Option<(Id, Option<i64>)>, Option<i64>),
    /// Its whole text.
    Text(String),
    /// This item took its place at this time.
    Superseded(Id, i64),
    /// This item, which had taken its place, was erased: it stands again.
    Reopened(Id),
    /// Confidence in thousandths.
    Confidence(u16),
    /// Moved into another scope.
    Moved(Scope),
    /// Its first line is another one (`None` as it is), or what follows it.
    Lines(Option<String>, Option<String>),
    /// More was said of it: added to its text.
    More(String),
}

impl Document {
    /// A document with nothing but its text.
    fn of(id: &Id, layer: Layer, kind: &str, text: String, meta: &Meta, seq: u64) -> Self {
        Self {
            id: id.clone(),
            layer,
            scope: meta.scope.clone(),
            session: None,
            kind: kind.to_owned(),
            actor: None,
            text,
            tags: Vec::new(),
            at_ms: i64::try_from(meta.at_ms).unwrap_or(i64::MAX),
            order: seq,
            confidence: 1000,
            valid_from: None,
            valid_to: None,
            superseded: None,
            supersedes: Vec::new(),
            hidden: false,
            faded: false,
            retracted: false,
        }
    }

    /// The document after a change in part.
    #[must_use]
    pub fn patched(mut self, patch: &Patch) -> Self {
        match patch {
            Patch::Tags { add, remove } => {
                self.tags.retain(|tag| !remove.contains(tag));
                for tag in add {
                    if !self.tags.contains(tag) {
                        self.tags.push(tag.clone());
                    }
                }
            }
            Patch::Hidden(hidden) => self.hidden = *hidden,
            Patch::Faded(faded) => self.faded = *faded,
            Patch::Retracted(retracted) => self.retracted = *retracted,
            Patch::Tagged(tags) => self.tags.clone_from(tags),
            Patch::Standing(superseded, valid_to) => {
                (self.superseded, self.valid_to) = (superseded.clone(), *valid_to);
            }
            Patch::Text(text) => self.text.clone_from(text),
            Patch::Superseded(by, at) => {
                let said_before = self.superseded.map_or(self.valid_to, |(_, before)| before);
                self.superseded = Some((by.clone(), said_before));
                self.valid_to = Some(*at);
            }
            Patch::Reopened(by) => {
                if let Some((_, before)) = self.superseded.take_if(|(other, _)| other == by) {
                    self.valid_to = before;
                }
            }
            Patch::Confidence(confidence) => self.confidence = *confidence,
            Patch::Moved(to) => self.scope = to.clone(),
            Patch::Lines(first, rest) => {
                let (old_first, old_rest) = self.text.split_once('\n').unwrap_or((&self.text, ""));
                let first = first.as_deref().unwrap_or(old_first);
                let rest = rest.as_deref().unwrap_or(old_rest);
                self.text = lines(first, rest);
            }
            Patch::More(text) => self.text = lines(&self.text, text),
        }
        self
    }
}

/// The changes an event makes, in order. `seq` is its position.
pub fn changes_of(event: &Event, meta: &Meta, seq: u64) -> Vec<Change> {
    match event {
        Event::Episodic(event) => episodic_changes(event, meta, seq),
        Event::Semantic(event) => semantic_changes(event, meta, seq),
        Event::Procedural(event) => procedural_changes(event, meta, seq),
        Event::Prospective(event) => prospective_changes(event, meta, seq),
        Event::Graph(event) => graph_changes(event, meta, seq),
        Event::Consolidation(event) => consolidation_changes(event),
        _ => Vec::new(),
    }
}

fn episodic_changes(event: &episodic::Event, meta: &Meta, seq: u64) -> Vec<Change> {
    match event {
        episodic::Event::Remembered(it) => {
            let data: serde_json::Value = serde_json::from_str(&it.meta).unwrap_or_default();
            let named = ["speaker", "actor", "author"].iter().find_map(|key| data.get(key)?.as_str());
            let said = speaker(&it.content);
            let text = match (said, named) {
                (None, Some(name)) => format!("{name}: {}", it.content),
                _ => it.content.clone(),
            };
            put(Document {
                id: it.id.clone(),
                layer: Layer::Episodic,
                scope: meta.scope.clone(),
                session: it.session.clone().or_else(|| meta.scope.session.clone()),
                kind: it.kind.clone(),
                actor: said.or(named).map(str::to_owned),
                text,
                tags: it.tags.clone(),
                at_ms: it.time_ms,
                order: seq,
                confidence: 1000,
                valid_from: None,
                valid_to: None,
                superseded: None,
                supersedes: Vec::new(),
                hidden: false,
                faded: false,
                retracted: false,
            })
        }
        episodic::Event::Annotated(it) if it.add_tags.is_empty() && it.remove_tags.is_empty() => Vec::new(),
        episodic::Event::Annotated(it) => {
            vec![Change::Patch(
                it.id.clone(),
                Patch::Tags { add: it.add_tags.clone(), remove: it.remove_tags.clone() },
            )]
        }
        episodic::Event::Forgotten(it) => gone(&it.ids, it.mode),
        episodic::Event::Restored(it) => each(&it.ids, &Patch::Hidden(false)),
        episodic::Event::Relocated(it) => each(&it.ids, &Patch::Moved(it.to.clone())),
        episodic::Event::Reverted(it) => put_back(&it.items, |to| {
            vec![Patch::Moved(to.scope.clone()), Patch::Tagged(to.tags.clone()), Patch::Hidden(to.hidden)]
        }),
    }
}

fn semantic_changes(event: &semantic::Event, meta: &Meta, seq: u64) -> Vec<Change> {
    let now = i64::try_from(meta.at_ms).unwrap_or(i64::MAX);
    match event {
        semantic::Event::Stored(it) => {
            let closed = it.valid_from_ms.unwrap_or(now);
            let mut changes = each(&it.supersedes, &Patch::Superseded(it.id.clone(), closed));
            changes.extend(put(Document {
                id: it.id.clone(),
                layer: Layer::Semantic,
                scope: meta.scope.clone(),
                session: meta.scope.session.clone(),
                kind: "fact".into(),
                actor: None,
                text: it.content.clone(),
                tags: it.tags.clone(),
                at_ms: now,
                order: seq,
                confidence: thousandths(it.log_odds),
                valid_from: it.valid_from_ms,
                valid_to: it.valid_to_ms,
                superseded: None,
                supersedes: it.supersedes.clone(),
                hidden: false,
                faded: false,
                retracted: false,
            }));
            changes
        }
        semantic::Event::Retracted(it) => vec![Change::Patch(it.id.clone(), Patch::Retracted(true))],
        semantic::Event::Reinforced(it) => {
            vec![Change::Patch(it.id.clone(), Patch::Confidence(thousandths(it.log_odds)))]
        }
        semantic::Event::ConflictResolved(it) => match it.how {
            semantic::How::Supersede => {
                vec![Change::Patch(it.other.clone(), Patch::Superseded(it.keep.clone(), now))]
            }
            semantic::How::Retract => vec![Change::Patch(it.other.clone(), Patch::Retracted(true))],
            semantic::How::BothTrue => Vec::new(),
        },
        semantic::Event::Discarded(it) => gone(&it.ids, it.mode),
        semantic::Event::Restored(it) => each(&it.ids, &Patch::Hidden(false)),
        semantic::Event::Relocated(it) => each(&it.ids, &Patch::Moved(it.to.clone())),
        semantic::Event::Reverted(it) => put_back(&it.items, |to| {
            let by = to.superseded_by.clone().map(|by| (by, to.open_to_ms));
            vec![
                Patch::Moved(to.scope.clone()),
                Patch::Standing(by, to.valid_to_ms),
                Patch::Confidence(thousandths(to.log_odds)),
                Patch::Retracted(to.standing == semantic::Standing::Retracted),
                Patch::Hidden(to.hidden),
            ]
        }),
    }
}

/// A procedure is found by its name, what it is said to do, its tags, and the names in its code. What it did is in its runs.
fn procedural_changes(event: &procedural::Event, meta: &Meta, seq: u64) -> Vec<Change> {
    match event {
        procedural::Event::Learned(it) => {
            let name = it.name.replace('_', " ");
            let names = crate::views::identifiers(&it.code);
            let rest = [it.description.as_str(), &it.tags.join(" "), &names].join("\n");
            if it.version > 1 {
                return vec![
                    Change::Patch(it.id.clone(), Patch::Lines(Some(name), Some(rest))),
                    Change::Patch(it.id.clone(), Patch::Hidden(false)),
                ];
            }
            let mut document =
                Document::of(&it.id, Layer::Procedural, "procedure", lines(&name, &rest), meta, seq);
            document.tags.clone_from(&it.tags);
            put(document)
        }
        procedural::Event::Archived(it) => each(std::slice::from_ref(&it.id), &Patch::Hidden(true)),
        procedural::Event::Relocated(it) => each(&it.ids, &Patch::Moved(it.to.clone())),
        procedural::Event::Executed(_) | procedural::Event::OutcomeRecorded(_) => Vec::new(),
    }
}

fn prospective_changes(event: &prospective::Event, meta: &Meta, seq: u64) -> Vec<Change> {
    let made = |id: &Id, kind: &str, first: &str, rest: Option<&String>| {
        put(Document::of(
            id,
            Layer::Prospective,
            kind,
            lines(first, rest.map_or("", String::as_str)),
            meta,
            seq,
        ))
    };
    let patched = |id: &Id, first: &Option<String>, rest: &Option<String>| match (first, rest) {
        (None, None) => Vec::new(),
        (first, rest) => vec![Change::Patch(id.clone(), Patch::Lines(first.clone(), rest.clone()))],
    };
    match event {
        prospective::Event::TaskCreated(it) => made(&it.id, "task", &it.title, it.notes.as_ref()),
        prospective::Event::GoalCreated(it) => made(&it.id, "goal", &it.title, it.measure.as_ref()),
        prospective::Event::TaskUpdated(it) => patched(&it.id, &it.title, &it.notes),
        prospective::Event::GoalUpdated(it) => patched(&it.id, &it.title, &it.measure),
        prospective::Event::Relocated(it) => each(&it.ids, &Patch::Moved(it.to.clone())),
        prospective::Event::Reverted(it) => put_back(&it.items, |to| {
            let text = match &to.thing {
                prospective::Thing::Task { task, .. } => {
                    lines(&task.title, task.notes.as_deref().unwrap_or(""))
                }
                prospective::Thing::Goal { goal, .. } => {
                    lines(&goal.title, goal.measure.as_deref().unwrap_or(""))
                }
                prospective::Thing::Trigger { .. } => return Vec::new(),
            };
            vec![Patch::Moved(to.scope.clone()), Patch::Text(text), Patch::Hidden(false)]
        }),
        prospective::Event::TriggerRegistered(_) | prospective::Event::TriggerRemoved(_) => Vec::new(),
    }
}

fn graph_changes(event: &graph::Event, meta: &Meta, seq: u64) -> Vec<Change> {
    match event {
        graph::Event::EntityAdded(it) => {
            let text = lines(&it.name, &it.aliases.join("\n"));
            put(Document::of(&it.id, Layer::Graph, &it.kind, text, meta, seq))
        }
        graph::Event::EntityUpdated(it) => {
            // The old name stays as an alias, so names are only ever added.
            let names: Vec<String> = it.name.iter().chain(&it.add_aliases).cloned().collect();
            if names.is_empty() {
                Vec::new()
            } else {
                vec![Change::Patch(it.id.clone(), Patch::More(names.join("\n")))]
            }
        }
        graph::Event::EntitiesMerged(it) => each(&it.merged, &Patch::Hidden(true)),
        graph::Event::EntitySplit(it) => {
            let mut changes = put(Document::of(&it.into, Layer::Graph, "entity", it.name.clone(), meta, seq));
            changes.extend(each(std::slice::from_ref(&it.into), &Patch::Hidden(false)));
            changes
        }
        graph::Event::EntityDeleted(it) => each(std::slice::from_ref(&it.id), &Patch::Hidden(true)),
        graph::Event::EntityRestored(it) => each(std::slice::from_ref(&it.id), &Patch::Hidden(false)),
        graph::Event::Relocated(it) => each(&it.ids, &Patch::Moved(it.to.clone())),
        graph::Event::Reverted(it) => put_back(&it.items, |to| match to {
            graph::Image::Entity { scope, entity, into, deleted } => vec![
                Patch::Moved(scope.clone()),
                Patch::Text(lines(&entity.name, &entity.aliases.join("\n"))),
                Patch::Hidden(*deleted || into.is_some()),
            ],
            graph::Image::Edge { .. } => Vec::new(),
        }),
        graph::Event::EdgeAdded(_) | graph::Event::EdgeInvalidated(_) => Vec::new(),
    }
}

fn consolidation_changes(event: &consolidation::Event) -> Vec<Change> {
    match event {
        consolidation::Event::Consolidated(it) => each(&it.findings.faded, &Patch::Faded(true)),
        consolidation::Event::Undone(it) => each(&it.back, &Patch::Faded(false)),
        consolidation::Event::Pinned(it) if it.pinned => {
            each(std::slice::from_ref(&it.id), &Patch::Faded(false))
        }
        consolidation::Event::Pinned(_)
        | consolidation::Event::Configured(_)
        | consolidation::Event::Reasoned(_)
        | consolidation::Event::Proposed(_)
        | consolidation::Event::Judged(_) => Vec::new(),
    }
}

/// Two parts of a text, the second on lines of its own.
fn lines(first: &str, rest: &str) -> String {
    if rest.is_empty() { first.to_owned() } else { format!("{first}\n{rest}") }
}

fn put(document: Document) -> Vec<Change> {
    vec![Change::Put(Box::new(document))]
}

fn each(ids: &[Id], patch: &Patch) -> Vec<Change> {
    ids.iter().map(|id| Change::Patch(id.clone(), patch.clone())).collect()
}

/// Items as they stood: the patches of their images, and out of sight where there is none.
fn put_back<T>(items: &[Past<T>], patches: impl Fn(&T) -> Vec<Patch>) -> Vec<Change> {
    let of = |past: &Past<T>| past.to.as_ref().map_or_else(|| vec![Patch::Hidden(true)], &patches);
    items
        .iter()
        .flat_map(|past| of(past).into_iter().map(|patch| Change::Patch(past.id.clone(), patch)))
        .collect()
}

fn gone(ids: &[Id], mode: Forgetting) -> Vec<Change> {
    match mode {
        Forgetting::Hide => each(ids, &Patch::Hidden(true)),
        Forgetting::Erase => ids.iter().map(|id| Change::Remove { id: id.clone(), erase: true }).collect(),
    }
}

fn thousandths(log_odds_micro: i32) -> u16 {
    (confidence(log_odds_micro) * 1000.0).round() as u16
}

/// The speaker of a line such as `Caroline: see you on Friday`: at most three capitalised words before the first colon.
pub fn speaker(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(": ")?;
    let plausible = !rest.is_empty()
        && name.len() <= 48
        && name.split(' ').count() <= 3
        && name.split(' ').all(|word| {
            word.chars().next().is_some_and(char::is_uppercase)
                && word.chars().all(|c| c.is_alphanumeric() || "-'._".contains(c))
        });
    plausible.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speaker_is_a_name_before_a_colon() {
        assert_eq!(speaker("Caroline: see you"), Some("Caroline"));
        assert_eq!(speaker("Mary Ann: hello"), Some("Mary Ann"));
        assert_eq!(speaker("note: buy milk"), None);
        assert_eq!(speaker("The whole plan was this and that: nothing"), None);
        assert_eq!(speaker("https://example.org"), None);
    }
}
