//! Small things about files.

use athena_schemas::refusal::{Code, Refusal};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes that the files below a folder take on disk; what cannot be read counts as nothing. A journal is allocated before it is
/// written, so the lengths of files say more than is there.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let mut open = vec![folder.to_path_buf()];
    let mut total = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => total += meta.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    total
}

/// Writes a file that only its owner reads, on disk when this returns; never over one that is there.
///
/// # Errors
/// [`Code::Conflict`] where it exists; when the disk fails.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    let write = || {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Refusal::conflict(format!("{} exists already", path.display())).hint("another name")
        }
        io::ErrorKind::StorageFull => {
            Refusal::new(Code::StorageFull, format!("{} cannot be written: {error}", path.display()))
        }
        _ => Refusal::new(Code::Unavailable, format!("{} cannot be written: {error}", path.display())),
    })
}

/// A path as another process understands it.
///
/// # Errors
/// When there is no working folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Refusal> {
    std::path::absolute(path).map_err(|error| Refusal::invalid(format!("{}: {error}", path.display())))
}
