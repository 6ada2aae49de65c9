//! The system's keyring as the place of the master key: GNOME's, KDE's or whatever else answers the Secret Service, asked
//! through `secret-tool`, the program that libsecret brings for it.
//!
//! A program, and not a library: a connection to the session's bus, and the cryptography of that protocol, stay out of the
//! process that holds every key. The key goes to it through a pipe and comes back through one, never on a command line.

use super::{damaged, disk, random};
use crate::files::{hex, write_durably};
use athena_schemas::refusal::{Code, Refusal};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The file beside the keys that names the entry in the keyring. It is no secret.
const FILE: &str = "keyring";

/// How long the keyring may take, a person's password to unlock it included.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a program that has not ended is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The system's keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemKeyring {
    program: PathBuf,
}

impl Default for SystemKeyring {
    /// Asked through `secret-tool` as the search path has it.
    fn default() -> Self {
        Self { program: "secret-tool".into() }
    }
}

impl SystemKeyring {
    /// Asked through another program that takes the same arguments as `secret-tool`.
    pub fn through(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The key that the file in a folder of keys names; `None` where there is no such file.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when there is no keyring or it stays locked; [`Code::Integrity`] when it has no such entry.
    pub(super) fn load(&self, folder: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Refusal> {
        let name = match fs::read_to_string(folder.join(FILE)) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("read the name of the master key", &error)),
        };
        let key = self.get(name.trim())?.ok_or_else(|| {
            damaged(format!(
                "the system's keyring has no master key {:?} (another person's, or removed)",
                name.trim()
            ))
        })?;
        Ok(Some(key))
    }

    /// Puts a key into the keyring and its name beside the keys; there once it has been read back.
    ///
    /// # Errors
    /// When there is no keyring, it stays locked or the disk fails.
    pub(super) fn store(&self, folder: &Path, key: &[u8; 32]) -> Result<(), Refusal> {
        let mut name = [0; 8];
        random(&mut name)?;
        let name = hex(&name);
        let text = Zeroizing::new(hex(key));
        let label = format!("--label=Athena: master key {name}");
        let (code, _, said) =
            self.ask(&["store", &label, "application", "athena", "key", &name], text.as_bytes())?;
        if code != Some(0) {
            return Err(silent(&said));
        }
        if self.get(&name)?.is_none_or(|kept| *kept != *key) {
            return Err(silent("it does not give back what was put into it"));
        }
        write_durably(&folder.join(FILE), name.as_bytes())
            .map_err(|error| disk("write the name of the master key", &error))
    }

    /// An entry. The program ends with 1 and says nothing where there is none.
    fn get(&self, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, Refusal> {
        let (code, key, said) = self.ask(&["lookup", "application", "athena", "key", name], b"")?;
        match super::master::parse(key.trim()) {
            Some(key) => Ok(Some(key)),
            None if code == Some(1) && said.is_empty() => Ok(None),
            None if code == Some(0) => {
                Err(damaged("what the system's keyring has is not 64 hexadecimal digits"))
            }
            None => Err(silent(&said)),
        }
    }

    /// Runs the program: how it ended, what it wrote, what it complained of.
    fn ask(
        &self,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<(Option<i32>, Zeroizing<String>, String), Refusal> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                silent(&format!("there is no {} to ask it with", self.program.display()))
            }
            _ => silent(&format!("{}: {error}", self.program.display())),
        };
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it says why, and that is what counts. Dropped here, so that it sees the end.
            let _ = stdin.write_all(input);
        }
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(silent(&format!(
                        "it did not answer within {} s; is it locked?",
                        PATIENCE.as_secs()
                    )));
                }
                None => std::thread::park_timeout(LOOK),
            }
        };
        // What it says is far shorter than a pipe holds.
        let (mut out, mut said) = (Zeroizing::new(String::new()), String::new());
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut out).map_err(failed)?;
        }
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said).map_err(failed)?;
        }
        Ok((status.code(), out, said.trim().to_owned()))
    }
}

/// Whether the keys of a folder say that their master key is in the keyring.
pub(super) fn is_named(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Has a copy of the keys name the same entry.
pub(super) fn copy_name(from: &Path, to: &Path) -> io::Result<()> {
    write_durably(&to.join(FILE), &fs::read(from.join(FILE))?)
}

fn silent(why: &str) -> Refusal {
    let why = if why.is_empty() { "it refused" } else { why };
    Refusal::new(Code::Unavailable, format!("the system's keyring cannot be used: {why}")).hint(
        "install libsecret-tools and unlock the keyring (a desktop session, or gnome-keyring-daemon --unlock), or set \
         keys.master = \"file\", or give the key in ATHENA_MASTER_KEY",
    )
}

#[cfg(test)]
mod tests {
    use super::super::{KeyStore, MasterKey};
    use super::*;

    /// A stand-in for the real program, `secret-tool.sh`. Tests of a real keyring these are not.
    fn stand_in(folder: &Path, kind: &str) -> SystemKeyring {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/keys/secret-tool.sh");
        let program = folder.join(kind);
        if !program.exists() {
            std::os::unix::fs::symlink(script, &program).unwrap();
        }
        SystemKeyring::through(program)
    }

    fn refused(folder: &Path, master: MasterKey) -> Refusal {
        KeyStore::open(folder, master).map(drop).unwrap_err()
    }

    #[test]
    fn a_master_key_in_the_keyring_is_in_no_file_beside_the_keys() {
        let here = tempfile::tempdir().unwrap();
        let (ring, keys) = (stand_in(here.path(), "working"), here.path().join("keys"));
        let store = KeyStore::open(&keys, MasterKey::Keyring(ring.clone())).unwrap();
        let (name, key) = store.data_key("p").unwrap();
        assert_eq!(store.status().master, "keyring");
        drop(store);
        assert!(!keys.join("master.key").exists());
        let secret = fs::read_dir(here.path()).unwrap().flatten().find_map(|entry| {
            entry.file_name().to_str()?.starts_with("entry-").then(|| fs::read(entry.path()).unwrap())
        });
        let secret = secret.unwrap();
        for entry in fs::read_dir(&keys).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            let bytes = fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{entry:?}");
        }
        let again = KeyStore::open(&keys, MasterKey::Keyring(ring.clone())).unwrap();
        assert_eq!(again.data_key("p").unwrap(), (name, key));
        // A copy of the store names the same entry.
        let copy = here.path().join("copy");
        again.copy_to(&copy, 0).unwrap();
        assert_eq!(KeyStore::open(&copy, MasterKey::Keyring(ring)).unwrap().subjects(), ["p"]);
        drop(again);
        let refusal = refused(&keys, MasterKey::File);
        assert!(refusal.message.contains("keyring"), "{refusal}");
    }

    #[test]
    fn a_master_key_moves_from_its_file_into_the_keyring() {
        let here = tempfile::tempdir().unwrap();
        let (ring, keys) = (stand_in(here.path(), "working"), here.path().join("keys"));
        let before = KeyStore::open(&keys, MasterKey::File).unwrap().data_key("p").unwrap();
        let store = KeyStore::open(&keys, MasterKey::Keyring(ring)).unwrap();
        assert_eq!(store.data_key("p").unwrap(), before);
        assert!(!keys.join("master.key").exists() && is_named(&keys));
    }

    #[test]
    fn a_keyring_that_is_not_there_is_said_and_changes_nothing() {
        let here = tempfile::tempdir().unwrap();
        let keys = here.path().join("keys");
        drop(KeyStore::open(&keys, MasterKey::File).unwrap());
        let absent = SystemKeyring::through(here.path().join("nothing"));
        let without_bus = stand_in(here.path(), "without-bus");
        for (ring, told) in [(absent, "to ask it with"), (without_bus, "D-Bus")] {
            let refusal = refused(&keys, MasterKey::Keyring(ring));
            assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
            assert!(refusal.message.contains(told) && refusal.hint.contains("keys.master"), "{refusal}");
        }
        // One that takes everything and keeps nothing.
        let leaky = stand_in(here.path(), "forgetful");
        assert!(refused(&keys, MasterKey::Keyring(leaky)).message.contains("give back"));
        KeyStore::open(&keys, MasterKey::File).unwrap();
        // Keys whose entry was removed are not made anew.
        let ring = stand_in(here.path(), "working");
        drop(KeyStore::open(&keys, MasterKey::Keyring(ring.clone())).unwrap());
        for entry in fs::read_dir(here.path()).unwrap().flatten() {
            if entry.file_name().to_str().unwrap().starts_with("entry-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        assert_eq!(refused(&keys, MasterKey::Keyring(ring)).code, Code::Integrity);
    }
}
