use super::*;
use crate::log::testing::draft;
use athena_schemas::context::Scope;
use athena_schemas::ports::{Opened, Sealer};
use std::os::unix::fs::PermissionsExt;

fn open(folder: &Path) -> KeyStore {
    KeyStore::open(folder, MasterKey::File).unwrap()
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
    let wrong = KeyStore::restore(there.path(), MasterKey::File, &backup, "wrong horse");
    assert_eq!(wrong.unwrap_err().code, Code::Denied);
    assert_eq!(KeyStore::restore(there.path(), MasterKey::File, &backup, "correct horse").unwrap(), 2);
    let restored = open(there.path());
    assert_eq!(restored.lookup_data(&bob).unwrap(), Lookup::Key(key));
    assert_eq!(restored.derive("token", "p"), derived);
    assert_eq!(KeyStore::restore(here.path(), MasterKey::File, &backup, "correct horse").unwrap(), 0);
    assert_eq!(open(here.path()).lookup_data(&alice).unwrap(), Lookup::Destroyed);
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
    assert!(std::fs::metadata(folder.path().join("keys")).unwrap().len() < small as u64 + 2 * 3_000);
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
    assert_eq!(KeyStore::restore(here.path(), MasterKey::File, &backup, "correct horse").unwrap(), 0);
    let restored = open(here.path());
    assert_eq!((restored.lookup(&name, event).unwrap(), restored.settled()), (Lookup::Destroyed, 9));
    // Elsewhere the key is back; the erasures on record are carried out again from the beginning.
    KeyStore::restore(there.path(), MasterKey::File, &backup, "correct horse").unwrap();
    let elsewhere = open(there.path());
    assert!(matches!(elsewhere.lookup(&name, event).unwrap(), Lookup::Key(_)));
    assert_eq!(elsewhere.settled(), 0);
}
