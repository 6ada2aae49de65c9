//! The key file: `keys`, replaced as a whole, and the secret of its epoch, `epoch-<n>`.
//!
//! `"ATHKEYS2" | epoch u32 | check of the master key 8 B | body (postcard) | BLAKE3 keyed by the master key 32 B`
//!
//! Files of the first format, which knew no trees, are read and replaced by the next change.
//!
//! The epoch changes in three steps, each safe to be cut off after: the new secret is written, the key file wrapped under it
//! replaces the old one, the old secret is overwritten and removed.

use super::sealer::{siv_open, siv_seal};
use super::tree::{Shape, Tree};
use super::{DataKey, TREE, WIDE, damaged, derive, disk, expand, is_tree, random};
use crate::files;
use athena_schemas::envelope::{KeyRef, Seq, exactly};
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const FILE: &str = "keys";
const MAGIC: &[u8; 8] = b"ATHKEYS2";
const FIRST: &[u8; 8] = b"ATHKEYS1";

/// What is kept for a subject.
#[derive(Clone)]
pub(super) enum Secret {
    /// One key for everything.
    Whole(DataKey),
    /// A tree with a key for each event.
    Tree(Tree),
}

impl Secret {
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Whole(key) => Zeroizing::new(key.to_vec()),
            Self::Tree(tree) => tree.to_bytes(),
        }
    }

    /// Reads it back; `None` where it is not what a key of this version holds.
    pub(super) fn from_bytes(version: u32, bytes: &[u8]) -> Option<Self> {
        match version {
            TREE => Tree::from_bytes(Shape::NARROW, bytes).map(Self::Tree),
            WIDE => Tree::from_bytes(Shape::WIDE, bytes).map(Self::Tree),
            _ => Some(Self::Whole(Arc::new(Zeroizing::new(bytes.try_into().ok()?)))),
        }
    }
}

/// A data key with what it is for.
#[derive(Clone)]
pub(super) struct Plain {
    pub(super) name: KeyRef,
    pub(super) subject: String,
    pub(super) secret: Secret,
}

/// What the file says.
#[derive(Default)]
pub(super) struct KeyFile {
    pub(super) epoch: u32,
    pub(super) keys: Vec<Plain>,
    pub(super) destroyed: BTreeSet<KeyRef>,
    pub(super) settled: Seq,
}

#[derive(Serialize, Deserialize)]
struct Body {
    wrapped: Vec<Wrapped>,
    destroyed: BTreeSet<KeyRef>,
    settled: Seq,
}

/// The body of the first format.
#[derive(Deserialize)]
struct FirstBody {
    wrapped: Vec<Wrapped>,
    destroyed: BTreeSet<KeyRef>,
}

/// Key and subject under the wrapping key; the name is bound as associated data.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    name: KeyRef,
    sealed: Vec<u8>,
}

/// Whether there is a key file.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Bytes of the key file; 0 where there is none.
pub(super) fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join(FILE)).map_or(0, |meta| meta.len())
}

/// Makes room for other keys: those that are there go into a folder of their own where they are worth keeping. Answers which.
pub(super) fn set_aside(folder: &Path, keep: bool) -> Result<Option<PathBuf>, Refusal> {
    let failed = |error: io::Error| disk("set the keys aside", &error);
    let aside = (1..).map(|n| folder.join(format!("before-restore-{n}"))).find(|path| !path.exists());
    let aside = aside.filter(|_| keep);
    if let Some(aside) = &aside {
        fs::create_dir(aside).map_err(failed)?;
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        if !path.is_file() || name == "lock" {
            continue;
        }
        match &aside {
            Some(aside) => fs::rename(&path, aside.join(name)),
            None => fs::remove_file(&path),
        }
        .map_err(failed)?;
    }
    files::sync_folder(folder).map_err(failed)?;
    Ok(aside)
}

/// A key file without keys.
pub(super) fn create(folder: &Path, master: &[u8; 32]) -> Result<KeyFile, Refusal> {
    let mut file = KeyFile::default();
    next_epoch(folder, master, &mut file)?;
    Ok(file)
}

/// Reads and unwraps the key file; finishes what a cut-off change of epoch left behind.
pub(super) fn read(folder: &Path, master: &[u8; 32]) -> Result<KeyFile, Refusal> {
    let bytes = fs::read(folder.join(FILE)).map_err(|error| disk("read the key file", &error))?;
    let (epoch, first, body) = check(&bytes, master)?;
    let body = if first {
        exactly(body).map(|FirstBody { wrapped, destroyed }| Body { wrapped, destroyed, settled: 0 })
    } else {
        exactly(body)
    };
    let body: Body = body.map_err(|error| damaged(format!("the key file is not readable: {error}")))?;
    let wrapping = wrapping_key(folder, master, epoch)?;
    let keys =
        body.wrapped.into_iter().map(|wrapped| unwrap(&wrapping, wrapped)).collect::<Result<_, _>>()?;
    forget_other_epochs(folder, epoch).map_err(|error| disk("remove an old wrapping key", &error))?;
    Ok(KeyFile { epoch, keys, destroyed: body.destroyed, settled: body.settled })
}

/// Writes the key file in an epoch that has its secret.
pub(super) fn write(folder: &Path, master: &[u8; 32], file: &KeyFile) -> Result<(), Refusal> {
    let wrapping = wrapping_key(folder, master, file.epoch)?;
    let wrapped = file.keys.iter().map(|plain| wrap(&wrapping, plain)).collect::<Result<_, _>>()?;
    let body = Body { wrapped, destroyed: file.destroyed.clone(), settled: file.settled };
    let body = postcard::to_stdvec(&body)
        .map_err(|error| Refusal::internal(format!("the key file cannot be encoded: {error}")))?;
    let mac = mac_key(master);
    let mut bytes = Vec::with_capacity(body.len() + 64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&file.epoch.to_le_bytes());
    bytes.extend_from_slice(&master_check(&mac));
    bytes.extend_from_slice(&body);
    let sum = blake3::keyed_hash(&mac, &bytes);
    bytes.extend_from_slice(sum.as_bytes());
    files::write_durably(&folder.join(FILE), &bytes).map_err(|error| disk("write the key file", &error))
}

/// Writes the keys of a store, which has no trees, in the first format.
#[cfg(test)]
pub(super) fn write_first(keys: &super::KeyStore) -> Result<(), Refusal> {
    let (state, master) = (keys.read(), &keys.master);
    let wrapping = wrapping_key(&keys.folder, master, state.epoch)?;
    let wrapped: Vec<Wrapped> =
        state.plain().iter().map(|plain| wrap(&wrapping, plain)).collect::<Result<_, _>>()?;
    let body = postcard::to_stdvec(&(wrapped, &state.destroyed)).unwrap();
    let mac = mac_key(master);
    let mut bytes = [FIRST.as_slice(), &state.epoch.to_le_bytes(), &master_check(&mac), &body].concat();
    let sum = blake3::keyed_hash(&mac, &bytes);
    bytes.extend_from_slice(sum.as_bytes());
    files::write_durably(&keys.folder.join(FILE), &bytes).map_err(|error| disk("write the key file", &error))
}

/// Begins the next epoch with what the file is to say and makes the one before unrecoverable.
pub(super) fn next_epoch(folder: &Path, master: &[u8; 32], file: &mut KeyFile) -> Result<(), Refusal> {
    file.epoch = file.epoch.wrapping_add(1);
    let mut secret = Zeroizing::new([0; 32]);
    random(secret.as_mut())?;
    files::write_durably(&epoch_path(folder, file.epoch), secret.as_ref())
        .map_err(|error| disk("write a wrapping key", &error))?;
    write(folder, master, file)?;
    forget_other_epochs(folder, file.epoch).map_err(|error| disk("remove an old wrapping key", &error))
}

/// The epoch, whether the file is of the first format, and the body.
fn check<'a>(bytes: &'a [u8], master: &[u8; 32]) -> Result<(u32, bool, &'a [u8]), Refusal> {
    let short = || damaged("the key file is cut off");
    let (signed, sum) = bytes.split_last_chunk::<32>().ok_or_else(short)?;
    let (magic, rest) = signed.split_first_chunk::<8>().ok_or_else(short)?;
    let (epoch, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (found, body) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if magic != MAGIC && magic != FIRST {
        return Err(damaged("the key file is not one this build knows"));
    }
    let mac = mac_key(master);
    // Compared as hashes, which takes the same time whatever differs.
    if blake3::keyed_hash(&mac, signed) != blake3::Hash::from_bytes(*sum) {
        return Err(if *found == master_check(&mac) {
            damaged("the key file is damaged")
        } else {
            damaged("the master key does not fit these keys")
        });
    }
    Ok((u32::from_le_bytes(*epoch), magic == FIRST, body))
}

fn wrap(wrapping: &[u8; 64], plain: &Plain) -> Result<Wrapped, Refusal> {
    let mut content = plain.secret.to_bytes();
    if is_tree(plain.name.version) {
        // A tree's length varies, so the subject's stands at the end.
        content.extend_from_slice(plain.subject.as_bytes());
        content.extend_from_slice(&(plain.subject.len() as u32).to_le_bytes());
    } else {
        content.extend_from_slice(plain.subject.as_bytes());
    }
    let sealed = siv_seal(wrapping, &[&plain.name.name, &plain.name.version.to_be_bytes()], &content)?;
    Ok(Wrapped { name: plain.name.clone(), sealed })
}

fn unwrap(wrapping: &[u8; 64], wrapped: Wrapped) -> Result<Plain, Refusal> {
    let name = wrapped.name;
    let content = siv_open(wrapping, &[&name.name, &name.version.to_be_bytes()], &wrapped.sealed)
        .map(Zeroizing::new)
        .ok_or_else(|| damaged("a data key cannot be unwrapped"))?;
    let cut = || damaged("a data key is cut off");
    let (secret, subject) = if is_tree(name.version) {
        let (rest, length) = content.split_last_chunk::<4>().ok_or_else(cut)?;
        let tree = rest.len().checked_sub(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        rest.split_at_checked(tree).ok_or_else(cut)?
    } else {
        content.split_at_checked(64).ok_or_else(cut)?
    };
    let secret = Secret::from_bytes(name.version, secret).ok_or_else(cut)?;
    let subject = String::from_utf8(subject.to_vec()).map_err(|_| damaged("a subject is not text"))?;
    Ok(Plain { name, subject, secret })
}

fn wrapping_key(folder: &Path, master: &[u8; 32], epoch: u32) -> Result<Zeroizing<[u8; 64]>, Refusal> {
    let secret = fs::read(epoch_path(folder, epoch))
        .map(Zeroizing::new)
        .map_err(|error| damaged(format!("the wrapping key of epoch {epoch} is missing: {error}")))?;
    Ok(expand(Some(&secret), master, &format!("athena/v1/wrap/keys/{epoch}")))
}

fn mac_key(master: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let derived = derive(master, "key-file", "");
    Zeroizing::new(*derived.first_chunk::<32>().unwrap_or(&[0; 32]))
}

fn master_check(mac: &[u8; 32]) -> [u8; 8] {
    *blake3::keyed_hash(mac, b"master key").as_bytes().first_chunk::<8>().unwrap_or(&[0; 8])
}

fn epoch_path(folder: &Path, epoch: u32) -> PathBuf {
    folder.join(format!("epoch-{epoch}"))
}

/// Overwrites and removes the secrets of all epochs but one. On a disk that writes elsewhere (flash, snapshots) overwriting
/// is not certain; then the master key is what protects an old secret.
fn forget_other_epochs(folder: &Path, epoch: u32) -> io::Result<()> {
    let kept = epoch_path(folder, epoch);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_epoch =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("epoch-"));
        if is_epoch && path != kept {
            let mut file = File::options().write(true).open(&path)?;
            file.write_all(&[0; 32])?;
            file.sync_all()?;
            fs::remove_file(&path)?;
        }
    }
    files::sync_folder(folder)
}
