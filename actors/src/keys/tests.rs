use super::*;
use crate::log::testing::draft;
use athena_schemas::context::Scope;
use athena_schemas::ports::{Opened, Sealer};
use std::os::unix::fs::PermissionsExt;

fn open(folder: &Path) -> KeyStore {
    KeyStore::open(folder, MasterKey::File).unwrap()
}

fn restore(folder: &Path, backup: &[u8], passphrase: &str, replace: bool) -> Result<Restored, Refusal> {
    KeyStore::restore(folder, MasterKey::File, backup, passphrase, replace)
}

#[test]
fn keys_stay_the_same_over_reopening_and_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(folder.path());
    let (name, key) = keys.data_key("p").unwrap();
    let derived = keys.derive("token", "p");
    assert_ne!(derived, keys.derive("token", "q"));
    assert_ne!(keys.data_key("q").unwrap().1, key);
    keys.rotate().unwrap();
    drop(keys);
    let keys = open(folder.path());
    assert_eq!(keys.data_key("p").unwrap(), (name.clone(), key.clone()));
    assert_eq!(keys.lookup_data(&name).unwrap(), Lookup::Key(key));
    assert_eq!(keys.derive("token", "p"), derived);
    assert_eq!(keys.subjects(), ["p", "q"]);
    let mode = std::fs::metadata(folder.path().join("master.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn closed_keys_still_read_write_nothing_and_make_room_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let old = open(folder.path());
    let (name, key) = old.data_key("p").unwrap();
    assert!(KeyStore::open(folder.path(), MasterKey::File).is_err(), "two writers");
    old.close();
    let new = open(folder.path());
    let later = new.data_key("later").unwrap();
    assert_eq!(old.lookup_data(&name).unwrap(), Lookup::Key(key));
    assert_eq!(old.data_key("q").unwrap_err().code, Code::Unavailable);
    assert_eq!(old.rotate().unwrap_err().code, Code::Unavailable);
    drop((old, new));
    let keys = open(folder.path());
    assert_eq!(keys.subjects(), ["later", "p"]);
    assert_eq!(keys.data_key("later").unwrap(), later);
}

#[test]
fn a_destroyed_key_is_gone_from_every_file_and_from_old_copies() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(folder.path());
    let (name, _) = keys.data_key("alice").unwrap();
    keys.data_key("bob").unwrap();
    let old_copy = std::fs::read(folder.path().join("keys")).unwrap();
    assert_eq!(keys.destroy("alice").unwrap(), std::slice::from_ref(&name));
    assert_eq!(keys.destroy("alice").unwrap(), []);
    assert_eq!(keys.lookup_data(&name).unwrap(), Lookup::Destroyed);
    let (second, _) = keys.data_key("alice").unwrap();
    assert_ne!(second, name);
    drop(keys);
    let keys = open(folder.path());
    assert_eq!(keys.lookup_data(&name).unwrap(), Lookup::Destroyed);
    drop(keys);
    // Someone with the master key and a copy of the key file from before cannot unwrap it: its epoch's secret is gone.
    std::fs::write(folder.path().join("keys"), old_copy).unwrap();
    let refusal = KeyStore::open(folder.path(), MasterKey::File).unwrap_err();
    assert_eq!(refusal.code, Code::Integrity, "{refusal}");
}

#[test]
fn wrong_keys_damage_and_open_permissions_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let wrong = MasterKey::from_hex(&"7".repeat(64)).unwrap();
    let refusal = KeyStore::open(folder.path(), wrong).unwrap_err();
    assert!(refusal.message.contains("does not fit"), "{refusal}");
    let path = folder.path().join("keys");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[22] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refusal = KeyStore::open(folder.path(), MasterKey::File).unwrap_err();
    assert!(refusal.message.contains("is damaged"), "{refusal}");
    let master = folder.path().join("master.key");
    std::fs::set_permissions(&master, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(KeyStore::open(folder.path(), MasterKey::File).unwrap_err().code, Code::Denied);
    std::fs::remove_file(&master).unwrap();
    let refusal = KeyStore::open(folder.path(), MasterKey::File).unwrap_err();
    assert!(refusal.message.contains("is missing"), "no new master key over old keys: {refusal}");
}

#[test]
fn stride_i24_a_backup_restores_everything_but_what_was_destroyed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = open(here.path());
    let (alice, _) = keys.data_key("alice").unwrap();
    let (bob, key) = keys.data_key("bob").unwrap();
    let backup = keys.backup("correct horse").unwrap();
    assert_eq!(keys.backup("short").unwrap_err().code, Code::Invalid);
    keys.destroy("alice").unwrap();
    let derived = keys.derive("token", "p");
    drop(keys);
    let wrong = restore(there.path(), &backup, "wrong horse", false);
    assert_eq!(wrong.unwrap_err().code, Code::Denied);
    assert_eq!(restore(there.path(), &backup, "correct horse", false).unwrap().added, 2);
    let restored = open(there.path());
    assert_eq!(restored.lookup_data(&bob).unwrap(), Lookup::Key(key));
    assert_eq!(restored.derive("token", "p"), derived);
    assert_eq!(restore(here.path(), &backup, "correct horse", false).unwrap().added, 0);
    assert_eq!(open(here.path()).lookup_data(&alice).unwrap(), Lookup::Destroyed);
}

#[test]
fn a_backup_goes_over_other_keys_only_when_said_and_those_are_set_aside() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = open(here.path());
    let (name, key) = keys.data_key("alice").unwrap();
    let (gone, _) = keys.data_key("bob").unwrap();
    keys.destroy("bob").unwrap();
    let backup = keys.backup("correct horse").unwrap();
    // Keys that protect nothing are not in the way.
    drop(open(there.path()));
    let restored = restore(there.path(), &backup, "correct horse", false).unwrap();
    assert_eq!(restored, Restored { added: 1, set_aside: None });
    let again = open(there.path());
    assert_eq!(again.lookup_data(&name).unwrap(), Lookup::Key(key.clone()));
    assert_eq!(again.lookup_data(&gone).unwrap(), Lookup::Destroyed, "what was destroyed is known to be");
    drop(again);
    let other = tempfile::tempdir().unwrap();
    let mine = open(other.path()).data_key("carol").unwrap();
    let refusal = restore(other.path(), &backup, "correct horse", false).unwrap_err();
    assert_eq!(refusal.code, Code::Conflict, "{refusal}");
    assert_eq!(open(other.path()).data_key("carol").unwrap(), mine, "nothing was touched");
    let restored = restore(other.path(), &backup, "correct horse", true).unwrap();
    let aside = restored.set_aside.unwrap();
    assert_eq!(open(other.path()).lookup_data(&name).unwrap(), Lookup::Key(key));
    assert_eq!(open(&aside).data_key("carol").unwrap(), mine);
    let held = open(other.path());
    assert_eq!(restore(other.path(), &backup, "correct horse", true).unwrap_err().code, Code::Unavailable);
    drop(held);
    let given = MasterKey::from_hex(&"7".repeat(64)).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let refusal = KeyStore::restore(empty.path(), given, &backup, "correct horse", false).unwrap_err();
    assert_eq!((refusal.code, file::exists(empty.path())), (Code::Conflict, false), "{refusal}");
}

#[test]
fn a_backup_that_was_cut_or_changed_is_refused_and_leaves_nothing() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = open(here.path());
    keys.data_key("alice").unwrap();
    let backup = keys.backup("correct horse").unwrap();
    let mut changed = backup.clone();
    changed[40] ^= 1;
    for bytes in [&changed[..], &backup[..backup.len() - 1], &backup[..20], b""] {
        let code = restore(there.path(), bytes, "correct horse", false).unwrap_err().code;
        assert!(matches!(code, Code::Denied | Code::Invalid), "{code:?}");
        assert!(Keyring::open(bytes, "correct horse").is_err());
    }
    assert!(!file::exists(there.path()));
    let first = super::backup::first_backup(&keys, "correct horse");
    assert_eq!(restore(there.path(), &first, "correct horse", false).unwrap().added, 1);
}

#[test]
fn a_keyring_opens_what_was_sealed_and_seals_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(open(folder.path()));
    let sealer = PayloadSealer::new(Arc::clone(&keys));
    let sealed = sealer.seal(draft("semantic", 1, b"the secret")).unwrap();
    let erased = sealer.seal(draft("semantic", 2, b"the secret")).unwrap();
    keys.destroy_events(&[(erased.meta.key.clone().unwrap(), erased.id)]).unwrap();
    let ring = Keyring::open(&keys.backup("correct horse").unwrap(), "correct horse").unwrap();
    assert_eq!(ring.open(&sealed).unwrap(), Opened::Plain(b"the secret".to_vec()));
    assert_eq!(ring.open(&erased).unwrap(), Opened::Erased);
    assert!(ring.seal(draft("semantic", 3, b"x")).is_err());
}

#[test]
fn a_copy_for_an_earlier_position_opens_the_same_and_settles_no_further() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = open(here.path());
    let kept = keys.data_key("alice").unwrap();
    keys.settle(90).unwrap();
    keys.copy_to(there.path(), 40).unwrap();
    assert_eq!(keys.copy_to(there.path(), 40).unwrap_err().code, Code::Conflict);
    let copy = open(there.path());
    assert_eq!((copy.data_key("alice").unwrap(), copy.settled()), (kept, 40));
    let status = copy.status();
    assert_eq!((status.subjects, status.destroyed, status.master), (1, 0, "file"));
}

#[test]
fn stride_t04_a_payload_opens_only_where_it_was_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(open(folder.path()));
    let sealer = PayloadSealer::new(Arc::clone(&keys));
    let sealed = sealer.seal(draft("semantic", 1, b"the secret")).unwrap();
    assert!(!sealed.payload.windows(6).any(|window| window == b"secret"));
    assert_eq!(sealer.seal(draft("semantic", 1, b"the secret")).unwrap(), sealed, "a retry seals alike");
    assert_eq!(sealer.open(&sealed).unwrap(), Opened::Plain(b"the secret".to_vec()));
    let mut moved = [sealed.clone(), sealed.clone(), sealed.clone(), sealed.clone()];
    moved[0].stream = "episodic".into();
    moved[1].id = draft("semantic", 2, b"").id;
    moved[2].kind.0 += 1;
    moved[3].payload[3] ^= 1;
    for other in moved {
        assert_eq!(sealer.open(&other).unwrap_err().code, Code::Integrity);
    }
    keys.destroy(&subject(&Scope::project("test"))).unwrap();
    assert_eq!(sealer.open(&sealed).unwrap(), Opened::Erased);
}

#[test]
fn one_event_is_destroyed_and_its_neighbours_stay_also_against_an_old_copy_of_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(open(folder.path()));
    let sealer = PayloadSealer::new(Arc::clone(&keys));
    let sealed: Vec<_> =
        (1..=20).map(|n| sealer.seal(draft("semantic", n, b"the secret")).unwrap()).collect();
    let old_copy = std::fs::read(folder.path().join("keys")).unwrap();
    let small = old_copy.len();
    let gone = |n: usize| (sealed[n].meta.key.clone().unwrap(), sealed[n].id);
    assert_eq!(keys.destroy_events(&[gone(3), gone(7)]).unwrap(), (2, vec![]));
    assert_eq!(keys.destroy_events(&[gone(3)]).unwrap(), (0, vec![]), "once");
    keys.settle(41).unwrap();
    drop((sealer, keys));
    let keys = Arc::new(open(folder.path()));
    assert_eq!(keys.settled(), 41);
    let sealer = PayloadSealer::new(Arc::clone(&keys));
    for (n, draft) in sealed.iter().enumerate() {
        let expected = if n == 3 || n == 7 { Opened::Erased } else { Opened::Plain(b"the secret".to_vec()) };
        assert_eq!(sealer.open(draft).unwrap(), expected, "event {n}");
    }
    let again = sealer.seal(draft("semantic", 4, b"the secret")).unwrap_err();
    assert_eq!(again.code, Code::Conflict, "what was erased is not recorded under the same id");
    // What two erasures keep of a wide tree: twelve steps, fifteen siblings a step, 39 bytes each.
    let most = small as u64 + 2 * (12 * 15 * 39 + 100);
    assert!(std::fs::metadata(folder.path().join("keys")).unwrap().len() < most);
    drop((sealer, keys));
    std::fs::write(folder.path().join("keys"), old_copy).unwrap();
    assert_eq!(KeyStore::open(folder.path(), MasterKey::File).unwrap_err().code, Code::Integrity);
}

#[test]
fn a_key_file_of_the_first_format_reads_and_what_it_sealed_goes_only_with_its_subject() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(folder.path());
    let (name, key) = keys.data_key("test").unwrap();
    super::file::write_first(&keys).unwrap();
    drop(keys);
    assert!(std::fs::read(folder.path().join("keys")).unwrap().starts_with(b"ATHKEYS1"));
    let keys = open(folder.path());
    assert_eq!(keys.data_key("test").unwrap(), (name.clone(), key.clone()));
    let old = draft("semantic", 1, b"").id;
    assert_eq!(keys.destroy_events(&[(name.clone(), old)]).unwrap(), (0, vec![old]));
    assert_eq!(keys.lookup(&name, old).unwrap(), Lookup::Key(key));
    // New events have keys of their own beside it, and the subject's end is the end of both.
    let (tree, _) = keys.event_key("test", old).unwrap();
    assert_eq!(keys.destroy("test").unwrap(), [name.clone(), tree.clone()]);
    for name in [name, tree] {
        assert_eq!(keys.lookup(&name, old).unwrap(), Lookup::Destroyed);
    }
}

#[test]
fn a_backup_does_not_bring_back_an_erased_event_and_what_it_adds_is_settled_anew() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = open(here.path());
    let event = draft("semantic", 1, b"").id;
    let (name, _) = keys.event_key("test", event).unwrap();
    let backup = keys.backup("correct horse").unwrap();
    keys.destroy_events(&[(name.clone(), event)]).unwrap();
    keys.settle(9).unwrap();
    drop(keys);
    assert_eq!(restore(here.path(), &backup, "correct horse", false).unwrap().added, 0);
    let restored = open(here.path());
    assert_eq!((restored.lookup(&name, event).unwrap(), restored.settled()), (Lookup::Destroyed, 9));
    // Elsewhere the key is back; the erasures on record are carried out again from the beginning.
    restore(there.path(), &backup, "correct horse", false).unwrap();
    let elsewhere = open(there.path());
    assert!(matches!(elsewhere.lookup(&name, event).unwrap(), Lookup::Key(_)));
    assert_eq!(elsewhere.settled(), 0);
}

/// Trees are wider than they once were. A subject that began with a narrow one goes on with it: what is recorded again must be
/// sealed to the same bytes.
#[test]
fn a_subject_stays_with_the_tree_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let event = EventId([3; 16]);
    let keys = KeyStore::open(folder.path(), MasterKey::File).unwrap();
    let narrow = Secret::Tree(Tree::new(Shape::NARROW, Zeroizing::new([7; 32])));
    let first = keys.add(&mut keys.write(), "old", TREE, narrow).unwrap();
    let (name, key) = keys.event_key("old", event).unwrap();
    assert_eq!((&name, name.version), (&first, TREE));
    assert_eq!(keys.event_key("new", event).unwrap().0.version, WIDE);
    drop(keys);
    let keys = KeyStore::open(folder.path(), MasterKey::File).unwrap();
    assert_eq!(keys.event_key("old", event).unwrap(), (name.clone(), key.clone()));
    assert_eq!(keys.lookup(&name, event).unwrap(), Lookup::Key(Arc::new(key)));
    let new = keys.event_key("new", event).unwrap().0;
    assert_eq!(keys.destroy_events(&[(name.clone(), event), (new, event)]).unwrap().0, 2);
    assert_eq!(keys.lookup(&name, event).unwrap(), Lookup::Destroyed);
    assert_eq!(keys.destroy("old").unwrap(), [name]);
}
