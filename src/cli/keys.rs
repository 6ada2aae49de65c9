//! `athena keys`: the keys that everything in the log is sealed with.

use super::output::field;
use super::passphrase::Passphrase;
use super::session::Session;
use super::{Done, written};
use crate::files::write_private;
use crate::system::master_key;
use athena_actors::keys::KeyStore;
use athena_actors::log::LogFile;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The keys that the log is sealed with
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How many there are and how they are kept
    Status,
    /// Wrap them anew; what copies of the key file hold cannot be unwrapped any more
    Rotate,
    /// Write all of them to a file, under a passphrase
    Backup {
        /// The file; it must not exist
        file: PathBuf,
    },
    /// Put the keys of a backup, or of a log file that holds some, into this store; ends with the daemon stopped
    Restore {
        /// The file
        file: PathBuf,
        /// Set other keys of this store aside; its own log cannot be read then
        #[arg(long)]
        replace: bool,
    },
}

impl Keys {
    pub(crate) async fn run(self, session: &Session) -> Done {
        session.only_now("the store's keys")?;
        match self.command {
            Command::Status => {
                let status = session.call("keys/status", json!({})).await?;
                written(session.out.value(&status, told))
            }
            Command::Rotate => {
                let status = session.call("keys/rotate", json!({})).await?;
                written(session.out.value(&status, |status| {
                    format!(
                        "wrapped anew, epoch {}; the wrapping key before it is destroyed",
                        field(status, "/epoch")
                    )
                }))
            }
            Command::Backup { file } => {
                let passphrase = self.passphrase.need(session, true)?;
                let made = session.call("keys/backup", json!({ "passphrase": passphrase })).await?;
                let sealed = bytes(&field(&made, "/sealed"))?;
                write_private(&file, &sealed)?;
                let done = json!({ "file": file, "bytes": sealed.len(), "subjects": made.pointer("/keys/subjects") });
                written(session.out.value(&done, |done| {
                    format!(
                        "the keys of {} subjects, under the passphrase, in {}\nkeep it apart from copies of the log; what is \
                         erased later stays readable with it",
                        field(done, "/subjects"),
                        field(done, "/file"),
                    )
                }))
            }
            Command::Restore { file, replace } => {
                let backup = sealed_in(&file)?;
                let passphrase = self.passphrase.need(session, false)?;
                restore(session, &backup, &passphrase, replace)
            }
        }
    }
}

/// Puts keys back. The store must not be in use.
pub(super) fn restore(session: &Session, backup: &[u8], passphrase: &str, replace: bool) -> Done {
    let folder = session.folders.store.join("keys");
    let master = master_key(&session.config()?, |name| std::env::var(name).ok())?;
    let restored = KeyStore::restore(&folder, master, backup, passphrase, replace).map_err(|refusal| {
        if refusal.code == Code::Unavailable { refusal.hint("athena daemon stop") } else { refusal }
    })?;
    let done = json!({ "added": restored.added, "set_aside": restored.set_aside });
    written(session.out.value(&done, |done| {
        let aside = match &restored.set_aside {
            Some(aside) => format!("\nthe keys that were here lie in {}", aside.display()),
            None => String::new(),
        };
        format!("{} keys added{aside}", field(done, "/added"))
    }))
}

/// The sealed keys of a backup, or those that came along with a log.
fn sealed_in(file: &Path) -> Result<Vec<u8>, Refusal> {
    let bytes = std::fs::read(file).map_err(|error| {
        let code =
            if error.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::Unavailable };
        Refusal::new(code, format!("{}: {error}", file.display()))
    })?;
    if !bytes.starts_with(b"ATHLOGF") {
        return Ok(bytes);
    }
    let log = LogFile::open(file, &mut |_, _| true)?;
    log.keys().map(<[u8]>::to_vec).ok_or_else(|| {
        Refusal::not_found(format!("{} holds no keys", file.display()))
            .hint("athena keys backup, where the log comes from")
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>, Refusal> {
    let digits = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    digits
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::internal("the daemon's backup of the keys is not readable"))
}

/// Where the master key is.
pub(super) fn place(status: &Value) -> &'static str {
    match field(status, "/master").as_str() {
        "file" => "the file master.key",
        "keyring" => "the system's keyring",
        _ => "the environment",
    }
}

/// How the keys stand, in a sentence each.
pub(super) fn told(status: &Value) -> String {
    format!(
        "{} subjects have keys, {} keys were destroyed as a whole\nwrapped in epoch {} under a master key from {}\n\
         erasures are carried out up to position {}; the key file has {} bytes",
        field(status, "/subjects"),
        field(status, "/destroyed"),
        field(status, "/epoch"),
        place(status),
        field(status, "/settled"),
        field(status, "/bytes"),
    )
}
