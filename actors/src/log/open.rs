//! Opening a log so that nothing acknowledged is missing, or refusing to.

use super::anchor::{self, Anchor, Found, Mark};
use super::frame::{GENESIS, Hash};
use super::store::{Store, StoreError, disk::Disk, disk::convert_io, memory::Memory};
use super::{Location, OpenReport};
use crate::files;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::LogError;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open store and how far it is.
pub(crate) struct Opened {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Its last position.
    pub(crate) head: Seq,
    /// The chain hash there.
    pub(crate) chain: Hash,
    /// The last position known to be on disk.
    pub(crate) synced: Seq,
    /// The anchor; a store in memory has none.
    pub(crate) anchor: Option<Anchor>,
}

/// Opens a store, again and again if need be; holds the folder's lock meanwhile.
pub(crate) enum Opener {
    /// A store in memory: always the same one.
    Memory(Memory),
    /// A folder, locked as long as this lives.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Holds the lock.
        _lock: File,
    },
}

impl Opener {
    /// Takes the folder's lock, creating the folder.
    ///
    /// # Errors
    /// When another process holds the lock or the disk fails.
    pub(crate) fn new(location: Location) -> Result<Self, LogError> {
        match location {
            Location::Memory => Ok(Self::Memory(Memory::default())),
            Location::Folder(folder) => {
                std::fs::create_dir_all(&folder).map_err(|error| io(&error))?;
                let lock = files::lock(&folder.join("lock"))
                    .map_err(|error| io(&error))?
                    .ok_or(StoreError::Locked)?;
                Ok(Self::Folder { folder, _lock: lock })
            }
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When something acknowledged is missing or changed, or the disk fails.
    pub(crate) fn open(&mut self) -> Result<(Opened, OpenReport), LogError> {
        match self {
            Self::Memory(store) => {
                let (head, chain) = store.last()?.unwrap_or((0, GENESIS));
                let store = Arc::new(store.clone());
                let report = OpenReport { head, chain };
                Ok((Opened { store, head, chain, synced: head, anchor: None }, report))
            }
            Self::Folder { folder, .. } => open_folder(folder),
        }
    }
}

fn open_folder(folder: &Path) -> Result<(Opened, OpenReport), LogError> {
    let path = folder.join("anchor");
    let found = anchor::read(&path).map_err(|error| io(&error))?;
    let store = Disk::open(folder)?;
    let (head, chain) = store.last()?.unwrap_or((0, GENESIS));
    if let Found::Mark(mark) = found
        && head < mark.synced
    {
        return Err(lost(head, mark.synced));
    }
    // Opening has synced the journal, so all there is is on disk.
    let mut anchor = Anchor::open(&path).map_err(|error| io(&error))?;
    anchor.write(&Mark { head, chain, synced: head });
    anchor.sync();
    let opened = Opened { store: Arc::new(store), head, chain, synced: head, anchor: Some(anchor) };
    Ok((opened, OpenReport { head, chain }))
}

/// The refusal to open with less than was acknowledged.
fn lost(head: Seq, acknowledged: Seq) -> LogError {
    LogError::Damaged(format!(
        "positions {} to {acknowledged} were acknowledged as durable and are missing; the log ends at {head}. Restore the \
         store's folder from a backup",
        head + 1
    ))
}

pub(crate) fn io(error: &std::io::Error) -> LogError {
    convert_io(error).into()
}
