//! Processes killed while they append, and two that want the same log.

use super::child::{acknowledged, start};
use super::store::{draft, options, runtime};
use super::{Dice, cases, tell};
use athena_actors::log::{LogHandle, Mode, verify_folder};
use athena_schemas::ports::LogError;

#[test]
fn stride_r03_nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let mut dice = Dice(6);
    let (number, mut events, mut unanswered) = (cases(6, 200), 0, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut told = Vec::new();
    // One store, killed again and again: the journal of every life is recovered by the next.
    for round in 0..number {
        let (mut child, mut lines) = start(&path, round * 1_000_000 + 1);
        let enough = 20 + dice.below(200);
        told.extend(acknowledged(&mut lines).take(enough));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was acknowledged between the last line read and the kill is still in the pipe.
        told.extend(acknowledged(&mut lines));
        let report = verify_folder(&path, None).unwrap();
        assert!(report.is_clean(), "round {round}: {:?}", report.findings);
        runtime().block_on(async {
            let (log, report) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
            let reader = log.reader();
            for n in &told {
                assert!(
                    reader.find(draft(*n, 0).id).unwrap().is_some(),
                    "round {round}: event {n} was acknowledged"
                );
            }
            events = told.len() as u64;
            unanswered = report.head - events;
            log.close().await.unwrap();
        });
    }
    tell(format_args!(
        "kill -9: {number} kills, {events} acknowledged, 0 lost, {unanswered} written and not yet answered"
    ));
}

#[test]
fn two_processes_never_write_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    for round in 0..cases(1, 10) {
        let (mut child, mut lines) = start(&path, round * 1_000_000 + 1);
        assert!(acknowledged(&mut lines).next().is_some());
        let second = LogHandle::open(path.as_path(), options(Mode::Sync));
        assert!(matches!(second, Err(LogError::Io(text)) if text.contains("in use")));
        child.kill().unwrap();
        child.wait().unwrap();
        let (log, report) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
        assert!(report.head > 0);
        runtime().block_on(log.close()).unwrap();
    }
}
