//! The consolidation layer: which passes were recorded, what is pinned, and when passes run. What a pass finds is proposed by the
//! read side; the layer checks it against what it knows and records it, so that a replay needs no read side.

use super::check;
use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Layer, time};
use athena_schemas::layers::consolidation::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most items one scope pins.
const PINNED: usize = 10_000;
/// Most of each kind one pass records.
const RECORDED: usize = 10_000;

/// Which passes were recorded, which items are pinned, and the settings, by scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pinned: BTreeSet<(Scope, Id)>,
    /// Where each pass was recorded, and whether it still counts.
    passes: BTreeMap<Id, (Scope, bool)>,
    settings: BTreeMap<Scope, Settings>,
    /// Proposals that were decided on. Those that wait are the read side's: their texts may be erased.
    judged: BTreeSet<Id>,
}

impl Decider for State {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 3;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, meta: &Meta, event: &Event) {
        match event {
            Event::Pinned(event) => {
                let place = (meta.scope.clone(), event.id.clone());
                if event.pinned {
                    self.pinned.insert(place);
                } else {
                    self.pinned.remove(&place);
                }
            }
            Event::Consolidated(event) => {
                self.passes.insert(event.run.clone(), (meta.scope.clone(), true));
            }
            Event::Undone(event) => {
                if let Some((_, counts)) = self.passes.get_mut(&event.run) {
                    *counts = false;
                }
            }
            Event::Configured(event) => {
                self.settings.insert(meta.scope.clone(), event.settings);
            }
            Event::Reasoned(event) => {
                self.passes.insert(event.run.clone(), (meta.scope.clone(), true));
            }
            Event::Proposed(_) => {}
            Event::Judged(event) => {
                self.judged.insert(event.id.clone());
            }
        }
    }
}

/// What the read side found, without what it may not touch.
fn findings(state: &State, cx: &Context) -> Result<Findings, Refusal> {
    let proposal = cx.evidence.proposal.clone();
    let mut findings: Findings = proposal
        .and_then(|proposal| serde_json::from_value(proposal).ok())
        .ok_or_else(|| Refusal::internal("the read side proposed nothing"))?;
    let pinned: BTreeSet<&Id> = state.pinned.iter().map(|(_, id)| id).collect();
    findings.faded.retain(|id| !pinned.contains(id));
    findings.clusters.truncate(RECORDED);
    findings.links.truncate(RECORDED);
    findings.faded.truncate(RECORDED);
    findings.counts.faded = findings.faded.len() as u32;
    Ok(findings)
}

impl State {
    /// Decides on a proposal that the read side knows, once.
    fn decided(&self, cx: &Context, id: Id, fact: Option<Id>) -> Result<Decision<Event, Ack>, Refusal> {
        if !cx.evidence.matched.contains(&id) {
            return Err(Refusal::not_found(format!("there is no proposal {id} in this scope"))
                .at("id")
                .hint("consolidation/proposals names those there are"));
        }
        if self.judged.contains(&id) {
            return Err(Refusal::conflict(format!("{id} was decided on before"))
                .at("id")
                .hint("consolidation/proposals says how"));
        }
        let ack = Ack::of(fact.clone().unwrap_or_else(|| id.clone()));
        Ok(Decision::one(Judged { id, fact }, ack))
    }
}

/// A claim as it is recorded.
fn proposed(cx: &Context, run: &Id, claim: Claim) -> Result<Proposed, Refusal> {
    let content = check::text("content", claim.content)?;
    if content.len() > PROPOSAL_BYTES {
        return Err(
            Refusal::new(Code::LimitExceeded, format!("at most {PROPOSAL_BYTES} bytes")).at("content")
        );
    }
    check::count("sources", claim.sources.len(), PROPOSAL_SOURCES)?;
    let confidence = check::per_mille("confidence", claim.confidence)?;
    Ok(Proposed { run: run.clone(), id: cx.mint("pp"), content, sources: claim.sources, confidence })
}

fn found_nothing(findings: &Findings) -> bool {
    findings.counts.events == 0 && findings.links.is_empty() && findings.faded.is_empty()
}

impl Commands for State {
    fn consolidate(&self, cx: &Context, op: Consolidate) -> Result<Decision<Event, Run>, Refusal> {
        let findings = findings(self, cx)?;
        let strategy = op.strategy.unwrap_or_default();
        let mut answer = Run {
            run: None,
            kind: Kind::Consolidate,
            strategy,
            at: time(cx.now_ms as i64),
            undone: false,
            counts: findings.counts,
            asked: None,
            seq: None,
        };
        if found_nothing(&findings) {
            return Ok(Decision::nothing(answer));
        }
        let run = cx.mint("co");
        (answer.run, answer.seq) = (Some(run.clone()), Some(0));
        Ok(Decision::one(Consolidated { run, kind: Kind::Consolidate, strategy, findings }, answer))
    }

    fn dedupe(&self, cx: &Context, op: Dedupe) -> Result<Decision<Event, Deduped>, Refusal> {
        let findings = findings(self, cx)?;
        let groups = findings.counts.clusters;
        if op.dry_run || findings.links.is_empty() {
            return Ok(Decision::nothing(Deduped { groups, run: None, seq: None }));
        }
        let run = cx.mint("co");
        let answer = Deduped { groups, run: Some(run.clone()), seq: Some(0) };
        let event = Consolidated { run, kind: Kind::Dedupe, strategy: Strategy::Fast, findings };
        Ok(Decision::one(event, answer))
    }

    fn decay(&self, cx: &Context, op: Decay) -> Result<Decision<Event, Decayed>, Refusal> {
        let findings = findings(self, cx)?;
        let (weakened, archived) = (findings.counts.weakened, findings.faded.len() as u32);
        if op.dry_run || findings.faded.is_empty() {
            return Ok(Decision::nothing(Decayed { weakened, archived, run: None, seq: None }));
        }
        let run = cx.mint("co");
        let answer = Decayed { weakened, archived, run: Some(run.clone()), seq: Some(0) };
        let event = Consolidated { run, kind: Kind::Decay, strategy: Strategy::Thorough, findings };
        Ok(Decision::one(event, answer))
    }

    fn undo(&self, cx: &Context, op: Undo) -> Result<Decision<Event, Ack>, Refusal> {
        match self.passes.get(&op.run) {
            Some((scope, true)) if cx.scope.covers(scope) => {
                let event = Undone { run: op.run.clone(), back: cx.evidence.matched.clone() };
                Ok(Decision::one(event, Ack::of(op.run)))
            }
            Some((scope, false)) if cx.scope.covers(scope) => {
                Err(Refusal::conflict(format!("{} was undone before", op.run)).at("run"))
            }
            _ => Err(Refusal::not_found(format!("there is no pass {} in this scope", op.run))
                .at("run")
                .hint("consolidation/history names those there are")),
        }
    }

    fn pin(&self, cx: &Context, op: Pin) -> Result<Decision<Event, Ack>, Refusal> {
        if Layer::of(&op.id).is_none() {
            return Err(Refusal::invalid(format!("{} is no memory item", op.id))
                .at("id")
                .hint("ids begin with ep_, fa_, pr_, ta_, go_, tr_, en_ or ed_"));
        }
        let here = |(scope, _): &&(Scope, Id)| *scope == cx.scope;
        if op.pinned == self.pinned.contains(&(cx.scope.clone(), op.id.clone())) {
            return Ok(Decision::nothing(Ack::duplicate(op.id)));
        }
        if op.pinned && self.pinned.iter().filter(here).count() >= PINNED {
            return Err(
                Refusal::conflict(format!("{PINNED} items are pinned already")).hint("unpin some first")
            );
        }
        let ack = Ack::of(op.id.clone());
        Ok(Decision::one(Pinned { id: op.id, pinned: op.pinned }, ack))
    }

    fn configure(&self, cx: &Context, op: Configure) -> Result<Decision<Event, Settled>, Refusal> {
        let within = |field: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                Ok(value)
            } else {
                Err(Refusal::invalid(format!("{field} is {value}, not from {least} to {most}")).at(field))
            }
        };
        let mut settings = self.settings.get(&cx.scope).copied().unwrap_or_default();
        if let Some(hours) = op.every_hours {
            settings.every_hours = within("every_hours", hours, 0, 8_760)?;
        }
        if let Some(days) = op.half_life_days {
            settings.half_life_days = within("half_life_days", days, 1, 3_650)?;
        }
        if let Some(strength) = op.fade_below {
            let milli = check::per_mille("fade_below", strength)?;
            settings.fade_below_milli = within("fade_below", u32::from(milli), 0, 500)? as u16;
        }
        settings.strategy = op.strategy.unwrap_or(settings.strategy);
        Ok(Decision::one(Configured { settings }, Settled { settings, seq: 0 }))
    }

    fn reject(&self, cx: &Context, op: Reject) -> Result<Decision<Event, Ack>, Refusal> {
        self.decided(cx, op.id, None)
    }

    fn judge(&self, cx: &Context, op: Judge) -> Result<Decision<Event, Ack>, Refusal> {
        self.decided(cx, op.id, Some(op.fact))
    }

    fn note_reasoning(&self, cx: &Context, op: NoteReasoning) -> Result<Decision<Event, Noted>, Refusal> {
        if op.claims.len() > PROPOSALS {
            let many = format!("{} claims; at most {PROPOSALS} are taken", op.claims.len());
            return Err(Refusal::new(Code::LimitExceeded, many).at("claims"));
        }
        let asked = Asked { model: check::word("asked.model", op.asked.model)?, ..op.asked };
        let run = cx.mint("co");
        let mut events = vec![Event::from(Reasoned { run: run.clone(), of: op.of, asked })];
        let mut proposals = Vec::with_capacity(op.claims.len());
        for (at, claim) in op.claims.into_iter().enumerate() {
            let proposal = proposed(cx, &run, claim)
                .map_err(|refusal| check::under(&format!("claims[{at}]"), refusal))?;
            proposals.push(proposal.id.clone());
            events.push(proposal.into());
        }
        Ok(Decision::many(events, Noted { run, proposals, seq: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer as Tested;
    use athena_schemas::layers::consolidation::{Call, parse};
    use athena_schemas::operation::to_json;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer() -> Tested<State> {
        Tested::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        })
    }

    fn proposal(faded: &[&str]) -> Value {
        let faded = faded.iter().map(|id| Id::from_text(*id)).collect();
        let counts = Counts { events: 3, ..Counts::default() };
        to_json(Findings { counts, faded, ..Findings::default() }).unwrap()
    }

    #[test]
    fn an_item_is_pinned_once_and_unpinned() {
        let mut layer = layer();
        let pin = |pinned: bool| json!({"id": "ep_1", "pinned": pinned});
        assert_eq!(layer.when("pin", pin(true)).unwrap().0.len(), 1);
        assert!(layer.when("pin", pin(true)).unwrap().0.is_empty());
        assert_eq!(layer.when("pin", pin(false)).unwrap().0.len(), 1);
        assert_eq!(layer.state, State::default());
        assert_eq!(layer.replayed(), layer.state);
        assert!(layer.when("pin", json!({"id": "nothing", "pinned": true})).is_err());
    }

    #[test]
    fn what_is_pinned_does_not_fade_whatever_the_read_side_proposes() {
        let mut layer = layer();
        layer.when("pin", json!({"id": "ep_1", "pinned": true})).unwrap();
        layer.cx.evidence.proposal = Some(proposal(&["ep_1", "ep_2"]));
        let (events, answer) = layer.when("decay", json!({})).unwrap();
        let [Event::Consolidated(event)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(event.findings.faded, [Id::from_text("ep_2")]);
        assert_eq!(answer["archived"], 1);
        let (events, answer) = layer.when("decay", json!({"dry_run": true})).unwrap();
        assert_eq!((events.len(), &answer["archived"]), (0, &json!(1)));
    }

    #[test]
    fn a_pass_is_undone_once_and_only_by_those_who_may_see_it() {
        let mut layer = layer();
        layer.cx.evidence.proposal = Some(proposal(&[]));
        let (_, answer) = layer.when("consolidate", json!({})).unwrap();
        let undo = json!({"run": answer["run"]});
        let home = std::mem::replace(&mut layer.cx.scope, Scope::project("other"));
        assert_eq!(layer.when("undo", undo.clone()).unwrap_err().code, Code::NotFound);
        layer.cx.scope = home;
        assert_eq!(layer.when("undo", undo.clone()).unwrap().0.len(), 1);
        assert_eq!(layer.when("undo", undo).unwrap_err().code, Code::Conflict);
        assert_eq!(layer.replayed(), layer.state);
    }

    #[test]
    fn a_proposal_cites_its_sources_and_is_decided_on_once() {
        let mut layer = layer();
        let claim =
            |sources: &[&str]| json!({"content": "tea is in the tin", "sources": sources, "confidence": 0.7});
        let note = |claim: Value| {
            let asked = json!({"model": "ollama/x", "prompt": 1, "calls": 1, "failed": 0, "dropped": 0,
                "tokens_in": 9, "tokens_out": 3});
            json!({"of": "co_1", "asked": asked, "claims": [claim]})
        };
        let refusal = layer.when("note_reasoning", note(claim(&[]))).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("claims[0].sources"));
        let mut long = claim(&["ep_1"]);
        long["content"] = json!("x".repeat(PROPOSAL_BYTES + 1));
        assert_eq!(layer.when("note_reasoning", note(long)).unwrap_err().code, Code::LimitExceeded);

        let (events, answer) = layer.when("note_reasoning", note(claim(&["ep_1"]))).unwrap();
        assert_eq!(events.len(), 2);
        let id = answer["proposals"][0].clone();
        assert_eq!(layer.when("reject", json!({"id": id})).unwrap_err().code, Code::NotFound);
        layer.cx.evidence.matched = vec![Id::from_text(id.as_str().unwrap())];
        assert_eq!(layer.when("reject", json!({"id": id})).unwrap().0.len(), 1);
        let again = layer.when("judge", json!({"id": id, "fact": "fa_1"})).unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        assert_eq!(layer.when("undo", json!({"run": answer["run"]})).unwrap().0.len(), 1);
        assert_eq!(layer.replayed(), layer.state);
    }

    #[test]
    fn settings_keep_what_is_not_said_and_have_bounds() {
        let mut layer = layer();
        layer.when("configure", json!({"every_hours": 12})).unwrap();
        let (_, answer) = layer.when("configure", json!({"fade_below": 0.1})).unwrap();
        assert_eq!(answer["settings"]["every_hours"], 12);
        assert_eq!(answer["settings"]["fade_below_milli"], 100);
        assert!(layer.when("configure", json!({"half_life_days": 0})).is_err());
        assert!(layer.when("configure", json!({"fade_below": 0.9})).is_err());
        assert_eq!(layer.replayed(), layer.state);
    }

    proptest! {
        #[test]
        fn any_history_replays_to_the_same_state(steps in proptest::collection::vec((0_u8..7, 0_usize..4), 0..40)) {
            let mut layer = layer();
            let (mut runs, mut proposals) = (vec![json!("co_0")], vec![json!("pp_0")]);
            for (what, which) in steps {
                let run = runs[which % runs.len()].clone();
                let proposal = proposals[which % proposals.len()].clone();
                layer.cx.evidence.proposal = Some(self::proposal(&["ep_1", "ep_2"]));
                layer.cx.evidence.matched = vec![Id::from_text(proposal.as_str().unwrap())];
                let answer = match what {
                    0 => layer.when("consolidate", json!({})),
                    1 => layer.when("decay", json!({})),
                    2 => layer.when("undo", json!({"run": run})),
                    3 => layer.when("pin", json!({"id": format!("ep_{which}"), "pinned": which % 2 == 0})),
                    4 => layer.when("configure", json!({"every_hours": which})),
                    5 => layer.when("reject", json!({"id": proposal})),
                    _ => {
                        let asked = json!({"model": "ollama/x", "prompt": 1, "calls": 1, "failed": 0, "dropped": 0,
                            "tokens_in": 9, "tokens_out": 3});
                        let claim = json!({"content": "tea", "sources": ["ep_1"], "confidence": 0.5});
                        layer.when("note_reasoning", json!({"of": run, "asked": asked, "claims": [claim]}))
                    }
                };
                let Ok((_, answer)) = answer else { continue };
                runs.extend(answer.get("run").filter(|run| run.is_string()).cloned());
                proposals.extend(answer["proposals"].as_array().into_iter().flatten().cloned());
            }
            prop_assert_eq!(layer.replayed(), layer.state);
        }
    }
}
