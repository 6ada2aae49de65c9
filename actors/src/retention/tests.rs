//! Given runs on record, when a time has come, then these payloads go and nothing else.

use super::*;
use crate::keys::{KeyStore, MasterKey, PayloadSealer};
use crate::log::{Options, Order, Signer, import_file, verify_file, verify_folder};
use athena_schemas::context::Scope;
use athena_schemas::ports::{LogError, Opened};
use std::path::Path;
use std::sync::Arc;

const DAY: u64 = 24 * 60 * 60 * 1_000;
/// The day everything here begins.
const BEGIN: u64 = 1_760_000_000_000;

/// A store with runs in it, written by hand: what the engine would record, with times of one's own.
struct House {
    log: LogHandle,
    sealer: PayloadSealer,
    folder: tempfile::TempDir,
}

/// What a run is given to write.
#[derive(Clone, Copy)]
struct Spec<'a> {
    name: &'a str,
    began: u64,
    ended: Option<u64>,
    answers: &'a [&'a str],
    text: Option<&'a str>,
    parent: Option<&'a Id>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = LogHandle::open(folder.path().join("log"), Options::default()).unwrap().0;
        let keys = KeyStore::open(&folder.path().join("keys"), MasterKey::File).unwrap();
        Self { log, sealer: PayloadSealer::new(Arc::new(keys)), folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    fn draft(&self, stream: &str, id: EventId, at_ms: u64, event: &run::Event) -> Draft {
        let author = Author { party: Party::Agent, channel: Channel::Mcp, name: "example".into() };
        let meta = Meta {
            at_ms,
            scope: Scope::project("test"),
            author,
            command: CommandId([1; 16]),
            run: None,
            key: None,
        };
        self.sealer.seal(Draft::of(stream, id, meta, event, None).unwrap()).unwrap()
    }

    async fn append(&self, draft: Draft) -> Seq {
        self.log.commit(Append::new(vec![draft])).await.unwrap().last
    }

    /// Keeps a text as a run would, if it was not kept before.
    async fn keep(&self, text: &str, at_ms: u64) -> String {
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let id = crate::run::text_id("test", &hash, 0);
        if self.log.reader().find(id).unwrap().is_none() {
            let kept = BlobKept { hash: hash.clone(), text: text.into() }.into();
            self.append(self.draft("run/blobs", id, at_ms, &kept)).await;
        }
        hash
    }

    /// Records a run; answers its id and the drafts of its answers.
    async fn run(&self, spec: Spec<'_>) -> (Id, Vec<Draft>) {
        let id = Id::new("run", spec.began, u128::from(blake3::hash(spec.name.as_bytes()).as_bytes()[0]));
        let (stream, command) = (format!("run/{id}"), CommandId::from_key("run", spec.name));
        let golden = include_str!("../../../schemas/golden/run.started.v1.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let mut started: run::Started = serde_json::from_value(golden["event"].clone()).unwrap();
        (started.run, started.parent) = (id.clone(), spec.parent.cloned());
        if let Some(text) = spec.text {
            let hash = self.keep(text, spec.began).await;
            started.input = Text::Blob { hash, bytes: text.len() as u64 };
        }
        self.append(self.draft(&stream, command.event(0), spec.began, &started.into())).await;
        let mut answers = Vec::new();
        for (n, answer) in spec.answers.iter().enumerate() {
            let number = u32::try_from(n).unwrap();
            let answered =
                Answered { call: number, result: Ok(Text::Inline((*answer).into())), clock_ms: spec.began };
            let draft = self.draft(&stream, command.event(number + 1), spec.began, &answered.into());
            answers.push(draft.clone());
            self.append(draft).await;
        }
        if let Some(ended) = spec.ended {
            let golden = include_str!("../../../schemas/golden/run.finished.v1.json");
            let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
            let mut finished: run::Finished = serde_json::from_value(golden["event"].clone()).unwrap();
            (finished.value, finished.state) = (None, None);
            self.append(self.draft(&stream, command.event(10_000), ended, &finished.into())).await;
        }
        (id, answers)
    }

    fn due(&self, policy: &Policy, now_ms: u64) -> Due {
        due(&self.log, &self.sealer, policy, now_ms).unwrap()
    }

    /// The log as a file.
    async fn export(&self, name: &str) -> std::path::PathBuf {
        let checkpoint = self.log.checkpoint(&Signer::new(&[7; 32]), BEGIN).await.unwrap();
        let path = self.folder.path().join(name);
        let order = Order {
            checkpoint: &checkpoint,
            after: 0,
            excerpt: None,
            choice: &|_| true,
            keys: None,
            made_ms: BEGIN,
        };
        self.log.export(&path, &order, &mut |_, _| true).unwrap();
        path
    }

    /// Records that a run's answers are retired, and drops none of them.
    async fn vouch(&self, run: Id, due: &Due, digest: [u8; 32]) {
        let positions = &due.runs[0].1;
        let retired = Retired {
            runs: vec![run],
            spans: spans(positions),
            events: positions.len() as u64,
            bytes: due.bytes,
            before_ms: due.before_ms,
            digest,
        };
        self.append(draft(&retired, BEGIN + 100 * DAY).unwrap()).await;
    }

    /// Every event as it opens; `None` where it does not any more.
    fn opened(&self) -> Vec<Option<Vec<u8>>> {
        let records = self.log.reader().read(0, 10_000).unwrap();
        let open = |record: &Record| match self.sealer.open(&record.draft).unwrap() {
            Opened::Plain(bytes) => Some(bytes),
            Opened::Erased => None,
        };
        records.iter().map(open).collect()
    }
}

fn by_age(days: u64) -> Policy {
    Policy { age_ms: Some(days * DAY), ..Policy::default() }
}

fn whole(folder: &Path) -> crate::log::VerifyReport {
    verify_folder(folder, None).unwrap()
}

const OLD: Spec<'_> = Spec {
    name: "old",
    began: BEGIN,
    ended: Some(BEGIN + DAY),
    answers: &["\"first marmalade\"", "\"second marmalade\""],
    text: None,
    parent: None,
};

#[tokio::test]
async fn an_old_run_loses_its_answers_and_nothing_else_changes() {
    let house = House::new();
    let (old, _) = house.run(OLD).await;
    let (young, _) = house.run(Spec { name: "young", ended: Some(BEGIN + 90 * DAY), ..OLD }).await;
    let (open, _) = house.run(Spec { name: "open", ended: None, ..OLD }).await;
    let (pinned, _) = house.run(Spec { name: "pinned", ..OLD }).await;
    let before = house.opened();
    let chain = whole(&house.path()).chain;

    let policy = Policy { pinned: BTreeSet::from([pinned]), ..by_age(30) };
    let now = BEGIN + 100 * DAY;
    let due = house.due(&policy, now);
    assert_eq!(due.runs.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&old]);
    assert_eq!((due.payloads(), due.unfinished, due.pinned), (2, 1, 1));
    let seq = retire(&house.log, due, now).await.unwrap().unwrap();

    let after = house.opened();
    for (n, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(after.is_none(), n == 1 || n == 2, "position {}", n + 1);
        assert!(after.is_none() || before == after);
    }
    assert_eq!(after.len() as u64, seq, "one record more");
    let report = whole(&house.path());
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.dropped, 2);
    assert_ne!(report.chain, chain, "the record is in the chain");
    let reader = house.log.reader();
    assert_eq!(retired_at(&*reader, &old).unwrap(), Some(now));
    assert_eq!((retired_at(&*reader, &young).unwrap(), retired_at(&*reader, &open).unwrap()), (None, None));
    // A second pass finds nothing to do, also after all was opened anew.
    assert!(house.due(&policy, now).runs.is_empty());
    house.log.compact().await.unwrap();
    house.log.close().await.unwrap();
    let (log, report) = LogHandle::open(house.path(), Options::default()).unwrap();
    assert_eq!(report.head, seq);
    assert!(log.verify(None).unwrap().is_clean());
    assert_eq!(due_runs(&log, &house.sealer, &policy, now), 0);
}

fn due_runs(log: &LogHandle, sealer: &PayloadSealer, policy: &Policy, now: u64) -> usize {
    due(log, sealer, policy, now).unwrap().runs.len()
}

#[tokio::test]
async fn beyond_its_bytes_the_oldest_go_first_and_none_that_is_younger_than_two_days() {
    let house = House::new();
    let long = format!("\"{}\"", "x".repeat(10_000));
    let mut ids = Vec::new();
    for day in 0..5 {
        let name = format!("run {day}");
        let spec = Spec {
            name: &name,
            began: BEGIN + day * DAY,
            ended: Some(BEGIN + day * DAY),
            answers: &[&long],
            ..OLD
        };
        ids.push(house.run(spec).await.0);
    }
    let most = |bytes| Policy { bytes: Some(bytes), ..Policy::default() };
    let due = |bytes| {
        let due = house.due(&most(bytes), BEGIN + 5 * DAY);
        due.runs.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(due(1 << 20), Vec::<Id>::new());
    assert_eq!(due(35_000), ids[..2], "two have to go");
    assert_eq!(due(1), ids[..3], "the last two are too young");
    assert!(house.due(&Policy::default(), BEGIN + 900 * DAY).runs.is_empty(), "nothing goes unasked");
}

#[tokio::test]
async fn what_an_open_run_has_started_stays_with_it() {
    let house = House::new();
    let (open, _) = house.run(Spec { name: "open", ended: None, ..OLD }).await;
    let below = Spec { name: "below", began: BEGIN + 1, parent: Some(&open), ..OLD };
    let (below, _) = house.run(below).await;
    house.run(Spec { name: "far below", began: BEGIN + 2, parent: Some(&below), ..OLD }).await;
    let (ended, _) = house.run(Spec { name: "ended", began: BEGIN + 3, ..OLD }).await;
    let (inner, _) =
        house.run(Spec { name: "below ended", began: BEGIN + 4, parent: Some(&ended), ..OLD }).await;
    let due = house.due(&by_age(30), BEGIN + 100 * DAY);
    let going: BTreeSet<&Id> = due.runs.iter().map(|(id, _)| id).collect();
    assert_eq!((going, due.unfinished), (BTreeSet::from([&ended, &inner]), 3));
}

#[tokio::test]
async fn a_text_goes_with_the_last_run_that_needs_it() {
    let house = House::new();
    let (only, shared) = ("o".repeat(100_000), "s".repeat(100_000));
    let old = Spec { answers: &[], text: Some(&only), ..OLD };
    house.run(old).await;
    house.run(Spec { name: "other", text: Some(&shared), ..old }).await;
    let late = Spec { name: "late", ended: Some(BEGIN + 95 * DAY), text: Some(&shared), ..old };
    house.run(late).await;
    let now = BEGIN + 100 * DAY;
    let due = house.due(&by_age(30), now);
    assert_eq!((due.runs.len(), due.texts.len()), (2, 1));
    assert!((100_000..101_000).contains(&due.bytes), "{}", due.bytes);
    let blobs = house.path().join("blobs");
    let files = || {
        std::fs::read_dir(&blobs)
            .unwrap()
            .flatten()
            .flat_map(|e| std::fs::read_dir(e.path()).unwrap())
            .count()
    };
    assert_eq!(files(), 2);
    retire(&house.log, due, now).await.unwrap();
    house.log.compact().await.unwrap();
    assert_eq!(files(), 1, "its file is gone from the disk");
    assert!(whole(&house.path()).is_clean());
    let due = house.due(&by_age(30), now + 100 * DAY);
    assert_eq!((due.runs.len(), due.texts.len()), (1, 1), "the other one with the run that needed it last");
}

#[tokio::test]
async fn a_crash_between_the_record_and_the_dropping_is_made_good() {
    let house = House::new();
    let (old, _) = house.run(OLD).await;
    let due = house.due(&by_age(30), BEGIN + 100 * DAY);
    // As far as `retire` comes before a crash: the record, and nothing dropped.
    let positions = due.runs[0].1.clone();
    house.vouch(old, &due, house.log.prepare_drop(&positions).unwrap().digest).await;
    assert!(house.opened().iter().all(Option::is_some));
    assert!(whole(&house.path()).is_clean(), "on record and still there is no damage");
    settle(&house.log).await.unwrap();
    settle(&house.log).await.unwrap();
    assert_eq!(house.opened().iter().filter(|opened| opened.is_none()).count(), 2);
    let report = whole(&house.path());
    assert!(report.is_clean() && report.dropped == 2, "{report:?}");
}

/// Somebody drops payloads and no record says so, or changes what is left of one: both are found, at their positions.
#[tokio::test]
async fn a_payload_that_is_gone_without_a_word_is_damage() {
    let house = House::new();
    house.run(OLD).await;
    house.run(Spec { name: "young", ended: Some(BEGIN + 90 * DAY), ..OLD }).await;
    let due = house.due(&by_age(30), BEGIN + 100 * DAY);
    retire(&house.log, due, BEGIN + 100 * DAY).await.unwrap();
    house.log.drop_payloads(house.log.prepare_drop(&[6]).unwrap()).await.unwrap();
    let report = house.log.verify(None).unwrap();
    assert_eq!(report.findings.iter().map(|found| found.first).collect::<Vec<_>>(), [Some(6)], "{report:?}");
}

#[tokio::test]
async fn an_event_without_its_payload_is_still_recorded_once() {
    let house = House::new();
    let (_, answers) = house.run(OLD).await;
    let first = house.log.commit(Append::new(vec![answers[0].clone()])).await.unwrap();
    assert!(first.duplicate);
    let due = house.due(&by_age(30), BEGIN + 100 * DAY);
    retire(&house.log, due, BEGIN + 100 * DAY).await.unwrap();
    let again = house.log.commit(Append::new(vec![answers[0].clone()])).await.unwrap();
    assert_eq!((again.first, again.duplicate), (first.first, true));
    let mut other = answers[0].clone();
    other.payload[20] ^= 1;
    let refused = house.log.commit(Append::new(vec![other])).await.unwrap_err();
    assert!(matches!(refused, LogError::IdReused(_)), "{refused:?}");
}

#[test]
fn a_record_speaks_of_a_bounded_number_of_runs_and_payloads() {
    let runs = (0..1_200).map(|n| (Id::new("run", n, 0), (n * 10..n * 10 + 9).collect())).collect();
    let due = Due { runs, texts: vec![50_000, 50_001], ..Due::default() };
    let portions = portions(&due);
    assert!(portions.iter().all(|(runs, seqs)| runs.len() <= RUNS_MAX && seqs.len() <= PAYLOADS_MAX));
    assert!(portions.iter().all(|(_, seqs)| seqs.is_sorted()));
    assert_eq!(portions.iter().map(|(runs, _)| runs.len()).sum::<usize>(), 1_200);
    let all: BTreeSet<Seq> = portions.into_iter().flat_map(|(_, seqs)| seqs).collect();
    assert_eq!(all.len() as u64, due.payloads());
    assert_eq!(spans(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
}

/// A log whose payloads were dropped travels in a file and is copied, to the same hashes; and a file in which a payload is
/// missing without a word is told apart.
#[tokio::test]
async fn a_log_without_its_old_payloads_travels() {
    let house = House::new();
    house.run(OLD).await;
    house.run(Spec { name: "young", text: Some(&"t".repeat(100_000)), ..OLD }).await;
    let due = house.due(&by_age(30), BEGIN + 100 * DAY);
    assert_eq!((due.runs.len(), due.texts.len()), (2, 1));
    retire(&house.log, due, BEGIN + 100 * DAY).await.unwrap();
    house.log.compact().await.unwrap();
    let here = house.log.verify(None).unwrap();
    assert!(here.is_clean() && here.dropped == 5, "{here:?}");

    let file = house.export("file").await;
    let checked = verify_file(&file, None, &mut |_, _| true).unwrap().report;
    assert!(checked.is_clean() && checked.dropped == 5, "{checked:?}");
    let there = house.folder.path().join("there");
    assert_eq!(import_file(&file, &there, &mut |_, _| true).unwrap().chain, here.chain);
    let copied = house.folder.path().join("copied");
    house.log.copy_to(&copied, Seq::MAX, None, &mut |_, _| true).unwrap();
    for folder in [&there, &copied] {
        let report = whole(folder);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((&report.chain, report.dropped), (&here.chain, 5));
    }
    house.log.drop_payloads(house.log.prepare_drop(&[1]).unwrap()).await.unwrap();
    let checked = verify_file(&house.export("another").await, None, &mut |_, _| true).unwrap().report;
    assert_eq!(checked.findings.iter().map(|found| found.first).collect::<Vec<_>>(), [Some(1)]);
}

/// A file that was made while only a part was dropped is judged all the same: what will be left of the rest follows from it.
#[tokio::test]
async fn a_file_from_the_middle_of_a_dropping_is_judged() {
    for honest in [true, false] {
        let house = House::new();
        let (old, _) = house.run(OLD).await;
        let due = house.due(&by_age(30), BEGIN + 100 * DAY);
        let positions = due.runs[0].1.clone();
        let digest = house.log.prepare_drop(&positions).unwrap().digest;
        house.vouch(old, &due, if honest { digest } else { [7; 32] }).await;
        house.log.drop_payloads(house.log.prepare_drop(&positions[..1]).unwrap()).await.unwrap();
        let file = house.export("file").await;
        let report = verify_file(&file, None, &mut |_, _| true).unwrap().report;
        assert_eq!((report.is_clean(), report.dropped), (honest, 1), "{report:?}");
        assert_eq!(house.log.verify(None).unwrap().is_clean(), honest, "a file is judged as the log is");
    }
}

/// Nobody reads the whole log every day to find that nothing is due: the last look says when the next one can find anything.
#[tokio::test]
async fn a_look_says_when_the_next_one_is_worth_it() {
    let house = House::new();
    house.run(Spec { ended: Some(BEGIN + 10 * DAY), ..OLD }).await;
    let (policy, now) = (by_age(30), BEGIN + 20 * DAY);
    let worth = |policy: &Policy, now| may_be_due(&house.log, policy, now).unwrap();
    assert!(worth(&policy, now), "nobody has looked");
    let due = house.due(&policy, now);
    assert!(due.runs.is_empty() && due.oldest_ms == Some(BEGIN + 10 * DAY), "{due:?}");
    note_looked(&house.log, &policy, &due, now).await.unwrap();
    assert!(!worth(&policy, now + DAY) && !worth(&policy, BEGIN + 40 * DAY));
    assert!(worth(&policy, BEGIN + 40 * DAY + 1), "the oldest one has come of age");
    assert!(worth(&by_age(5), now + DAY), "other settings, another look");
    let quota = Policy { bytes: Some(1), ..by_age(30) };
    note_looked(&house.log, &quota, &due, now).await.unwrap();
    assert!(worth(&quota, now + DAY), "a sum has to be taken");
    let late = BEGIN + 41 * DAY;
    retire(&house.log, house.due(&policy, late), late).await.unwrap();
    note_looked(&house.log, &policy, &house.due(&policy, late), late).await.unwrap();
    assert!(!worth(&policy, late + 29 * DAY), "what ends from now on is not due for a month");
    // What is kept only by a run that has not ended may go the day that one ends.
    let (open, _) = house.run(Spec { name: "open", ended: None, ..OLD }).await;
    house.run(Spec { name: "below", began: BEGIN + 1, parent: Some(&open), ..OLD }).await;
    note_looked(&house.log, &policy, &house.due(&policy, late), late).await.unwrap();
    assert!(worth(&policy, late + DAY));
}
