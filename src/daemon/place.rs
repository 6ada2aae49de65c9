//! Where a store lies, and where its daemon's socket, lock and log lie.

use crate::config::Folders;
use athena_schemas::refusal::{Code, Refusal};
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest socket path that every supported system takes, bytes (Linux allows 107, macOS 103).
const SOCKET_PATH_MAX: usize = 100;

/// Where one store's daemon is found. Two ways of spelling one store lead to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The store's folder: its real path.
    pub store: PathBuf,
    /// Where a daemon that we start listens: a socket of mode 0600 in a folder of mode 0700.
    pub socket: PathBuf,
    /// Held by the daemon as long as it lives; says which process it is and where it listens.
    pub lock: PathBuf,
    /// What the daemon has to say for itself.
    pub log: PathBuf,
}

impl Place {
    /// The place of the store in `folders`. Folders are made, readable by their owner alone.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when a folder cannot be made or belongs to somebody else.
    pub fn of(folders: &Folders) -> Result<Self, Refusal> {
        private_folder(&folders.store)?;
        let store = folders.store.canonicalize().map_err(|e| unusable(&folders.store, &e))?;
        let name = blake3::hash(store.as_os_str().as_bytes()).to_hex();
        let name = name.get(..16).unwrap_or_default().to_owned();
        let runtime = match folders.runtime.strip_prefix(&folders.store) {
            Ok(below) => store.join(below),
            Err(_) => folders.runtime.clone(),
        };
        let runtime = short_enough(&runtime);
        private_folder(&runtime)?;
        Ok(Self {
            socket: runtime.join(format!("{name}.sock")),
            lock: store.join("daemon.lock"),
            log: store.join("daemon.log"),
            store,
        })
    }

    /// Where the living daemon listens: it may have been started with another runtime folder than ours, and says so in the lock.
    pub fn listening(&self) -> PathBuf {
        let said = fs::read_to_string(&self.lock).unwrap_or_default();
        let socket = said.lines().nth(1).map(PathBuf::from).filter(|socket| socket.exists());
        socket.unwrap_or_else(|| self.socket.clone())
    }
}

/// A folder whose sockets' paths the system takes: the one asked for, or `/tmp/athena-<uid>`.
fn short_enough(runtime: &Path) -> PathBuf {
    if runtime.as_os_str().len() + 22 <= SOCKET_PATH_MAX {
        return runtime.to_path_buf();
    }
    PathBuf::from(format!("/tmp/athena-{}", nix::unistd::getuid()))
}

/// The project a command or a client works in: the git root above `folder`, else `folder` itself.
pub fn project_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let root = folder.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&folder);
    root.to_string_lossy().into_owned()
}

/// Makes a folder for its owner alone, and refuses one that somebody else could write to.
fn private_folder(folder: &Path) -> Result<(), Refusal> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| unusable(folder, &e))?;
    let meta = fs::metadata(folder).map_err(|e| unusable(folder, &e))?;
    if meta.uid() != nix::unistd::getuid().as_raw() {
        return Err(Refusal::new(Code::Unavailable, format!("{} belongs to another user", folder.display()))
            .hint("name a folder of yours with --store DIR or ATHENA_STORE"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|e| unusable(folder, &e))?;
    }
    Ok(())
}

fn unusable(folder: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, format!("{} cannot be used: {error}", folder.display()))
        .hint("name another folder with --store DIR or ATHENA_STORE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(store: &Path) -> Place {
        Place::of(&Folders::find(Some(store.to_path_buf()), |_| None).unwrap()).unwrap()
    }

    #[test]
    fn two_spellings_of_one_store_are_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let plain = place(folder.path());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert_eq!(place(&link).socket.file_name(), plain.socket.file_name());
        assert_eq!(place(&folder.path().join(".")).socket.file_name(), plain.socket.file_name());
        let other = tempfile::tempdir().unwrap();
        assert_ne!(place(other.path()).socket.file_name(), plain.socket.file_name());
    }

    #[test]
    fn a_store_is_its_owner_s_alone_and_its_socket_s_path_is_never_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("deep/".repeat(30));
        let place = place(&store);
        assert_eq!(fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(place.socket.as_os_str().len() <= SOCKET_PATH_MAX, "{}", place.socket.display());
    }

    #[test]
    fn a_project_is_the_git_root_above_the_folder_or_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(project_of(&inner), inner.to_string_lossy());
        fs::create_dir(root.join(".git")).unwrap();
        assert_eq!(project_of(&inner), root.to_string_lossy());
    }
}
