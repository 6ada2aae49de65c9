//! What the log is measured against. Each peer has the same shape as the log: callers hand their event to one writer thread,
//! which drains what waits, writes it as one group and answers.

use anyhow::Context;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rusqlite::Connection;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::oneshot;

/// Where a group of events is written.
pub(crate) trait Sink: Send + 'static {
    /// Writes a group; durable when this returns, if the sink is.
    fn write(&mut self, group: &[Vec<u8>]) -> anyhow::Result<()>;
}

/// A writer thread over a sink.
#[derive(Clone)]
pub(crate) struct Peer(SyncSender<(Vec<u8>, oneshot::Sender<()>)>);

impl Peer {
    /// Starts the thread; it ends with the last clone.
    pub(crate) fn start(mut sink: impl Sink) -> Self {
        let (queue, waiting) = sync_channel::<(Vec<u8>, oneshot::Sender<()>)>(4096);
        std::thread::spawn(move || {
            while let Ok((event, reply)) = waiting.recv() {
                let (mut events, mut replies) = (vec![event], vec![reply]);
                while events.len() < 512
                    && let Ok((event, reply)) = waiting.try_recv()
                {
                    events.push(event);
                    replies.push(reply);
                }
                if sink.write(&events).is_err() {
                    return;
                }
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        });
        Self(queue)
    }

    /// Records one event.
    pub(crate) async fn append(&self, event: Vec<u8>) -> anyhow::Result<()> {
        let (reply, done) = oneshot::channel();
        self.0.try_send((event, reply)).context("the peer's queue")?;
        done.await.context("the peer failed")
    }
}

/// A bare file, filled with zeros beforehand so that a sync writes data and nothing else: the limit of the disk.
pub(crate) struct Bare {
    file: File,
    at: u64,
    size: u64,
    sync: bool,
}

impl Bare {
    /// A file of 64 MiB of written zeros; writing starts over at its end.
    pub(crate) fn create(path: &Path, sync: bool) -> anyhow::Result<Self> {
        let size = 64 << 20;
        let file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for at in (0..size).step_by(1 << 20) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, size, sync })
    }
}

impl Sink for Bare {
    fn write(&mut self, group: &[Vec<u8>]) -> anyhow::Result<()> {
        let bytes = group.concat();
        if self.at + bytes.len() as u64 > self.size {
            self.at = 0;
        }
        self.file.write_all_at(&bytes, self.at)?;
        self.at += bytes.len() as u64;
        if self.sync {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// SQLite with a write-ahead log; one transaction a group, an id column with its index, as the log has.
pub(crate) struct Sqlite {
    connection: Connection,
    next: i64,
}

impl Sqlite {
    /// `full`: synced with every transaction; else `NORMAL`.
    pub(crate) fn create(path: &Path, full: bool) -> anyhow::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
        connection.execute_batch(
            "CREATE TABLE log (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, event BLOB NOT NULL)",
        )?;
        Ok(Self { connection, next: 1 })
    }
}

impl Sink for Sqlite {
    fn write(&mut self, group: &[Vec<u8>]) -> anyhow::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3)")?;
            for event in group {
                let id = blake3::hash(&self.next.to_le_bytes());
                insert.execute((self.next, &id.as_bytes()[..16], event))?;
                self.next += 1;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// The storage engine with the log's four keyspaces and its look for an id that was used before: no seal, no leaf, no chain.
pub(crate) struct Engine {
    database: Database,
    keyspaces: [Keyspace; 4],
    next: u64,
}

impl Engine {
    /// A fresh database.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let database = Database::builder(path)
            .journal_compression(CompressionType::None)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()?;
        let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default);
        let keyspaces = [keyspace("log")?, keyspace("stm")?, keyspace("ids")?, keyspace("meta")?];
        Ok(Self { database, keyspaces, next: 1 })
    }
}

impl Sink for Engine {
    fn write(&mut self, group: &[Vec<u8>]) -> anyhow::Result<()> {
        let [log, streams, ids, meta] = &self.keyspaces;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for event in group {
            let seq = self.next.to_be_bytes();
            let id = blake3::hash(&seq);
            let id = &id.as_bytes()[..16];
            anyhow::ensure!(ids.get(id)?.is_none(), "an id was used twice");
            batch.insert(log, seq, event.as_slice());
            batch.insert(streams, [[7; 16].as_slice(), &seq].concat(), seq);
            batch.insert(ids, id, seq);
            self.next += 1;
        }
        batch.insert(meta, "g", self.next.to_be_bytes());
        Ok(batch.commit()?)
    }
}
