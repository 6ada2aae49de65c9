//! Where the master key comes from.

use super::keyring::{self, SystemKeyring};
use super::{damaged, disk, random};
use crate::files;
use athena_schemas::refusal::Refusal;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The name of the master key's file beside the keys it protects.
const FILE: &str = "master.key";

/// Where the master key comes from.
#[derive(Debug, Clone, Default)]
pub enum MasterKey {
    /// The file `master.key`, mode 0600, in the folder of keys; created with it.
    #[default]
    File,
    /// Given: from the environment.
    Given(Zeroizing<[u8; 32]>),
    /// The system's keyring. One that lies in the file is moved there.
    Keyring(SystemKeyring),
}

impl MasterKey {
    /// A master key as 64 hexadecimal digits, as the environment holds it.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_hex(text: &str) -> Result<Self, Refusal> {
        parse(text).map(Self::Given).ok_or_else(|| {
            Refusal::invalid("a master key is 64 hexadecimal digits").hint("openssl rand -hex 32")
        })
    }

    /// Its name for people: `file`, `given` or `keyring`.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Given(_) => "given",
            Self::Keyring(_) => "keyring",
        }
    }

    /// Keeps a key there, in a folder of keys that has none; what is given is kept by whoever gives it.
    ///
    /// # Errors
    /// When the disk fails or the keyring cannot be used.
    pub(super) fn keep(&self, folder: &Path, key: &[u8; 32]) -> Result<(), Refusal> {
        match self {
            Self::File => store(folder, key),
            Self::Given(_) => Ok(()),
            Self::Keyring(keyring) => keyring.store(folder, key),
        }
    }

    /// The key; `create` allows to make a new one, which must only happen where no keys depend on the old one.
    pub(super) fn load(&self, folder: &Path, create: bool) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        let path = folder.join(FILE);
        match self {
            Self::Given(key) => return Ok(key.clone()),
            Self::File if path.exists() => return read(&path),
            Self::File if keyring::is_named(folder) => {
                let message = "the master key of this store is in the system's keyring, and the settings look for a file";
                return Err(Refusal::invalid(message).hint("set keys.master = \"keyring\""));
            }
            Self::File => {}
            Self::Keyring(keyring) => {
                if let Some(key) = keyring.load(folder)? {
                    return Ok(key);
                }
                if path.exists() {
                    let key = read(&path)?;
                    keyring.store(folder, &key)?;
                    remove(&path).map_err(|error| disk("remove the master key's file", &error))?;
                    return Ok(key);
                }
            }
        }
        if !create {
            return Err(damaged(format!("the master key {} is missing", path.display())));
        }
        let mut key = Zeroizing::new([0; 32]);
        random(key.as_mut())?;
        self.keep(folder, &key)?;
        Ok(key)
    }
}

fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    let mode = fs::metadata(path).map_err(|error| disk("read the master key", &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        let message =
            format!("the master key {} can be read by others (mode {:03o})", path.display(), mode & 0o777);
        return Err(Refusal::denied(message).hint(format!("chmod 600 {}", path.display())));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| disk("read the master key", &error))?);
    parse(text.trim()).ok_or_else(|| damaged("the master key's file does not hold 64 hexadecimal digits"))
}

/// Overwrites and removes the key's file.
fn remove(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&[b'0'; 64])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    path.parent().map_or(Ok(()), files::sync_folder)
}

/// Writes the key's file; never over one that is there.
pub(super) fn store(folder: &Path, key: &[u8; 32]) -> Result<(), Refusal> {
    let write = || {
        let mut file: File =
            File::options().write(true).create_new(true).mode(0o600).open(folder.join(FILE))?;
        let text = Zeroizing::new(files::hex(key));
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        files::sync_folder(folder)
    };
    write().map_err(|error| disk("write the master key", &error))
}

pub(super) fn parse(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    files::unhex(text).map(Zeroizing::new)
}
