//! The procedural layer: code under names, in versions that are never lost.

use super::check;
use super::placing::moved;
use super::shelf::{Digest, Shelf, digest};
use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::Ack;
use athena_schemas::layers::procedural::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Risk;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most bytes of a procedure's code.
const CODE_BYTES: usize = 256 << 10;
/// Most bytes of a name.
const NAME_BYTES: usize = 64;

/// Which procedures there are, and which runs were theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    shelf: Shelf<Entry>,
    names: BTreeMap<Digest, Id>,
    runs: BTreeMap<Id, Id>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    version: u32,
    hash: String,
    archived: bool,
}

impl Decider for State {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 1;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, meta: &Meta, event: &Event) {
        match event {
            Event::Learned(event) => {
                let hash = content_hash(event.language, &event.code);
                let entry = Entry { version: event.version, hash, archived: false };
                match self.shelf.entry(&event.id) {
                    Some(known) => *known = entry,
                    None => self.shelf.put(&event.id, &meta.scope, None, entry),
                }
                self.names.insert(name_digest(&meta.scope, &event.name), event.id.clone());
            }
            Event::Executed(event) => {
                self.runs.insert(event.run.clone(), event.id.clone());
            }
            Event::OutcomeRecorded(_) => {}
            Event::Archived(event) => {
                if let Some(entry) = self.shelf.entry(&event.id) {
                    entry.archived = true;
                }
            }
            Event::Relocated(event) => {
                self.shelf.relocate(&event.ids, &event.to);
                let moved = |id: &Id| event.ids.contains(id);
                self.names.retain(|_, id| !moved(id));
            }
        }
    }
}

/// Names are unique within a project.
fn name_digest(scope: &Scope, name: &str) -> Digest {
    let project = Scope { project: scope.project.clone(), ..Scope::default() };
    digest("athena procedure name", &project, &[name.as_bytes()])
}

fn name(given: String) -> Result<String, Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if given.is_empty() || given.len() > NAME_BYTES || !given.chars().all(plain) {
        return Err(Refusal::invalid(format!("{given:?} is no name of a procedure"))
            .at("name")
            .hint("lower-case letters, digits and _, at most 64: fetch_invoices"));
    }
    Ok(given)
}

/// What the analysis said of the code; nothing where there is no worker that could look at it, and so none that could run it.
fn judgement(cx: &Context) -> Judgement {
    let said = cx.evidence.proposal.clone();
    said.and_then(|said| serde_json::from_value(said).ok()).unwrap_or_default()
}

/// The highest risk of the operations a code names, by the catalogue; a tool of another server counts as MEDIUM. It is the
/// least that a procedure's risk is, whatever the analysis of its code says.
fn named_risk(code: &str) -> Risk {
    let mut risk = Risk::Low;
    for entry in athena_schemas::catalog::entries() {
        let dotted = format!("{}.{}(", entry.layer, entry.name);
        let path = format!("/mcp-servers/athena/{}/{}", entry.layer, entry.name);
        if code.contains(&dotted) || code.contains(&path) {
            risk = risk.max(entry.traits.risk);
        }
    }
    let elsewhere = code
        .match_indices("/mcp-servers/")
        .any(|(at, found)| code.get(at + found.len()..).is_some_and(|rest| !rest.starts_with("athena/")));
    if elsewhere || code.contains("callMCPTool") { risk.max(Risk::Medium) } else { risk }
}

impl State {
    fn named(&self, cx: &Context, name: &str) -> Result<(&Id, &Entry), Refusal> {
        let missing = || {
            Refusal::not_found(format!("there is no procedure {name:?} in this scope"))
                .hint("procedural/list names those there are")
                .at("name")
        };
        let id = self.names.get(&name_digest(&cx.scope, name)).ok_or_else(missing)?;
        Ok((id, self.shelf.get(cx, id).map_err(|_| missing())?))
    }
}

impl Commands for State {
    fn learn(&self, cx: &Context, op: Learn) -> Result<Decision<Event, Lesson>, Refusal> {
        let name = name(op.name)?;
        if op.code.trim().is_empty() {
            return Err(Refusal::invalid("the code is empty").at("code"));
        }
        if op.code.len() > CODE_BYTES {
            return Err(Refusal::new(Code::LimitExceeded, format!("the code has {} bytes", op.code.len()))
                .at("code")
                .hint("at most 256 KiB: split it into procedures that call each other"));
        }
        if !(op.params.is_null() || op.params.is_object()) {
            return Err(Refusal::invalid("params is no JSON Schema object").at("params"));
        }
        let known = self.named(cx, &name).ok();
        let commit = content_hash(op.language, &op.code);
        let judged = judgement(cx);
        let (risk, reasons) = (named_risk(&op.code).max(judged.level), judged.reasons);
        if let Some((id, entry)) = known
            && entry.hash == commit
            && !entry.archived
        {
            let (id, version) = (id.clone(), entry.version);
            return Ok(Decision::nothing(Lesson {
                id,
                version,
                commit,
                risk,
                reasons,
                seq: 0,
                unchanged: true,
            }));
        }
        let version = known.map_or(1, |(_, entry)| entry.version + 1);
        let id = known.map_or_else(|| cx.mint("pr"), |(id, _)| id.clone());
        let event = Learned {
            id: id.clone(),
            name,
            version,
            code: op.code,
            language: op.language,
            description: check::text("description", op.description)?,
            params: if op.params.is_null() { String::new() } else { op.params.to_string() },
            tags: check::tags("tags", op.tags)?,
            category: op.category.map(|category| check::word("category", category)).transpose()?,
            risk,
            origin: check::origin(cx, None),
            rollback_to: None,
            reason: None,
        };
        Ok(Decision::one(event, Lesson { id, version, commit, risk, reasons, seq: 0, unchanged: false }))
    }

    fn rollback(&self, cx: &Context, op: Rollback) -> Result<Decision<Event, Ack>, Refusal> {
        let (id, entry) = self.named(cx, &op.name)?;
        let old: Learned = cx
            .evidence
            .proposal
            .clone()
            .and_then(|old| serde_json::from_value(old).ok())
            .filter(|old: &Learned| old.id == *id && old.version == op.to)
            .ok_or_else(|| {
                Refusal::not_found(format!("{} has no version {}", op.name, op.to))
                    .at("to")
                    .hint("procedural/versions")
            })?;
        if old.version == entry.version {
            return Err(Refusal::conflict(format!("version {} is the newest already", op.to)).at("to"));
        }
        let reason = check::maybe_text("reason", op.reason)?;
        let event = Learned {
            version: entry.version + 1,
            rollback_to: Some(op.to),
            reason,
            origin: check::origin(cx, None),
            ..old
        };
        Ok(Decision::one(event, Ack::of(id.clone())))
    }

    fn record_outcome(&self, cx: &Context, op: RecordOutcome) -> Result<Decision<Event, Ack>, Refusal> {
        let id = self.runs.get(&op.run).filter(|id| self.shelf.get(cx, id).is_ok()).ok_or_else(|| {
            Refusal::not_found(format!("{} is no run of a procedure in this scope", op.run))
                .hint("procedural/execute answers the run")
                .at("run")
        })?;
        let note = check::maybe_text("note", op.note)?;
        Ok(Decision::one(OutcomeRecorded { run: op.run, ok: op.ok, note }, Ack::of(id.clone())))
    }

    fn archive(&self, cx: &Context, op: Archive) -> Result<Decision<Event, Ack>, Refusal> {
        let (id, entry) = self.named(cx, &op.name)?;
        if entry.archived {
            return Err(Refusal::conflict(format!("{} is archived already", op.name)));
        }
        Ok(Decision::one(Archived { id: id.clone() }, Ack::of(id.clone())))
    }

    fn note_execution(&self, cx: &Context, op: NoteExecution) -> Result<Decision<Event, Ack>, Refusal> {
        let (id, _) = self.named(cx, &op.name)?;
        let event = Executed {
            id: id.clone(),
            version: op.version,
            run: op.run,
            ok: op.ok,
            duration_ms: op.duration_ms,
        };
        Ok(Decision::one(event, Ack::of(id.clone())))
    }

    fn relocate(&self, cx: &Context, op: Relocate) -> Result<Decision<Event, Moved>, Refusal> {
        moved(op, |ids| self.shelf.visible(cx, ids, false), |ids, to| Relocated { ids, to }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        })
    }

    fn learn(code: &str) -> Value {
        json!({"name": "boil", "language": "ts", "code": code, "description": "Boils water."})
    }

    #[test]
    fn the_same_name_makes_a_new_version_and_the_same_code_none() {
        let mut layer = layer();
        let (_, first) = layer.when("learn", learn("return 1")).unwrap();
        let (events, again) = layer.when("learn", learn("return 1")).unwrap();
        assert_eq!((events.len(), &again["unchanged"], &again["version"]), (0, &json!(true), &json!(1)));
        let (_, second) = layer.when("learn", learn("return 2")).unwrap();
        assert_eq!((&second["id"], &second["version"]), (&first["id"], &json!(2)));
        assert_ne!(second["commit"], first["commit"]);
    }

    #[test]
    fn a_rollback_is_a_new_version_with_the_old_content() {
        let mut layer = layer();
        let (events, _) = layer.when("learn", learn("return 1")).unwrap();
        layer.when("learn", learn("return 2")).unwrap();
        let back = json!({"name": "boil", "to": 1});
        assert_eq!(layer.when("rollback", back.clone()).unwrap_err().code, Code::NotFound);
        let Event::Learned(old) = &events[0] else { panic!("{events:?}") };
        layer.cx.evidence.proposal = Some(serde_json::to_value(old).unwrap());
        let (events, _) = layer.when("rollback", back).unwrap();
        assert!(
            matches!(&events[0], Event::Learned(e) if e.version == 3 && e.code == "return 1" && e.rollback_to == Some(1))
        );
    }

    #[test]
    fn the_risk_is_that_of_the_worst_operation_named() {
        assert_eq!(named_risk("return athena.semantic.search({query: 'x'})"), Risk::Low);
        assert_eq!(named_risk("athena.episodic.forget({})"), Risk::High);
        assert_eq!(named_risk("import { f } from '/mcp-servers/athena/episodic/forget.ts'"), Risk::High);
        assert_eq!(named_risk("import { f } from '/mcp-servers/mail/send.ts'"), Risk::Medium);
    }

    #[test]
    fn outcomes_belong_to_runs_of_procedures() {
        let mut layer = layer();
        let (_, lesson) = layer.when("learn", learn("return 1")).unwrap();
        let outcome = json!({"run": "run_1", "ok": true});
        assert_eq!(layer.when("record_outcome", outcome.clone()).unwrap_err().code, Code::NotFound);
        let ran = json!({"name": "boil", "version": 1, "run": "run_1", "ok": true, "duration_ms": 3});
        layer.when("note_execution", ran).unwrap();
        assert_eq!(layer.when("record_outcome", outcome).unwrap().1["id"], lesson["id"]);
        layer.cx.scope = Scope::project("other");
        assert_eq!(layer.when("archive", json!({"name": "boil"})).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn names_are_plain() {
        for bad in ["", "Boil", "boil-water", "../x", &"x".repeat(65)] {
            assert_eq!(name(bad.to_owned()).unwrap_err().path.as_deref(), Some("name"), "{bad}");
        }
    }

    #[test]
    fn the_risk_is_what_the_analysis_says_and_no_less_than_what_the_code_names() {
        let mut layer = layer();
        let learn = |name: &str, code: &str| json!({"name": name, "code": code, "language": "ts", "description": "Does it."});
        let judged = Judgement { level: Risk::High, reasons: vec!["it builds code (line 1)".into()] };
        layer.cx.evidence.proposal = Some(serde_json::to_value(judged).unwrap());
        let (events, answer) = layer.when("learn", learn("a", "return 1")).unwrap();
        let [Event::Learned(learned)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((learned.risk, &answer["reasons"][0]), (Risk::High, &json!("it builds code (line 1)")));
        layer.cx.evidence.proposal = Some(serde_json::to_value(Judgement::default()).unwrap());
        let erases = "await athena.graph.delete_entity({ id: input.id })";
        assert_eq!(layer.when("learn", learn("b", erases)).unwrap().1["risk"], "HIGH");
    }

    proptest! {
        #[test]
        fn the_state_is_the_fold_of_its_events(steps in proptest::collection::vec((0_u8..5, 0_u8..3), 0..30)) {
            let mut layer = layer();
            for (what, n) in steps {
                let _ = match what {
                    0 | 1 => layer.when("learn", learn(&format!("return {n}"))),
                    2 => layer.when("archive", json!({"name": "boil"})),
                    3 => layer.when("note_execution", json!({"name": "boil", "version": 1, "run": format!("run_{n}"), "ok": true, "duration_ms": 1})),
                    _ => layer.when("record_outcome", json!({"run": format!("run_{n}"), "ok": n == 0})),
                };
            }
            prop_assert_eq!(&layer.replayed(), &layer.state);
        }
    }
}
