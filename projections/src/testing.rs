//! A library fed by hand: events in, positions counted, both the live read models and their rebuild.

use crate::library::{Library, Options};
use athena_schemas::context::{Caller, Context, Scope};
use athena_schemas::envelope::{Draft, Family, Meta, Record};
use athena_schemas::event::Event;
use athena_schemas::id::{CommandId, EventId, Id};
use athena_schemas::layers::run::{Started, Text};
use athena_schemas::ports::{Projection, Recorded};
use athena_schemas::risk::{Limits, Risk};
use athena_schemas::wire::Language;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Fed {
    pub(crate) library: Library,
    pub(crate) log: Vec<Recorded>,
    pub(crate) scope: Scope,
    projections: Vec<Box<dyn Projection>>,
}

/// The `n`-th id of a kind.
pub(crate) fn id(prefix: &str, n: u64) -> Id {
    Id::new(prefix, n, u128::from(n))
}

/// The start of a run of JavaScript.
pub(crate) fn started(run: &Id) -> Started {
    Started {
        run: run.clone(),
        parent: None,
        holds: Scope::default(),
        language: Language::JavaScript,
        code: Text::Inline("\n  return 1\n".into()),
        code_hash: "ab".into(),
        input: Text::Inline("null".into()),
        seed: [0; 32],
        clock_ms: 1,
        limits: Limits::BALANCED,
        session: None,
        state: Text::Inline("{}".into()),
        surface: Text::Inline("[]".into()),
        risk: Risk::Low,
        reasons: Vec::new(),
        capabilities: Vec::new(),
        tokenized: 0,
        build: "0".into(),
        jail: "full".into(),
        engines: Vec::new(),
    }
}

/// Whether a word stands in a file below a folder.
pub(crate) fn tells(folder: &Path, word: &str) -> bool {
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if std::fs::read(path)
            .is_ok_and(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
        {
            return true;
        }
    }
    false
}

impl Fed {
    pub(crate) fn new() -> Self {
        let library = Library::open(Options::default()).unwrap();
        let projections = library.projections();
        Self { library, log: Vec::new(), scope: Scope::project("test"), projections }
    }

    /// Records an event at a time, in the scope of the moment.
    pub(crate) fn feed(&mut self, at_ms: u64, event: impl Into<Event>) {
        self.feed_to("test", at_ms, event);
    }

    /// Records an event in a stream of its own.
    pub(crate) fn feed_to(&mut self, stream: &str, at_ms: u64, event: impl Into<Event>) {
        self.take(stream, at_ms, None, event.into());
    }

    /// Records an event that a run's code led to.
    pub(crate) fn feed_within(&mut self, run: &Id, at_ms: u64, event: impl Into<Event>) {
        self.take("test", at_ms, Some(run.clone()), event.into());
    }

    fn take(&mut self, stream: &str, at_ms: u64, run: Option<Id>, event: Event) {
        let mut recorded = recorded(stream, self.log.len() as u64 + 1, at_ms, &self.scope, event);
        if run.is_some() {
            let mut record = (*recorded.record).clone();
            record.draft.meta.run = run;
            recorded.record = Arc::new(record);
        }
        self.log.push(recorded.clone());
        for projection in &mut self.projections {
            projection.apply(std::slice::from_ref(&recorded)).unwrap();
        }
    }

    pub(crate) fn cx(&self, now_ms: u64) -> Context {
        let caller = Caller { holds: self.scope.clone(), scope: self.scope.clone(), ..Caller::system() };
        Context::new(now_ms, caller, self.scope.clone(), CommandId([1; 16]))
    }

    pub(crate) fn digests(&self) -> Vec<(&'static str, [u8; 32])> {
        self.projections.iter().map(|p| (p.name(), p.digest().unwrap())).collect()
    }

    /// The digests of a library that was given the first `upto` events, in one batch.
    pub(crate) fn stopped_at(&self, upto: usize) -> Vec<(&'static str, [u8; 32])> {
        let library = Library::open(Options::default()).unwrap();
        let fold = |mut projection: Box<dyn Projection>| {
            projection.apply(&self.log[..upto]).unwrap();
            (projection.name(), projection.digest().unwrap())
        };
        library.projections().into_iter().map(fold).collect()
    }

    /// The digests of a library built anew from the log, in one batch, without the payloads that `erased` names.
    pub(crate) fn rebuilt(&self, erased: impl Fn(&Event) -> bool) -> Vec<(&'static str, [u8; 32])> {
        let library = Library::open(Options::default()).unwrap();
        let log: Vec<Recorded> = self
            .log
            .iter()
            .map(|recorded| Recorded {
                record: Arc::clone(&recorded.record),
                event: recorded.event.clone().filter(|event| !erased(event)),
            })
            .collect();
        let mut projections = library.projections();
        projections
            .iter_mut()
            .map(|p| {
                p.apply(&log).unwrap();
                (p.name(), p.digest().unwrap())
            })
            .collect()
    }
}

fn recorded(stream: &str, seq: u64, at_ms: u64, scope: &Scope, event: Event) -> Recorded {
    let cx = Context::new(at_ms, Caller::system(), scope.clone(), CommandId([0; 16]));
    let (kind, schema, payload) = event.encode().unwrap();
    let draft = Draft {
        stream: stream.into(),
        id: EventId(u128::from(seq).to_le_bytes()),
        kind,
        schema,
        meta: Meta::of(&cx),
        payload,
    };
    let record = Record { seq, version: seq, draft, leaf: [0; 32], chain: [0; 32] };
    Recorded { record: Arc::new(record), event: Some(event) }
}
