//! Where an index lies: in a numbered folder. A note beside it says which number answers; another number is being built, or was left.

use std::io;
use std::path::{Path, PathBuf};

/// The name of the note.
const NOTE: &str = "current";

/// A numbered folder. One that does not answer is removed when this is dropped.
pub(super) struct Place {
    root: PathBuf,
    number: u64,
    answers: bool,
}

impl Place {
    /// The folder that answers, made where there is none. Everything else below the root is removed.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let note = match std::fs::read_to_string(root.join(NOTE)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let place = Self { root: root.into(), number: note.trim().parse().unwrap_or(0), answers: true };
        std::fs::create_dir_all(place.folder())?;
        for entry in std::fs::read_dir(root)? {
            let path = entry?.path();
            if path != place.folder() && path != root.join(NOTE) {
                if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
            }
        }
        Ok(place)
    }

    /// The next one, empty.
    pub(super) fn beside(&self) -> io::Result<Self> {
        let next = Self { root: self.root.clone(), number: self.number + 1, answers: false };
        next.empty()?;
        Ok(next)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(self.number.to_string())
    }

    /// Removes all that is in it.
    pub(super) fn empty(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(self.folder())
    }

    /// From now on it answers, in the place of another.
    pub(super) fn succeed(&mut self, other: &mut Self) -> io::Result<()> {
        let note = self.root.join(NOTE);
        let fresh = note.with_extension("new");
        std::fs::write(&fresh, self.number.to_string())?;
        std::fs::rename(fresh, note)?;
        (self.answers, other.answers) = (true, false);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.answers
            && let Err(error) = std::fs::remove_dir_all(self.folder())
        {
            tracing::warn!(%error, "a search index that is not used stays until the next start");
        }
    }
}
