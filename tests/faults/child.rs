//! The process that is killed: this test binary again, told by its environment what to do.

use super::store::{draft, options, runtime};
use athena_actors::log::{Append, LogHandle, Mode};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const FOLDER: &str = "ATHENA_FAULTS_FOLDER";
const FROM: &str = "ATHENA_FAULTS_FROM";

/// Starts a process that appends events from `from` on, eight at a time, and tells each acknowledgement.
pub(super) fn start(folder: &Path, from: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child::appends_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The event numbers whose acknowledgements arrive; ends with the process.
pub(super) fn acknowledged(lines: &mut BufReader<ChildStdout>) -> impl Iterator<Item = u64> + '_ {
    lines.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("ack ")?.parse().ok())
}

/// Does nothing unless started by [`start`].
#[test]
fn appends_until_it_is_killed() {
    let (Ok(folder), Ok(from)) = (std::env::var(FOLDER), std::env::var(FROM)) else { return };
    let from: u64 = from.parse().unwrap();
    runtime().block_on(async {
        let (log, _) = LogHandle::open(Path::new(&folder), options(Mode::Sync)).unwrap();
        let mut loops = Vec::new();
        for lane in 0..8 {
            let log = log.clone();
            loops.push(tokio::spawn(async move {
                for n in (from + lane..).step_by(8) {
                    let size = 100 + usize::try_from(n % 700).unwrap();
                    assert!(log.commit(Append::new(vec![draft(n, size)])).await.unwrap().durable);
                    // One write, so that a kill leaves no half line that reads as another number.
                    let line = format!("ack {n}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    std::io::stdout().flush().unwrap();
                }
            }));
        }
        for endless in loops {
            endless.await.unwrap();
        }
    });
}
