//! One suite for every store: any sequence of appends, retries, misuses and reopenings, against a plain vector.

use super::testing::draft;
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// New events of one stream.
    Append { stream: u8, events: u8, large: bool, expected: Expect, durability: Durability },
    /// The events of an earlier append again; with other content if asked for.
    Again { which: usize, changed: bool },
    /// A page from anywhere.
    Read { after: u8, limit: u8 },
    /// Close and open, where the store outlives its handle.
    Reopen,
}

/// What is expected of the stream, by what the model knows.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Any,
    NoStream,
    Exists,
    Right,
    Wrong,
}

fn step() -> impl Strategy<Value = Step> {
    let expected = prop_oneof![
        4 => Just(Expect::Any),
        1 => Just(Expect::NoStream),
        1 => Just(Expect::Exists),
        2 => Just(Expect::Right),
        1 => Just(Expect::Wrong),
    ];
    let durability =
        prop_oneof![Just(Durability::Default), Just(Durability::Sync), Just(Durability::Buffered)];
    prop_oneof![
        6 => (0..3_u8, 1..4_u8, proptest::bool::weighted(0.1), expected, durability)
            .prop_map(|(stream, events, large, expected, durability)| Step::Append { stream, events, large, expected, durability }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, changed)| Step::Again { which, changed }),
        2 => (any::<u8>(), 1..20_u8).prop_map(|(after, limit)| Step::Read { after, limit }),
        1 => Just(Step::Reopen),
    ]
}

/// What the log must be: all drafts in order, and the appends that were taken.
#[derive(Default)]
struct Model {
    events: Vec<Draft>,
    appends: Vec<(Vec<Draft>, Seq)>,
    next: u64,
}

impl Model {
    fn version(&self, stream: &str) -> u64 {
        self.events.iter().filter(|event| event.stream == stream).count() as u64
    }

    fn fresh(&mut self, stream: &str, events: u8, large: bool) -> Vec<Draft> {
        (0..events)
            .map(|_| {
                self.next += 1;
                let size = if large { 70_000 } else { 20 };
                draft(stream, self.next, &vec![u8::try_from(self.next % 251).unwrap(); size])
            })
            .collect()
    }

    async fn append(&mut self, log: &LogHandle, drafts: Vec<Draft>, expect: Expect, durability: Durability) {
        let stream = drafts[0].stream.clone();
        let version = self.version(&stream);
        let (expected, fits) = match expect {
            Expect::Any => (Expected::Any, true),
            Expect::NoStream => (Expected::NoStream, version == 0),
            Expect::Exists => (Expected::Exists, version > 0),
            Expect::Right => (Expected::At(version), true),
            Expect::Wrong => (Expected::At(version + 1), false),
        };
        let outcome = log.commit(Append { drafts: drafts.clone(), expected, durability }).await;
        if !fits {
            assert_eq!(outcome, Err(LogError::Conflict { stream, actual: version }));
            return;
        }
        let receipt = outcome.unwrap();
        let first = self.events.len() as Seq + 1;
        assert_eq!((receipt.first, receipt.last), (first, first + drafts.len() as Seq - 1));
        assert!(!receipt.duplicate);
        assert!(receipt.durable || durability == Durability::Buffered);
        self.events.extend(drafts.iter().cloned());
        self.appends.push((drafts, first));
    }

    async fn again(&self, log: &LogHandle, which: usize, changed: bool) {
        if self.appends.is_empty() {
            return;
        }
        let (mut drafts, first) = self.appends[which % self.appends.len()].clone();
        if changed {
            let last = drafts.last_mut().unwrap();
            last.payload.push(1);
            let id = last.id;
            assert_eq!(log.commit(Append::new(drafts)).await, Err(LogError::IdReused(id)));
        } else {
            let last = first + drafts.len() as Seq - 1;
            let receipt =
                log.commit(Append { expected: Expected::Any, ..Append::new(drafts) }).await.unwrap();
            assert_eq!(receipt, Receipt { first, last, durable: true, duplicate: true });
        }
    }

    fn check(&self, log: &LogHandle, after: u8, limit: u8) {
        let (after, limit) = (usize::from(after), usize::from(limit));
        let reader = log.reader();
        assert_eq!(reader.head(), self.events.len() as Seq);
        let page = reader.read(after as Seq, limit).unwrap();
        let expected: Vec<&Draft> = self.events.iter().skip(after).take(limit).collect();
        assert_eq!(page.iter().map(|record| &record.draft).collect::<Vec<_>>(), expected);
        for (record, seq) in page.iter().zip(after as Seq + 1..) {
            assert_eq!(record.seq, seq);
            assert_eq!(reader.find(record.draft.id).unwrap(), Some(seq));
        }
        for stream in ["0", "1", "2"] {
            let of_stream = reader.read_stream(stream, after as u64, limit).unwrap();
            let expected = self.events.iter().filter(|event| event.stream == stream).skip(after).take(limit);
            assert!(of_stream.iter().map(|record| &record.draft).eq(expected));
            let versions = of_stream.iter().map(|record| record.version);
            assert!(versions.eq((after as u64 + 1..).take(of_stream.len())));
        }
    }
}

async fn behaves(folder: Option<&Path>, steps: Vec<Step>) {
    let location = || folder.map_or(Location::Memory, Location::from);
    let (mut log, _) = LogHandle::open(location(), Options::default()).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { stream, events, large, expected, durability } => {
                let drafts = model.fresh(&stream.to_string(), events, large);
                model.append(&log, drafts, expected, durability).await;
            }
            Step::Again { which, changed } => model.again(&log, which, changed).await,
            Step::Read { after, limit } => model.check(&log, after, limit),
            Step::Reopen if folder.is_some() => {
                log.close().await.unwrap();
                let (again, report) = LogHandle::open(location(), Options::default()).unwrap();
                assert_eq!((report.head, report.cut), (model.events.len() as Seq, None));
                log = again;
            }
            Step::Reopen => {}
        }
    }
    model.check(&log, 0, u8::MAX);
    let report = log.verify(None).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    log.close().await.unwrap();
}

fn run(folder: Option<&Path>, steps: Vec<Step>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(behaves(folder, steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_store_in_memory_behaves(steps in prop::collection::vec(step(), 1..60)) {
        run(None, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_behaves(steps in prop::collection::vec(step(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        run(Some(folder.path()), steps);
    }
}
