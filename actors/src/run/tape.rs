//! Reading a run's record back: what it was given, what it asked, what it was told, and where it stands.

use super::record::{blob_id, stream};
use crate::retention::retired_at;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::envelope::{Meta, Record};
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::run::{
    BlobKept, Called, Effect, Event, Finished, Started, Status, Text, Waiting, Why,
};
use athena_schemas::ports::{LogReader, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::{Job, Namespace};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Records read at once.
const PAGE: usize = 256;

/// A call on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A host call.
    Call { op: String, params: String, options: String, effect: Effect },
    /// A timer.
    Timer { after_ms: u64 },
}

/// Something the code was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) call: u32,
    pub(crate) result: Result<String, String>,
    pub(crate) clock_ms: u64,
}

/// A run's record.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    pub(crate) started: Started,
    pub(crate) meta: Meta,
    pub(crate) code: String,
    pub(crate) input: String,
    pub(crate) state: String,
    pub(crate) namespaces: Arc<[Namespace]>,
    pub(crate) asked: BTreeMap<u32, Asked>,
    pub(crate) told: VecDeque<Told>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) interrupted: bool,
    pub(crate) finished: Option<Finished>,
    /// Events of the stream so far.
    pub(crate) version: u32,
}

/// Reads records: the log and the key to it.
#[derive(Clone, Copy)]
pub(crate) struct Archive<'a> {
    pub(crate) reader: &'a dyn LogReader,
    pub(crate) sealer: &'a dyn Sealer,
}

impl Archive<'_> {
    /// The record of a run.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is none, [`Code::Integrity`] where it is not what was written.
    pub(crate) fn tape(&self, run: &Id) -> Result<Tape, Refusal> {
        self.whole_tape(run).or_else(|refusal| match retired_at(self.reader, run)? {
            Some(at_ms) => Err(Refusal::conflict(format!(
                "the record of run {run} was retired on {}: what its calls were answered is gone",
                time(i64::try_from(at_ms).unwrap_or(i64::MAX))
            ))
            .hint("athena run show; athena log retention")),
            None => Err(refusal),
        })
    }

    fn whole_tape(&self, run: &Id) -> Result<Tape, Refusal> {
        let missing = || Refusal::not_found(format!("there is no run {run}")).hint("athena run list");
        let stream = stream(run);
        let mut page = self.reader.read_stream(&stream, 0, PAGE)?;
        let first = page.first().ok_or_else(missing)?;
        let Some(Event::Started(started)) = self.event(first)? else {
            return Err(Refusal::new(Code::Integrity, format!("the record of run {run} has no start"))
                .hint("its key may have been destroyed; athena log verify"));
        };
        let mut tape = self.begin(started, first.draft.meta.clone())?;
        let mut skip = 1;
        loop {
            for record in page.iter().skip(skip) {
                if record.draft.is_dropped() {
                    return Err(Refusal::new(Code::Integrity, format!("the record of run {run} has gaps"))
                        .hint("athena log verify"));
                }
                if let Some(event) = self.event(record)? {
                    self.wind(&mut tape, event)?;
                }
            }
            let Some(last) = page.last() else { break };
            tape.version = u32::try_from(last.version).unwrap_or(u32::MAX);
            if page.len() < PAGE {
                break;
            }
            page = self.reader.read_stream(&stream, last.version, PAGE)?;
            skip = 0;
        }
        Ok(tape)
    }

    /// The text behind a text on record.
    pub(crate) fn text(&self, scope: &Scope, text: &Text) -> Result<String, Refusal> {
        match text {
            Text::Inline(text) => Ok(text.clone()),
            Text::Blob { hash, .. } => self.blob(scope, hash),
        }
    }

    /// The text of this hash.
    pub(crate) fn blob(&self, scope: &Scope, hash: &str) -> Result<String, Refusal> {
        let mut retired = false;
        for generation in 0.. {
            let Some(seq) = self.reader.find(blob_id(scope.vault(), hash, generation))? else { break };
            let record = self.reader.read(seq - 1, 1)?;
            let Some(record) = record.first() else { break };
            if let Some(Event::BlobKept(BlobKept { text, .. })) = self.event(record)? {
                return Ok(text);
            }
            retired |= record.draft.is_dropped();
        }
        Err(match retired {
            true => Refusal::not_found(format!("the result {hash} was retired with the runs that had it"))
                .hint("athena log retention"),
            false => Refusal::not_found(format!("there is no result {hash} in this project")),
        })
    }

    /// The event of a record; `None` where it was erased.
    pub(crate) fn event(&self, record: &Record) -> Result<Option<Event>, Refusal> {
        record.event::<Event>(self.sealer)
    }

    fn begin(&self, started: Started, meta: Meta) -> Result<Tape, Refusal> {
        let text = |text: &Text| self.text(&meta.scope, text);
        let surface = text(&started.surface)?;
        let namespaces = serde_json::from_str(&surface)
            .map_err(|error| Refusal::new(Code::Integrity, format!("the recorded globals: {error}")))?;
        Ok(Tape {
            code: text(&started.code)?,
            input: text(&started.input)?,
            state: text(&started.state)?,
            namespaces,
            started,
            meta,
            asked: BTreeMap::new(),
            told: VecDeque::new(),
            waiting: None,
            interrupted: false,
            finished: None,
            version: 1,
        })
    }

    fn wind(&self, tape: &mut Tape, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Called(Called { call, op, params, options, effect }) => {
                let params = self.text(&tape.meta.scope, &params)?;
                tape.asked.insert(call, Asked::Call { op, params, options, effect });
            }
            Event::TimerSet(set) => {
                tape.asked.insert(set.call, Asked::Timer { after_ms: set.after_ms });
            }
            Event::Answered(answered) => {
                let result = match &answered.result {
                    Ok(text) => Ok(self.text(&tape.meta.scope, text)?),
                    Err(text) => Err(self.text(&tape.meta.scope, text)?),
                };
                tape.told.push_back(Told { call: answered.call, result, clock_ms: answered.clock_ms });
            }
            Event::TimerFired(fired) => tape.told.push_back(Told {
                call: fired.call,
                result: Ok("null".into()),
                clock_ms: fired.clock_ms,
            }),
            Event::Waiting(waiting) => {
                tape.waiting = Some(waiting);
                tape.interrupted = false;
            }
            Event::Resumed(_) => {
                tape.waiting = None;
                tape.interrupted = false;
            }
            Event::Interrupted(_) => tape.interrupted = true,
            Event::Finished(finished) => tape.finished = Some(finished),
            Event::Started(_)
            | Event::Violated(_)
            | Event::BlobKept(_)
            | Event::StateSaved(_)
            | Event::SessionExpired(_) => {}
        }
        Ok(())
    }
}

impl Tape {
    /// Where the record says the run stands.
    pub(crate) fn status(&self) -> Status {
        match (&self.finished, &self.waiting) {
            (Some(finished), _) => finished.status,
            (None, Some(Waiting { why: Why::Approval(_), .. })) => Status::ApprovalRequired,
            (None, Some(Waiting { why: Why::Uncertain, .. })) => Status::Uncertain,
            (None, None) if self.interrupted => Status::Interrupted,
            (None, None) => Status::Running,
        }
    }

    /// The job, as it was, but for its globals.
    pub(crate) fn job(&self) -> Job {
        Job {
            language: self.started.language,
            code: self.code.clone(),
            input: self.input.clone(),
            state: self.state.clone(),
            seed: self.started.seed,
            clock_ms: self.started.clock_ms,
            limits: self.started.limits,
            namespaces: Vec::new(),
            prepared: false,
        }
    }

    /// Who started it, as far as the record says.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            party: self.meta.author.party,
            channel: self.meta.author.channel,
            name: self.meta.author.name.clone(),
            holds: self.started.holds.clone(),
            scope: self.meta.scope.clone(),
            run: self.started.parent.clone(),
        }
    }

    /// Who its code's calls come from.
    pub(crate) fn code_caller(&self) -> Caller {
        let run = Some(self.started.run.clone());
        Caller { party: Party::Code, channel: Channel::Sandbox, run, ..self.caller() }
    }

    /// The call that waits for its approval: it has not left.
    pub(crate) fn held(&self) -> Option<u32> {
        self.waiting
            .as_ref()
            .filter(|waiting| matches!(waiting.why, Why::Approval(_)))
            .map(|waiting| waiting.call)
    }

    /// Calls that left and were not answered, and that may have happened at somebody else's: repeating them is for a person
    /// to decide.
    pub(crate) fn in_doubt(&self) -> Option<u32> {
        let held = self.held();
        self.asked
            .iter()
            .filter(|(_, asked)| matches!(asked, Asked::Call { effect: Effect::Unknown, .. }))
            .map(|(call, _)| *call)
            .find(|call| Some(*call) != held && !self.told.iter().any(|told| told.call == *call))
    }

    /// The clock the code saw last.
    #[cfg(test)]
    pub(crate) fn clock_ms(&self) -> u64 {
        self.told.iter().map(|told| told.clock_ms).fold(self.started.clock_ms, u64::max)
    }
}
