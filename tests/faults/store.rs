//! Stores to be mistreated, and the law they are judged by.

use athena_actors::log::{Append, LogHandle, Mode, Options, verify_folder};
use athena_schemas::context::{Channel, Party, Scope};
use athena_schemas::envelope::{Author, Draft, Kind, Meta, Record};
use athena_schemas::id::CommandId;
use athena_schemas::ports::LogError;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The event `n`, of one of five streams, with a payload that belongs to it.
pub(super) fn draft(n: u64, size: usize) -> Draft {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    let command = CommandId(id);
    let payload = blake3::Hasher::new().update(&id).finalize_xof();
    let mut bytes = vec![0; size];
    { payload }.fill(&mut bytes);
    Draft {
        stream: format!("stream-{}", n % 5),
        id: command.event(0),
        kind: Kind(0x0201),
        schema: 1,
        meta: Meta {
            at_ms: n,
            scope: Scope::project("faults"),
            author: Author { party: Party::Agent, channel: Channel::Mcp, name: "faults".into() },
            command,
            run: None,
            key: None,
        },
        payload: bytes,
    }
}

pub(super) fn options(mode: Mode) -> Options {
    Options { mode, ..Options::default() }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A store whose process died: events `1..=tables` in tables, then up to `synced` in the journal and on disk, then up to
/// `head` written without a sync.
pub(super) struct Dead {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) records: Vec<Record>,
    pub(super) synced: u64,
    /// The journal's bytes when all up to `synced` was on disk.
    pub(super) synced_bytes: usize,
    /// The anchor as of then.
    pub(super) synced_anchor: Vec<u8>,
}

impl Dead {
    pub(super) fn make(tables: u64, synced: u64, head: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (alive, path) = (folder.path().join("alive"), folder.path().join("dead"));
        let (records, synced_bytes, synced_anchor) = runtime().block_on(async {
            let (log, _) = LogHandle::open(alive.as_path(), options(Mode::Buffer)).unwrap();
            let append = async |n: u64| log.commit(Append::new(vec![draft(n, 200)])).await.unwrap();
            for n in 1..=tables {
                append(n).await;
            }
            log.compact().await.unwrap();
            for n in tables + 1..=synced {
                append(n).await;
                log.sync().await.unwrap();
            }
            let synced_bytes = data_len(&active_journal(&alive));
            let synced_anchor = fs::read(alive.join("anchor")).unwrap();
            for n in synced + 1..=head {
                append(n).await;
            }
            let records = log.reader().read(0, usize::MAX).unwrap();
            // What a process that dies now leaves behind is what the files hold now.
            copy(&alive, &path);
            log.close().await.unwrap();
            (records, synced_bytes, synced_anchor)
        });
        assert_eq!(records.len() as u64, head);
        Self { _folder: folder, path, records, synced, synced_bytes, synced_anchor }
    }

    /// A copy to mistreat.
    pub(super) fn copy(&self) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        copy(&self.path, &path);
        Case { _folder: folder, path }
    }

    /// Judges a mistreated copy: it opens whole, up to `durable` at least, or refuses as damaged.
    pub(super) fn judge(&self, case: &Case, durable: u64, what: &str) -> Verdict {
        let checked = verify_folder(&case.path, None).unwrap();
        let opened = LogHandle::open(case.path.as_path(), options(Mode::Sync));
        match opened {
            Err(LogError::Damaged(text)) => {
                assert!(!checked.is_clean(), "{what}: refused, but verify finds nothing: {text}");
                Verdict::Refused(text)
            }
            Err(other) => panic!("{what}: neither opened nor refused as damaged: {other}"),
            Ok((log, report)) => runtime().block_on(async {
                let head = report.head;
                assert!(
                    head >= durable,
                    "{what}: opened with {head}, {durable} were acknowledged as durable"
                );
                let whole = self.is_whole(&log, head);
                if let Err(trouble) = &whole {
                    assert!(!checked.is_clean(), "{what}: {trouble}, but verify finds nothing");
                    return Verdict::Found;
                }
                let verified = log.verify(None).unwrap();
                if !verified.is_clean() {
                    // The events are whole and an index beside them is not; verify must know it without opening, too.
                    assert!(!checked.is_clean(), "{what}: opened, but {:?}", verified.findings);
                    return Verdict::Found;
                }
                // And it goes on working.
                let next = draft(1_000_000, 100);
                assert_eq!(log.commit(Append::new(vec![next])).await.unwrap().first, head + 1, "{what}");
                Verdict::Opened { head, cut: report.cut.is_some() }
            }),
        }
    }

    /// Whether all events read back as they were written; an error is damage that was noticed, other content is not.
    fn is_whole(&self, log: &LogHandle, head: u64) -> Result<(), String> {
        let reader = log.reader();
        let mut after = 0;
        while after < head {
            let page = reader.read(after, 64).map_err(|error| error.to_string())?;
            for record in page {
                let expected = &self.records[usize::try_from(record.seq - 1).unwrap()];
                assert_eq!(&record, expected, "position {} reads other content", record.seq);
                let found = reader.find(record.draft.id).map_err(|error| error.to_string())?;
                if found != Some(record.seq) {
                    return Err(format!("the id of position {} is not found", record.seq));
                }
                after = record.seq;
            }
        }
        Ok(())
    }
}

/// A copy of a store.
pub(super) struct Case {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

/// What became of a case.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It opened with all that was durable.
    Opened { head: u64, cut: bool },
    /// It refused.
    Refused(String),
    /// It opened, and reading or verifying noticed the damage.
    Found,
}

/// All files of a store, relative to nothing.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The journal that is being written.
pub(super) fn active_journal(log: &Path) -> PathBuf {
    let journals =
        files(&log.join("db")).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "jnl"));
    journals.max_by_key(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap()).unwrap()
}

/// Bytes of a file up to its last one that is not zero.
pub(super) fn data_len(path: &Path) -> usize {
    used(&fs::read(path).unwrap())
}

/// By blocks first: journals end in 64 MiB of zeros, and tests are not optimised.
fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let zeros: usize =
        bytes.rchunks(4096).take_while(|block| **block == ZEROS[..block.len()]).map(<[u8]>::len).sum();
    let rest = &bytes[..bytes.len() - zeros];
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Copies a folder; zeros at the end of a file stay a hole.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            let used = used(&bytes);
            let file = fs::File::create(&target).unwrap();
            file.write_all_at(&bytes[..used], 0).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
    }
}
