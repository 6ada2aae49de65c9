//! Torn tails and lost power. An image of the disk after a power cut is what had been synced, plus any of the sectors that were
//! written since, plus the anchor of then or of any later moment.

use super::store::{Dead, Verdict, active_journal, data_len};
use super::{Dice, cases, tell};
use std::fs;
use std::os::unix::fs::FileExt;

/// A disk writes whole sectors of this many bytes.
const SECTOR: usize = 512;

#[test]
fn a_torn_tail_is_cut_and_the_rest_opens() {
    let dead = Dead::make(10, 40, 80);
    let (mut dice, mut cut) = (Dice(4), 0);
    let number = cases(10, 150);
    for _ in 0..number {
        let case = dead.copy();
        let journal = active_journal(&case.path);
        let len = dead.synced_bytes + dice.below(data_len(&journal) - dead.synced_bytes);
        let file = fs::File::options().write(true).open(&journal).unwrap();
        file.set_len(len as u64).unwrap();
        // The zeros that the file was allocated with come back in half of the cases.
        if dice.below(2) == 0 {
            file.set_len(64 << 20).unwrap();
        }
        let what = format!("torn at {len}");
        match dead.judge(&case, dead.synced, &what) {
            Verdict::Opened { head, cut: was_cut } => {
                assert!(head < 80, "{what}: something was torn off");
                cut += u64::from(was_cut);
            }
            other => panic!("{what}: a torn tail must open: {other:?}"),
        }
    }
    assert!(cut > 0);
    tell(format_args!(
        "torn tails: {number} cases, {cut} cut inside a group, 0 did not open, 0 acknowledged as durable lost"
    ));
}

#[test]
fn after_a_power_cut_everything_synced_is_there() {
    let dead = Dead::make(10, 40, 100);
    let (mut dice, mut heads) = (Dice(5), Vec::new());
    let number = cases(10, 150);
    for n in 0..number {
        let case = dead.copy();
        let journal = active_journal(&case.path);
        let file = fs::File::options().write(true).open(&journal).unwrap();
        let end = data_len(&journal);
        // Each sector written since the last sync reached the disk, or did not.
        let odds = 1 + dice.below(12);
        for start in (0..end).step_by(SECTOR).filter(|start| start + SECTOR > dead.synced_bytes) {
            if dice.below(odds) == 0 {
                let from = start.max(dead.synced_bytes);
                let lost = vec![0; (start + SECTOR).min(end) - from];
                file.write_all_at(&lost, from as u64).unwrap();
            }
        }
        if n % 2 == 0 {
            fs::write(case.path.join("anchor"), &dead.synced_anchor).unwrap();
        }
        let what = format!("power cut {n}");
        match dead.judge(&case, dead.synced, &what) {
            Verdict::Opened { head, .. } => heads.push(head),
            other => panic!("{what}: must open: {other:?}"),
        }
    }
    let (least, most) = (heads.iter().min().unwrap(), heads.iter().max().unwrap());
    tell(format_args!(
        "power cuts: {number} images, 0 did not open, 0 synced events lost (synced: {}, recovered: {least} to {most})",
        dead.synced
    ));
}

#[test]
fn a_rolled_back_store_is_found_by_a_checkpoint_kept_elsewhere() {
    use super::store::{draft, options, runtime};
    use athena_actors::log::{Append, LogHandle, Mode, Signer, verify_folder};
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("old"));
    runtime().block_on(async {
        let (log, _) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
        log.commit(Append::new((1..=5).map(|n| draft(n, 50)).collect())).await.unwrap();
        log.close().await.unwrap();
        super::store::copy(&path, &old);
        let (log, _) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
        log.commit(Append::new((6..=9).map(|n| draft(n, 50)).collect())).await.unwrap();
        let checkpoint = log.checkpoint(&Signer::new(&[7; 32]), 1_000).await.unwrap();
        assert_eq!(log.checkpoints().unwrap(), std::slice::from_ref(&checkpoint));
        log.close().await.unwrap();
        assert!(verify_folder(&path, Some(&checkpoint)).unwrap().is_clean());
        assert!(verify_folder(&old, None).unwrap().is_clean(), "by itself an old copy is a good store");
        let report = verify_folder(&old, Some(&checkpoint)).unwrap();
        assert_eq!((report.findings[0].first, report.findings[0].last), (Some(6), Some(9)));
        // Another history of the same length.
        let other = folder.path().join("other");
        let (log, _) = LogHandle::open(other.as_path(), options(Mode::Sync)).unwrap();
        log.commit(Append::new((11..=19).map(|n| draft(n, 50)).collect())).await.unwrap();
        log.close().await.unwrap();
        let report = verify_folder(&other, Some(&checkpoint)).unwrap();
        assert!(report.findings[0].what.contains("another history"), "{report:?}");
    });
}
