//! Procedures as a git repository: every version a commit, so that people can clone, diff and blame what their agents learned
//! (`git clone STORE/views/procedures.git`). Nothing is true because it lies here: objects and refs are functions of the events,
//! down to their hashes, and a rebuild makes the same ones.
//!
//! ```text
//! refs/heads/<name>/<id>        the newest version
//! refs/tags/<name>/<id>/v<n>    every version
//! ```

use athena_schemas::envelope::{Meta, Seq};
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::procedural::{self, Learned};
use athena_schemas::ports::{Projection, ProjectionError, Recorded, same};
use git2::{ObjectType, Odb, Oid, Repository};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Name of the projection.
const NAME: &str = "repository";
/// Version of this code: another one than the stored means rebuild.
const VERSION: u32 = 1;
/// Where the position stands, within the repository.
const POSITION: &str = "athena-position";

type Refs = Arc<RwLock<BTreeMap<String, Oid>>>;

/// The read side: which commit a version is.
#[derive(Clone, Default)]
pub struct Commits {
    refs: Refs,
}

impl Commits {
    /// The commit of a version.
    pub fn of(&self, name: &str, id: &Id, version: u32) -> Option<String> {
        let refs = self.refs.read().unwrap_or_else(PoisonError::into_inner);
        refs.get(&tag(name, id, version)).map(Oid::to_string)
    }
}

fn branch(name: &str, id: &Id) -> String {
    format!("refs/heads/{name}/{id}")
}

fn tag(name: &str, id: &Id, version: u32) -> String {
    format!("refs/tags/{name}/{id}/v{version}")
}

/// The projection. Without a folder it computes the same hashes and keeps no objects.
pub struct Versions {
    folder: Option<PathBuf>,
    disk: Option<Repository>,
    refs: Refs,
    position: Seq,
    /// The position on disk.
    saved: Seq,
    /// Whether it is the one that answers; others are built beside it.
    answers: bool,
}

fn failed(error: impl std::fmt::Display) -> ProjectionError {
    ProjectionError::Store { name: NAME, cause: error.to_string() }
}

impl Versions {
    /// Opens the repository in a folder; begins anew where there is none, or one of another version.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: Option<&Path>) -> Result<Self, ProjectionError> {
        let mut versions = Self {
            folder: folder.map(Path::to_path_buf),
            disk: None,
            refs: Refs::default(),
            position: 0,
            saved: 0,
            answers: true,
        };
        let Some(folder) = folder else { return Ok(versions) };
        remove(&beside(folder))?;
        match position(folder) {
            Some(at) => {
                versions.disk = Some(Repository::open_bare(folder).map_err(failed)?);
                versions.load()?;
                (versions.position, versions.saved) = (at, at);
            }
            None => versions.begin()?,
        }
        Ok(versions)
    }

    /// The read side.
    pub fn commits(&self) -> Commits {
        Commits { refs: Arc::clone(&self.refs) }
    }

    fn load(&self) -> Result<(), ProjectionError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let mut refs = self.refs.write().unwrap_or_else(PoisonError::into_inner);
        for reference in disk.references().map_err(failed)? {
            let reference = reference.map_err(failed)?;
            if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
                refs.insert(name.to_owned(), target);
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), ProjectionError> {
        self.disk = None;
        self.refs.write().unwrap_or_else(PoisonError::into_inner).clear();
        (self.position, self.saved) = (0, 0);
        if let Some(folder) = &self.folder {
            remove(folder)?;
            self.disk = Some(Repository::init_bare(folder).map_err(failed)?);
        }
        Ok(())
    }

    fn learned(&self, event: &Learned, meta: &Meta) -> Result<(), ProjectionError> {
        let tag = tag(&event.name, &event.id, event.version);
        let branch = branch(&event.name, &event.id);
        let mut refs = self.refs.write().unwrap_or_else(PoisonError::into_inner);
        if refs.contains_key(&tag) {
            // Read again after a crash.
            return Ok(());
        }
        let odb = self.disk.as_ref().map(Repository::odb).transpose().map_err(failed)?;
        let object = |kind, bytes: &[u8]| object(odb.as_ref(), kind, bytes);
        let code = object(ObjectType::Blob, event.code.as_bytes())?;
        let about = object(ObjectType::Blob, about(event).as_bytes())?;
        let file = format!("{}.{}", event.name, event.language.ending());
        let mut entries = [(file, code), ("procedure.json".to_owned(), about)];
        entries.sort();
        let mut tree = Vec::new();
        for (name, oid) in &entries {
            tree.extend(format!("100644 {name}\0").bytes());
            tree.extend(oid.as_bytes());
        }
        let tree = object(ObjectType::Tree, &tree)?;
        let commit = commit(event, meta, tree, refs.get(&branch).copied());
        let commit = object(ObjectType::Commit, commit.as_bytes())?;
        if let Some(disk) = &self.disk {
            for name in [&tag, &branch] {
                disk.reference(name, commit, true, "learned").map_err(failed)?;
            }
        }
        refs.insert(tag, commit);
        refs.insert(branch, commit);
        Ok(())
    }
}

/// Where another one is built, beside that in a folder.
fn beside(folder: &Path) -> PathBuf {
    folder.with_extension("git.beside")
}

fn remove(folder: &Path) -> Result<(), ProjectionError> {
    if folder.exists() { std::fs::remove_dir_all(folder).map_err(failed) } else { Ok(()) }
}

/// One that does not answer leaves nothing behind.
impl Drop for Versions {
    fn drop(&mut self) {
        if let (false, Some(folder)) = (self.answers, &self.folder)
            && let Err(error) = remove(folder)
        {
            tracing::warn!(%error, "a repository that is not used stays until the next start");
        }
    }
}

/// The position that a repository of this version stands for.
fn position(folder: &Path) -> Option<Seq> {
    let text = std::fs::read_to_string(folder.join(POSITION)).ok()?;
    let (version, position) = text.trim().split_once(' ')?;
    (version.parse() == Ok(VERSION)).then(|| position.parse().ok())?
}

/// Hashes an object, and writes it where there is a repository.
fn object(odb: Option<&Odb<'_>>, kind: ObjectType, bytes: &[u8]) -> Result<Oid, ProjectionError> {
    match odb {
        Some(odb) => odb.write(kind, bytes),
        None => Oid::hash_object(kind, bytes),
    }
    .map_err(failed)
}

/// What is said about a version, beside its code.
fn about(event: &Learned) -> String {
    let params: serde_json::Value = serde_json::from_str(&event.params).unwrap_or_default();
    let about = json!({
        "description": event.description,
        "params": params,
        "tags": event.tags,
        "category": event.category,
        "risk": event.risk,
    });
    format!("{about:#}\n")
}

/// A commit as git writes it. Its time is that of the event, its author whom the runtime saw.
fn commit(event: &Learned, meta: &Meta, tree: Oid, parent: Option<Oid>) -> String {
    let plain = |text: &str| text.replace(['<', '>', '\n', '\0'], " ").trim().to_owned();
    let name = plain(&meta.author.name);
    let name = if name.is_empty() { "athena".to_owned() } else { name };
    let channel = format!("{:?}", meta.author.channel).to_lowercase();
    let who = format!("{name} <{channel}> {} +0000", meta.at_ms / 1_000);
    let parent = parent.map_or(String::new(), |oid| format!("parent {oid}\n"));
    let what = match event.rollback_to {
        Some(to) => format!("{} v{}: back to v{to}", event.name, event.version),
        None => format!("{} v{}", event.name, event.version),
    };
    let why = event.reason.as_deref().map_or(String::new(), |why| format!("\n\n{}", why.replace('\0', " ")));
    format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{what}{why}\n")
}

impl Projection for Versions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn position(&self) -> Seq {
        self.position
    }

    fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
        for recorded in batch.iter().filter(|recorded| recorded.record.seq > self.position) {
            if let Some(Event::Procedural(procedural::Event::Learned(event))) = &recorded.event {
                self.learned(event, &recorded.record.draft.meta)?;
            }
        }
        if let Some(last) = batch.last() {
            self.position = self.position.max(last.record.seq);
        }
        Ok(())
    }

    /// The position may lag behind the refs: what is read twice is known by its tag.
    fn flush(&mut self) -> Result<(), ProjectionError> {
        let Some(folder) = self.folder.as_ref().filter(|_| self.saved != self.position) else {
            return Ok(());
        };
        let fresh = folder.join("athena-position.new");
        std::fs::write(&fresh, format!("{VERSION} {}\n", self.position)).map_err(failed)?;
        std::fs::rename(&fresh, folder.join(POSITION)).map_err(failed)?;
        self.saved = self.position;
        Ok(())
    }

    fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
        let mut built = Self {
            folder: self.folder.as_deref().map(beside),
            disk: None,
            refs: Refs::default(),
            position: 0,
            saved: 0,
            answers: false,
        };
        built.begin()?;
        Ok(Box::new(built))
    }

    fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
        let mut built = same::<Self>(built)?;
        built.flush()?;
        if let (Some(folder), Some(beside)) = (&self.folder, &built.folder) {
            // A start that finds neither begins anew.
            (self.disk, built.disk) = (None, None);
            remove(folder)?;
            std::fs::rename(beside, folder).map_err(failed)?;
            self.disk = Some(Repository::open_bare(folder).map_err(failed)?);
        }
        (self.position, self.saved) = (built.position, built.saved);
        let mut refs = self.refs.write().unwrap_or_else(PoisonError::into_inner);
        *refs = std::mem::take(&mut *built.refs.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn digest(&self) -> Result<[u8; 32], ProjectionError> {
        let mut hasher = blake3::Hasher::new();
        for (name, oid) in self.refs.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hasher.update(name.as_bytes()).update(&[0]).update(oid.as_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{Library, Options};
    use crate::testing::{Fed, id};
    use athena_schemas::context::Scope;
    use athena_schemas::layers::common::Origin;
    use athena_schemas::risk::Risk;
    use proptest::prelude::*;

    fn learned(version: u32, code: &str, rollback_to: Option<u32>) -> procedural::Event {
        procedural::Event::Learned(Learned {
            id: id("pr", 1),
            name: "boil".into(),
            version,
            code: code.into(),
            language: procedural::Language::TypeScript,
            description: "Boils water.".into(),
            params: String::new(),
            tags: vec!["kitchen".into()],
            category: None,
            risk: Risk::Low,
            origin: Origin::default(),
            rollback_to,
            reason: rollback_to.map(|_| "it was better".to_owned()),
        })
    }

    #[test]
    fn versions_are_commits_that_git_reads_and_a_second_reading_changes_nothing() {
        let mut fed = Fed::new();
        for (version, code, back) in [(1, "return 1", None), (2, "return 2", None), (3, "return 1", Some(1))]
        {
            fed.feed(1_700_000_000_000 + u64::from(version) * 1_000, learned(version, code, back));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("procedures.git");
        let mut disk = Versions::open(Some(&path)).unwrap();
        disk.apply(&fed.log).unwrap();
        disk.flush().unwrap();
        let mut memory = Versions::open(None).unwrap();
        memory.apply(&fed.log).unwrap();
        assert_eq!(disk.digest().unwrap(), memory.digest().unwrap());

        let repository = Repository::open_bare(&path).unwrap();
        let branch = format!("refs/heads/boil/{}", id("pr", 1));
        let newest = repository.find_reference(&branch).unwrap().peel_to_commit().unwrap();
        assert_eq!(disk.commits().of("boil", &id("pr", 1), 3), Some(newest.id().to_string()));
        assert_eq!(newest.time().seconds(), 1_700_000_003);
        assert!(newest.message().unwrap().contains("back to v1"));
        let blob = newest.tree().unwrap().get_name("boil.ts").unwrap().id();
        assert_eq!(repository.find_blob(blob).unwrap().content(), b"return 1");
        assert_eq!(newest.parent(0).unwrap().parent(0).unwrap().parent_count(), 0);

        let digest = disk.digest().unwrap();
        drop(disk);
        let mut again = Versions::open(Some(&path)).unwrap();
        assert_eq!((again.position(), again.digest().unwrap()), (3, digest));
        again.position = 0;
        again.apply(&fed.log).unwrap();
        assert_eq!(again.digest().unwrap(), digest, "what is read twice is there once");
        let commits = again.commits();
        let mut built = again.beside().unwrap();
        built.apply(&fed.log[..1]).unwrap();
        assert!(commits.of("boil", &id("pr", 1), 3).is_some(), "nobody sees what is being built");
        built.apply(&fed.log[1..]).unwrap();
        again.adopt(built).unwrap();
        assert_eq!(again.digest().unwrap(), digest, "a rebuild makes the same commits");
        assert!(!beside(&path).exists());
        assert_eq!(Versions::open(Some(&path)).unwrap().position(), 3);
        drop(again.beside().unwrap());
        assert!(!beside(&path).exists(), "what was not adopted leaves nothing behind");
    }

    /// The code of a version as git keeps it: read through its tag.
    fn kept(repository: &Repository, learned: &Learned) -> String {
        let tag = tag(&learned.name, &learned.id, learned.version);
        let tree = repository.find_reference(&tag).unwrap().peel_to_tree().unwrap();
        let file = format!("{}.{}", learned.name, learned.language.ending());
        let blob = tree.get_name(&file).unwrap().id();
        String::from_utf8(repository.find_blob(blob).unwrap().content().to_vec()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        /// Whatever is learned, taken back, archived and moved: every version stands in the rows and in the repository alike,
        /// live, opened again, and built anew.
        #[test]
        fn rows_and_repository_agree(steps in proptest::collection::vec((0_u8..6, 0_u64..3, 0_u32..5), 1..16)) {
            let folder = tempfile::tempdir().unwrap();
            let options = Options { folder: Some(folder.path().into()), ..Options::default() };
            let mut fed = Fed::new();
            let mut versions: Vec<Learned> = Vec::new();
            for (n, (what, which, salt)) in (1..).zip(steps) {
                let id = id("pr", which + 1);
                let own: Vec<&Learned> = versions.iter().filter(|one| one.id == id).collect();
                let version = own.len() as u32 + 1;
                let event: procedural::Event = match (what, own.get(salt as usize)) {
                    (0, Some(_)) => procedural::Archived { id }.into(),
                    (1, Some(_)) => procedural::Relocated { ids: vec![id], to: Scope::project("other") }.into(),
                    (2, Some(old)) => {
                        let back = Some(old.version);
                        Learned { version, rollback_to: back, reason: Some("it was better".into()), ..(*old).clone() }.into()
                    }
                    _ => {
                        let procedural::Event::Learned(one) = learned(version, &format!("return {salt}\n"), None) else {
                            unreachable!("that is what it makes")
                        };
                        let language = [procedural::Language::Python, procedural::Language::TypeScript][which as usize % 2];
                        Learned { id, name: format!("boil_{which}"), language, ..one }.into()
                    }
                };
                if let procedural::Event::Learned(one) = &event {
                    versions.push(one.clone());
                }
                fed.feed(n * 1_000, event);
            }
            let agree = |library: &Library| {
                let repository = Repository::open_bare(folder.path().join("procedures.git")).unwrap();
                for one in &versions {
                    let row = library.procedures.version(&one.id, one.version).unwrap().unwrap();
                    assert_eq!(&row.body, one);
                    assert_eq!(kept(&repository, one), row.body.code);
                }
                assert_eq!(repository.references().unwrap().count() - versions.len(), {
                    let ids: std::collections::BTreeSet<&Id> = versions.iter().map(|one| &one.id).collect();
                    ids.len()
                }, "a branch a procedure, and a tag a version");
            };
            let library = Library::open(options.clone()).unwrap();
            for mut projection in library.projections() {
                projection.apply(&fed.log).unwrap();
                projection.flush().unwrap();
            }
            agree(&library);
            drop(library);
            let library = Library::open(options).unwrap();
            agree(&library);
            for mut projection in library.projections() {
                let mut built = projection.beside().unwrap();
                built.apply(&fed.log).unwrap();
                projection.adopt(built).unwrap();
            }
            agree(&library);
        }
    }
}
