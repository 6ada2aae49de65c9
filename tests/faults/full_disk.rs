//! A full disk: appends are refused, reads go on, and appends go on by themselves when there is room.

use super::store::{draft, options, runtime};
use super::{cases, tell};
use crate::support::ATHENA;
use athena_actors::log::{Append, LogHandle, Mode, verify_folder};
use athena_schemas::ports::LogError;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// Fills the disk but for what the log has, leaving `free` bytes.
fn ballast(folder: &Path, free: usize) -> PathBuf {
    use std::io::Write;
    let path = folder.join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut written = 0_u64;
    while file.write_all(&[1; 4096]).is_ok() {
        written += 4096;
    }
    file.set_len(written.saturating_sub(free as u64)).unwrap();
    path
}

async fn fill_and_free(folder: &Path, round: u64) -> (u64, u64) {
    let path = folder.join("log");
    let (log, _) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
    let reader = log.reader();
    let first = round * 1_000_000 + 1;
    log.commit(Append::new(vec![draft(first, 1000)])).await.unwrap();
    let ballast = ballast(folder, 256 << 10);
    let (mut n, mut acknowledged) = (first, 1);
    let refused = loop {
        n += 1;
        match log.commit(Append::new(vec![draft(n, 20_000)])).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Full(_)), "{refused}");
    // Refused again, at once; and everything acknowledged can be read all the while.
    let again = log.commit(Append::new(vec![draft(n, 20_000)])).await;
    assert!(matches!(again, Err(LogError::Full(_))), "{again:?}");
    for done in first..n {
        let seq = reader.find(draft(done, 0).id).unwrap().unwrap();
        assert_eq!(reader.read(seq - 1, 1).unwrap()[0].draft.id, draft(done, 0).id);
    }
    assert_eq!(reader.find(draft(n, 0).id).unwrap(), None, "what was refused is not there");
    std::fs::remove_file(ballast).unwrap();
    // The same append, in the same process, now that there is room.
    let receipt = log.commit(Append::new(vec![draft(n, 20_000)])).await.unwrap();
    assert!(receipt.durable && !receipt.duplicate);
    let head = reader.head();
    assert!(log.verify(None).unwrap().is_clean());
    log.close().await.unwrap();
    let report = verify_folder(&path, None).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.head, head);
    (acknowledged, head)
}

#[test]
fn stride_d20_a_full_disk_refuses_reads_on_and_recovers_in_the_same_process() {
    let Some(small) = Small::mount(48) else {
        return tell(
            "A FULL DISK WAS NOT TRIED: mounting a tmpfs is not permitted here; only the limit on file sizes is",
        );
    };
    let number = cases(1, 10);
    let mut events = 0;
    for round in 0..number {
        let (acknowledged, _) = runtime().block_on(fill_and_free(&small.path(), round));
        events += acknowledged;
    }
    tell(format_args!(
        "full disk: {number} times on a tmpfs, {events} acknowledged, 0 lost, reads and recovery in process"
    ));
}

/// The read models that answer are untouched where there is no room for others beside them.
#[test]
fn a_rebuild_without_room_is_refused_and_the_same_daemon_goes_on() {
    let Some(small) = Small::mount(160) else {
        return tell("A REBUILD ON A FULL DISK WAS NOT TRIED: mounting a tmpfs is not permitted here");
    };
    let athena = |args: &[&str]| {
        let store = small.path().join("store");
        Command::new(ATHENA).env("ATHENA_STORE", store).arg("--json").args(args).output().unwrap()
    };
    let done = |args: &[&str]| -> Value {
        let output = athena(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let finds = |words: &str| {
        let found = done(&["call", "rag/retrieve", &format!(r#"{{"query": "{words}"}}"#)]);
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    };
    done(&["call", "episodic/remember", r#"{"content": "the kettle is in the attic"}"#]);
    finds("kettle");
    let daemon = done(&["daemon", "status"])["pid"].clone();
    let ballast = ballast(&small.path(), 4 << 20);
    let refused = athena(&["call", "store/rebuild", "{}"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no room"), "{refused:?}");
    done(&["call", "episodic/remember", r#"{"content": "a parrot watches"}"#]);
    finds("kettle");
    std::fs::remove_file(ballast).unwrap();
    done(&["call", "store/rebuild", "{}"]);
    finds("parrot");
    assert_eq!(done(&["daemon", "status"])["pid"], daemon);
    done(&["daemon", "stop"]);
}

const FOLDER: &str = "ATHENA_FAULTS_LIMITED";

/// Where nothing may be mounted, a limit on file sizes stands for the full disk; it works everywhere.
#[test]
fn a_journal_that_cannot_grow_refuses_and_recovers_in_the_same_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    runtime().block_on(async {
        let (log, _) = LogHandle::open(path.as_path(), options(Mode::Sync)).unwrap();
        log.commit(Append::new(vec![draft(1, 100)])).await.unwrap();
        log.close().await.unwrap();
    });
    // The signal that comes with the limit would end the process; a shell can have it ignored.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 1024; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::full_disk::under_a_limit_on_file_sizes", "--nocapture"])
        .env(FOLDER, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = verify_folder(&path, None).unwrap();
    assert!(report.is_clean() && report.head > 2, "{report:?}");
}

/// Does nothing unless started by the test above.
#[test]
fn under_a_limit_on_file_sizes() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok(path) = std::env::var(FOLDER) else { return };
    runtime().block_on(async {
        let (log, _) = LogHandle::open(Path::new(&path), options(Mode::Sync)).unwrap();
        let mut n = 2;
        let refused = loop {
            match log.commit(Append::new(vec![draft(n, 20_000)])).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, LogError::Full(_)), "{refused}");
        assert_eq!(log.reader().read(0, 10_000).unwrap().len() as u64, n - 1);
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
        assert!(!log.commit(Append::new(vec![draft(n, 20_000)])).await.unwrap().duplicate);
        log.close().await.unwrap();
    });
}
