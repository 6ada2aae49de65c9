//! Files that are written, read, cut and changed.

use super::*;
use crate::files::hex;
use crate::log::testing::draft;
use crate::log::{Append, LogHandle, Options, Signer};
use athena_schemas::envelope::Record;
use athena_schemas::ports::LogReader as _;
use std::fs;

/// A log of `events` events, every tenth with a large payload.
async fn filled(folder: &Path, events: u64) -> LogHandle {
    let (log, _) = LogHandle::open(folder, Options::default()).unwrap();
    let drafts = (1..=events).map(|n| {
        let payload = if n % 10 == 0 { vec![n as u8; 100_000] } else { vec![n as u8; 40] };
        draft(if n % 3 == 0 { "episodic" } else { "semantic" }, n, &payload)
    });
    log.commit(Append::new(drafts.collect())).await.unwrap();
    log
}

async fn export(log: &LogHandle, path: &Path, of: Option<&str>) -> Exported {
    let checkpoint = log.checkpoint(&Signer::new(&[7; 32]), 1_000).await.unwrap();
    let wanted = of.map(str::to_owned);
    let choice = move |record: &Record| wanted.as_ref().is_none_or(|of| record.draft.stream == *of);
    let order = Order {
        checkpoint: &checkpoint,
        after: 0,
        excerpt: of.map(|of| serde_json::json!({ "stream": of })),
        choice: &choice,
        keys: None,
        made_ms: 1_000,
    };
    log.export(path, &order, &mut |_, _| true).unwrap()
}

#[tokio::test]
async fn a_log_comes_back_from_its_file_with_the_same_positions_and_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 43).await;
    let path = folder.path().join("all.athenalog");
    let told = export(&log, &path, None).await;
    assert_eq!((told.events, told.bytes), (43, fs::metadata(&path).unwrap().len()));
    let records = log.reader().read(0, 100).unwrap();
    let open = LogFile::open(&path, &mut |_, _| true).unwrap();
    assert_eq!(open.read(0, 100).unwrap(), records);
    assert_eq!(
        open.read_stream("episodic", 2, 3).unwrap(),
        log.reader().read_stream("episodic", 2, 3).unwrap()
    );
    assert_eq!(open.find(records[6].draft.id).unwrap(), Some(7));
    let other = folder.path().join("other");
    let imported = import_file(&path, &other, &mut |_, _| true).unwrap();
    assert_eq!((imported.head, imported.chain), (43, hex(&records[42].chain)));
    let (again, report) = LogHandle::open(other.as_path(), Options::default()).unwrap();
    assert!(report.anchored && report.cut.is_none(), "{report:?}");
    assert_eq!(again.reader().read(0, 100).unwrap(), records);
    assert!(again.verify(imported.checkpoint.as_ref()).unwrap().is_clean());
    // It goes on as the first one would, and knows its events again.
    let next = vec![draft("semantic", 44, b"next")];
    let (a, b) = (
        log.commit(Append::new(next.clone())).await.unwrap(),
        again.commit(Append::new(next)).await.unwrap(),
    );
    assert_eq!(a, b);
    assert_eq!(log.reader().read(43, 1).unwrap(), again.reader().read(43, 1).unwrap());
    assert!(again.commit(Append::new(vec![draft("semantic", 1, &[1; 40])])).await.unwrap().duplicate);
    again.close().await.unwrap();
    let refusal = import_file(&path, &other, &mut |_, _| true).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict, "{refusal}");
}

#[tokio::test]
async fn an_excerpt_is_followed_up_to_the_checkpoint_and_is_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 43).await;
    let path = folder.path().join("some.athenalog");
    assert_eq!(export(&log, &path, Some("episodic")).await.events, 14);
    let checked = verify_file(&path, None, &mut |_, _| true).unwrap();
    assert!(checked.report.is_clean() && checked.report.head == 43, "{checked:?}");
    let open = LogFile::open(&path, &mut |_, _| true).unwrap();
    assert!(open.read(0, 100).unwrap().iter().all(|record| record.seq % 3 == 0));
    assert_eq!((open.head(), open.read(4, 1).unwrap()[0].seq), (43, 6));
    let refusal = import_file(&path, &folder.path().join("new"), &mut |_, _| true).unwrap_err();
    assert_eq!(refusal.code, Code::Invalid, "{refusal}");
    let later = Signer::new(&[7; 32]).sign(50, &[1; 32], 1);
    let checked = verify_file(&path, Some(&later), &mut |_, _| true).unwrap();
    assert_eq!(checked.report.findings[0].last, Some(50));
}

#[tokio::test]
async fn no_byte_of_a_file_can_change_and_no_cut_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 4).await;
    for (name, of) in [("all", None), ("some", Some("episodic"))] {
        let path = folder.path().join(name);
        export(&log, &path, of).await;
        let bytes = fs::read(&path).unwrap();
        let target = folder.path().join("changed");
        let check = |bytes: &[u8], what: String| {
            fs::write(&target, bytes).unwrap();
            let noticed = match verify_file(&target, None, &mut |_, _| true) {
                Err(refusal) => matches!(refusal.code, Code::Integrity | Code::Invalid),
                Ok(checked) => !checked.report.is_clean(),
            };
            assert!(noticed, "{name}: {what} went unnoticed");
        };
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            check(&changed, format!("a change at byte {at}"));
        }
        for at in (0..bytes.len()).step_by(3) {
            check(&bytes[..at], format!("a cut at byte {at}"));
        }
        for at in (0..bytes.len()).step_by(bytes.len() / 8) {
            let new = folder.path().join("new");
            fs::write(&target, &bytes[..at]).unwrap();
            assert!(import_file(&target, &new, &mut |_, _| true).is_err(), "{name}, cut at {at}");
            assert!(!new.join("db").exists(), "{name}, cut at {at}: something was left behind");
        }
    }
}

#[tokio::test]
async fn damage_and_cuts_name_their_positions() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 9).await;
    let path = folder.path().join("all");
    export(&log, &path, None).await;
    let bytes = fs::read(&path).unwrap();
    let open = LogFile::open(&path, &mut |_, _| true).unwrap();
    let fifth = open.events[4];
    let mut changed = bytes.clone();
    changed[fifth.at as usize + 60] ^= 4;
    fs::write(&path, &changed).unwrap();
    let report = verify_file(&path, None, &mut |_, _| true).unwrap().report;
    assert_eq!((report.findings[0].first, report.findings[0].last), (Some(5), Some(5)), "{report:?}");
    fs::write(&path, &bytes[..fifth.at as usize + 10]).unwrap();
    let report = verify_file(&path, None, &mut |_, _| true).unwrap().report;
    assert_eq!((report.findings[0].first, report.findings[0].last), (Some(5), Some(9)), "{report:?}");
    let refusal = import_file(&path, &folder.path().join("new"), &mut |_, _| true).unwrap_err();
    assert!(refusal.code == Code::Integrity && refusal.message.contains("positions 5 to 9"), "{refusal}");
}

#[tokio::test]
async fn a_copy_up_to_a_position_is_the_log_as_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let log = filled(&folder.path().join("log"), 43).await;
    let past = folder.path().join("past");
    log.copy_to(&past, 30, None, &mut |_, _| true).unwrap();
    let (copy, report) = LogHandle::open(past.as_path(), Options::default()).unwrap();
    assert_eq!(report.head, 30);
    assert!(copy.verify(None).unwrap().is_clean());
    assert_eq!(copy.reader().read(0, 100).unwrap(), log.reader().read(0, 30).unwrap());
    copy.close().await.unwrap();
    let mut calls = 0;
    let given_up = log.copy_to(&folder.path().join("none"), 43, None, &mut |_, _| {
        calls += 1;
        false
    });
    assert_eq!((given_up.unwrap_err().code, calls), (Code::Cancelled, 1));
    assert!(!folder.path().join("none/db").exists());
}
