//! The world as a run sees it: first its record, then the living router.
//!
//! While the record has something to tell, the code is told that, in the recorded order, and nothing leaves. A call beyond
//! the record goes out for real. So the same host serves a fresh run (an empty record), a resumed one, and a replay (a
//! record and no router).

use super::drive::{Host, Stop};
use super::record::{Pending, Recorder};
use super::tape::{Asked, Tape, Told};
use athena_schemas::context::{Caller, Scope};
use athena_schemas::envelope::Seq;
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::common::time;
use athena_schemas::layers::run::{
    Answered, Bound, Called, Divergence, Doubt, Effect, Line, Step, TimerFired, TimerSet, Violated,
};
use athena_schemas::ports::{Answer, Request, Router};
use athena_schemas::refusal::{Code, Refusal};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Host calls of one run that are under way at once; more wait their turn.
const CALLS_AT_ONCE: usize = 32;
/// The largest answer code is given, bytes of JSON.
const ANSWER_MAX: usize = 8 << 20;
/// Denied calls of one run that are recorded as violations; the rest is noise.
const VIOLATIONS_MAX: u32 = 16;
/// A denied call with more parameters than this looks like data on its way out, bytes.
const EXFILTRATION: usize = 4 << 10;

/// What a run has of the living world. A replay has none of it.
pub(crate) struct Live {
    pub(crate) router: Arc<dyn Router>,
    pub(crate) caller: Caller,
    pub(crate) run: Id,
    pub(crate) effects: Arc<dyn super::parts::Effects>,
    pub(crate) clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) count: fn(&str) -> usize,
    pub(crate) recorder: Recorder,
    /// What to do about calls whose outcome is not known.
    pub(crate) doubt: Option<Doubt>,
}

/// How far a replay goes.
pub(crate) struct Offline {
    /// Not beyond this call.
    pub(crate) until: Option<u32>,
    /// Whether the record ends with the code's own end; otherwise something outside ended it.
    pub(crate) whole: bool,
}

/// With whom the host speaks once the record is played out.
pub(crate) enum Beyond {
    /// The living router.
    Live(Box<Live>),
    /// Nobody.
    Offline(Offline),
}

/// The host of one run.
pub(crate) struct World {
    beyond: Beyond,
    asked: BTreeMap<u32, Asked>,
    told: VecDeque<Told>,
    answered: BTreeSet<u32>,
    issued: BTreeSet<u32>,
    under_way: JoinSet<Outcome>,
    gate: Arc<Semaphore>,
    clock_ms: u64,
    violations: u32,
    /// What happened, in order; only where a trace is wanted.
    pub(crate) trace: Option<Vec<Step>>,
    /// Console lines.
    pub(crate) lines: Vec<Line>,
    /// Answers and timers given to the code.
    pub(crate) delivered: u32,
    /// Host calls made, timers not counted.
    pub(crate) calls: u32,
    /// Whether anything was called that is not read-only.
    pub(crate) effectful: bool,
    /// What the same calls would have cost a model's context directly, tokens.
    pub(crate) direct_tokens: u64,
}

/// What a run did, as far as its end needs it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Console lines.
    pub(crate) lines: Vec<Line>,
    /// Host calls made, timers not counted.
    pub(crate) calls: u32,
    /// Whether anything was called that is not read-only.
    pub(crate) effectful: bool,
    /// What the same calls would have cost a model's context directly, tokens.
    pub(crate) direct_tokens: u64,
}

/// What came of a call or a timer.
enum Outcome {
    Call {
        call: u32,
        effect: Effect,
        op: String,
        size: usize,
        result: Result<Answer, Refusal>,
    },
    Timer {
        call: u32,
    },
    /// The record of an intent could not be synced.
    Broken(Refusal),
}

/// What code may say beside a call's parameters.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Options {
    scope: Option<Scope>,
    idempotency_key: Option<String>,
    at_seq: Option<Seq>,
}

impl World {
    /// A world that first tells what `tape` holds.
    pub(crate) fn new(tape: &Tape, beyond: Beyond) -> Self {
        Self {
            beyond,
            asked: tape.asked.clone(),
            told: tape.told.clone(),
            answered: tape.told.iter().map(|told| told.call).collect(),
            issued: BTreeSet::new(),
            under_way: JoinSet::new(),
            gate: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            clock_ms: tape.started.clock_ms,
            violations: 0,
            trace: None,
            lines: Vec::new(),
            delivered: 0,
            calls: 0,
            effectful: tape
                .asked
                .values()
                .any(|asked| matches!(asked, Asked::Call { effect, .. } if *effect != Effect::ReadOnly)),
            direct_tokens: 0,
        }
    }

    /// Ends the world of a living run: calls under way are cancelled; what was seen remains.
    pub(crate) fn into_parts(self) -> Result<(Recorder, Seen), Refusal> {
        let Self { beyond, lines, calls, effectful, direct_tokens, .. } = self;
        match beyond {
            Beyond::Live(live) => Ok((live.recorder, Seen { lines, calls, effectful, direct_tokens })),
            Beyond::Offline(_) => Err(Refusal::internal("a replay has no recorder")),
        }
    }

    /// The recorder of a live run.
    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        match &mut self.beyond {
            Beyond::Live(live) => Some(&mut live.recorder),
            Beyond::Offline(_) => None,
        }
    }

    /// Compares what the code asks with what it asked then; whether it is on record at all.
    fn expect(&mut self, call: u32, now: &Asked) -> Result<bool, Stop> {
        if let Beyond::Offline(offline) = &self.beyond
            && offline.until.is_some_and(|until| call > until)
        {
            return Err(Stop::PlayedOut);
        }
        self.issued.insert(call);
        let Some(then) = self.asked.get(&call) else {
            let Beyond::Offline(offline) = &self.beyond else { return Ok(false) };
            // A run that was ended from outside may have been about to make this call.
            return Err(if offline.whole { diverged(call, "no further call", now) } else { Stop::PlayedOut });
        };
        match (then, now) {
            (
                Asked::Call { op, params, options, .. },
                Asked::Call { op: now_op, params: now_params, options: now_options, .. },
            ) if op == now_op && params == now_params && options == now_options => Ok(true),
            (Asked::Timer { after_ms }, Asked::Timer { after_ms: now_ms }) if after_ms == now_ms => Ok(true),
            _ => Err(diverged(call, &describe(then), now)),
        }
    }

    /// Whether a replay has nothing more to tell or to hear.
    fn played_out(&self) -> bool {
        let Beyond::Offline(offline) = &self.beyond else { return false };
        match offline.until {
            Some(until) => !self.told.iter().any(|told| told.call <= until) && self.issued.contains(&until),
            None => {
                !offline.whole
                    && self.told.is_empty()
                    && self.asked.keys().all(|call| self.issued.contains(call))
            }
        }
    }

    fn tell(&mut self, told: Told) -> Told {
        self.delivered += 1;
        self.clock_ms = self.clock_ms.max(told.clock_ms);
        if let Some(trace) = &mut self.trace {
            let clock = time(i64::try_from(self.clock_ms).unwrap_or(i64::MAX));
            trace.push(match self.asked.get(&told.call) {
                Some(Asked::Timer { .. }) => Step::Timer { call: told.call, clock },
                _ => {
                    let text = told.result.as_deref().unwrap_or_else(|refusal| refusal);
                    let value = serde_json::from_str(text).unwrap_or_default();
                    Step::Answer { call: told.call, ok: told.result.is_ok(), value, clock }
                }
            });
        }
        told
    }
}

impl Host for World {
    fn called(&mut self, call: u32, op: String, params: String, options: String) -> Result<(), Stop> {
        self.calls += 1;
        if let Some(trace) = &mut self.trace {
            let params = serde_json::from_str(&params).unwrap_or_default();
            trace.push(Step::Call { call, op: op.clone(), params });
        }
        let effect = match (&self.beyond, self.asked.get(&call)) {
            // What was called is called again as what it was then: the catalogue may have changed since.
            (_, Some(Asked::Call { effect, .. })) => *effect,
            (Beyond::Live(live), _) => live.effects.effect(&op),
            (Beyond::Offline(_), _) => Effect::Unknown,
        };
        let asked = Asked::Call { op, params, options, effect };
        let on_record = self.expect(call, &asked)?;
        let Asked::Call { op, params, options, .. } = asked else { return Ok(()) };
        self.effectful |= effect != Effect::ReadOnly;
        if self.answered.contains(&call) {
            if let Beyond::Live(live) = &self.beyond {
                self.direct_tokens += tokens(live.count, &op, &params);
            }
            return Ok(());
        }
        let Beyond::Live(live) = &mut self.beyond else {
            return if self.played_out() { Err(Stop::PlayedOut) } else { Ok(()) };
        };
        self.direct_tokens += tokens(live.count, &op, &params);
        if on_record && effect == Effect::Unknown && live.doubt == Some(Doubt::Fail) {
            let refusal = Refusal::new(Code::Unknown, format!("whether {op} happened is not known"))
                .hint("look at the other system before you call it again");
            let size = params.len();
            self.under_way
                .spawn(async move { Outcome::Call { call, effect, op, size, result: Err(refusal) } });
            return Ok(());
        }
        let synced = live.leave(call, &op, &params, &options, effect, on_record).map_err(Stop::Broken)?;
        live.dispatch(&mut self.under_way, self.gate.clone(), call, op, &params, &options, effect, synced);
        Ok(())
    }

    fn timer(&mut self, call: u32, after_ms: u64) -> Result<(), Stop> {
        let on_record = self.expect(call, &Asked::Timer { after_ms })?;
        if self.answered.contains(&call) {
            return Ok(());
        }
        let due_ms = self.clock_ms.saturating_add(after_ms);
        let Beyond::Live(live) = &mut self.beyond else {
            return if self.played_out() { Err(Stop::PlayedOut) } else { Ok(()) };
        };
        if !on_record {
            live.recorder.push(TimerSet { call, after_ms }).map_err(Stop::Broken)?;
        }
        // Of a run that waited for days only the rest of the time is waited for.
        let left = Duration::from_millis(due_ms.saturating_sub((live.clock)()).min(after_ms));
        self.under_way.spawn(async move {
            tokio::time::sleep(left).await;
            Outcome::Timer { call }
        });
        Ok(())
    }

    fn logged(&mut self, level: String, text: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(Step::Log { level: level.clone(), text: text.clone() });
        }
        self.lines.push(Line { after: self.delivered, level, text });
    }

    fn lasts(&mut self) {
        if let Some(recorder) = self.recorder() {
            recorder.flush();
        }
    }

    async fn next(&mut self) -> Result<Told, Stop> {
        if self.played_out() {
            return Err(Stop::PlayedOut);
        }
        if let Some(first) = self.told.front() {
            if !self.issued.contains(&first.call) {
                // The code will come to it; it only has not yet.
                return std::future::pending().await;
            }
            if let Some(told) = self.told.pop_front() {
                if let (Beyond::Live(live), Ok(text)) = (&self.beyond, &told.result) {
                    self.direct_tokens += weigh(live.count, text);
                }
                return Ok(self.tell(told));
            }
        }
        let Some(outcome) = self.under_way.join_next().await else {
            return std::future::pending().await;
        };
        let outcome = outcome
            .unwrap_or_else(|error| Outcome::Broken(Refusal::internal(format!("a host call died: {error}"))));
        let told = self.hear(outcome)?;
        Ok(self.tell(told))
    }

    fn done(&mut self) -> Result<(), Stop> {
        match self.asked.iter().find(|(call, _)| !self.issued.contains(call)) {
            // It ended before it asked all it asked then.
            Some((call, asked)) => {
                let got = "the end".into();
                Err(Stop::Diverged(Divergence { call: *call, expected: describe(asked), got }))
            }
            None => Ok(()),
        }
    }
}

impl World {
    /// Puts on record what came of a call, and says it as the code will hear it.
    fn hear(&mut self, outcome: Outcome) -> Result<Told, Stop> {
        let Beyond::Live(live) = &mut self.beyond else { return Err(Stop::PlayedOut) };
        let clock_ms = self.clock_ms.max((live.clock)());
        match outcome {
            Outcome::Broken(refusal) => Err(Stop::Broken(refusal)),
            Outcome::Timer { call } => {
                live.recorder.push(TimerFired { call, clock_ms }).map_err(Stop::Broken)?;
                Ok(Told { call, result: Ok("null".into()), clock_ms })
            }
            Outcome::Call { call, effect, op, size, result } => {
                if let Err(refusal) = &result {
                    if let Some(approval) = approval(refusal) {
                        return Err(Stop::Approval { call, approval, message: refusal.message.clone() });
                    }
                    if refusal.code == Code::Denied && self.violations < VIOLATIONS_MAX {
                        self.violations += 1;
                        live.violation(&op, size).map_err(Stop::Broken)?;
                    }
                }
                let result = spell(&op, result);
                self.direct_tokens += weigh(live.count, result.as_deref().unwrap_or_else(|refusal| refusal));
                live.answered(call, effect, &result, clock_ms).map_err(Stop::Broken)?;
                Ok(Told { call, result, clock_ms })
            }
        }
    }
}

impl Live {
    /// Puts a call on record before it leaves. What is returned must be on disk first.
    fn leave(
        &mut self,
        call: u32,
        op: &str,
        params: &str,
        options: &str,
        effect: Effect,
        on_record: bool,
    ) -> Result<Option<Pending>, Refusal> {
        if !on_record {
            let params = self.recorder.text(params)?;
            let called = Called { call, op: op.into(), params, options: options.into(), effect };
            self.recorder.push(called)?;
        }
        match effect {
            Effect::ReadOnly => Ok(None),
            // Its own append is synced, and everything appended before it with it.
            Effect::Command => {
                self.recorder.flush();
                Ok(None)
            }
            Effect::Idempotent | Effect::Unknown => Ok(Some(self.recorder.sync())),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a call has this many parts, and it is taken apart only here"
    )]
    fn dispatch(
        &self,
        under_way: &mut JoinSet<Outcome>,
        gate: Arc<Semaphore>,
        call: u32,
        op: String,
        params: &str,
        options: &str,
        effect: Effect,
        synced: Option<Pending>,
    ) {
        let size = params.len();
        let request = self.request(call, &op, params, options);
        let (router, caller) = (self.router.clone(), self.caller.clone());
        under_way.spawn(async move {
            let _turn = gate.acquire().await;
            if let Some(synced) = synced
                && let Err(error) = synced.await.unwrap_or(Err(athena_schemas::ports::LogError::Closed))
            {
                return Outcome::Broken(error.into());
            }
            let result = match request {
                Ok(request) => router.call(&caller, request).await,
                Err(refusal) => Err(refusal),
            };
            Outcome::Call { call, effect, op, size, result }
        });
    }

    fn request(&self, call: u32, op: &str, params: &str, options: &str) -> Result<Request, Refusal> {
        let json = |error: serde_json::Error| Refusal::invalid(format!("{op}: {error}"));
        let params = if params.is_empty() { "{}" } else { params };
        let options: Options = if options.is_empty() {
            Options::default()
        } else {
            serde_json::from_str(options).map_err(json)?
        };
        Ok(Request {
            op: op.to_owned(),
            params: serde_json::from_str(params).map_err(json)?,
            scope: options.scope,
            idempotency_key: Some(key(&self.run, call, options.idempotency_key)),
            at_seq: options.at_seq,
        })
    }

    fn answered(
        &mut self,
        call: u32,
        effect: Effect,
        result: &Result<String, String>,
        clock_ms: u64,
    ) -> Result<(), Refusal> {
        let result = match result {
            Ok(text) => Ok(self.recorder.text(text)?),
            Err(text) => Err(self.recorder.text(text)?),
        };
        self.recorder.push(Answered { call, result, clock_ms })?;
        if effect == Effect::Unknown {
            // Nobody waits for it, but the sooner it is on disk, the smaller the time in which a crash leaves a doubt.
            drop(self.recorder.sync());
        }
        Ok(())
    }

    fn violation(&mut self, op: &str, size: usize) -> Result<(), Refusal> {
        let violated = Violated {
            bound: Bound::Call,
            detail: format!("{op} with {size} bytes of parameters was denied"),
            exfiltration: size > EXFILTRATION,
        };
        super::alarm(&self.run, &violated);
        self.recorder.push(violated)
    }
}

/// The key of a call: where the code names none, its own number makes a retry after a crash the same command.
fn key(run: &Id, call: u32, named: Option<String>) -> String {
    named.unwrap_or_else(|| format!("{run}/{call}"))
}

/// The command that a call of a run is.
pub(super) fn command(caller: &Caller, run: &Id, call: u32, options: &str) -> CommandId {
    let named = serde_json::from_str::<Options>(options).unwrap_or_default().idempotency_key;
    CommandId::from_key(&caller.principal(), &key(run, call, named))
}

/// An answer as the code hears it: JSON of the value, or of the refusal.
fn spell(op: &str, result: Result<Answer, Refusal>) -> Result<String, String> {
    let refusal = match result {
        Ok(answer) => match serde_json::to_string(&answer.value) {
            Ok(text) if text.len() <= ANSWER_MAX => return Ok(text),
            Ok(text) => Refusal::new(
                Code::LimitExceeded,
                format!("{op} answered {} bytes; code is given at most {ANSWER_MAX}", text.len()),
            )
            .hint("ask for less, or in pages"),
            Err(error) => Refusal::internal(format!("the answer of {op} is not plain data: {error}")),
        },
        Err(refusal) => refusal,
    };
    Err(serde_json::to_string(&refusal).unwrap_or_else(|_| "{\"code\":\"internal\"}".into()))
}

/// The approval a refusal asks for.
fn approval(refusal: &Refusal) -> Option<Id> {
    (refusal.code == Code::ApprovalRequired).then_some(())?;
    refusal.details.as_ref()?.get("approval")?.as_str().map(Id::from_text)
}

fn tokens(count: fn(&str) -> usize, op: &str, params: &str) -> u64 {
    weigh(count, op) + weigh(count, params)
}

/// Tokens of a text; of a long one, those of its beginning in proportion, because counting costs more than running.
pub(crate) fn weigh(count: fn(&str) -> usize, text: &str) -> u64 {
    const SAMPLE: usize = 32 << 10;
    if text.len() <= SAMPLE {
        return count(text) as u64;
    }
    let start = text.get(..text.floor_char_boundary(SAMPLE)).unwrap_or_default();
    (count(start) * text.len() / start.len().max(1)) as u64
}

fn diverged(call: u32, expected: &str, now: &Asked) -> Stop {
    Stop::Diverged(Divergence { call, expected: expected.into(), got: describe(now) })
}

/// A call in a line.
fn describe(asked: &Asked) -> String {
    const SHOWN: usize = 400;
    let mut text = match asked {
        Asked::Call { op, params, options, .. } if options.is_empty() => format!("{op} {params}"),
        Asked::Call { op, params, options, .. } => format!("{op} {params} with {options}"),
        Asked::Timer { after_ms } => format!("a timer of {after_ms} ms"),
    };
    if text.len() > SHOWN {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}
