//! Tables in memory and on disk alike.

use super::table::{Bounds, after};
use super::*;
use crate::testing::{Fed, id, tells};
use athena_schemas::event::Event;
use athena_schemas::layers::meta;
use athena_schemas::ports::{Projection, ProjectionError, Recorded};
use fjall::AbstractTree;
use std::ops::Bound;

fn both(test: impl Fn(&Store)) {
    test(&Store::memory());
    let folder = tempfile::tempdir().unwrap();
    test(&Store::open(folder.path()).unwrap());
}

/// The engine may let go of its lock a little after it was dropped.
fn reopened(folder: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Store::open(folder) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// What a process that was killed has left.
fn copied(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        let to = copy.path().join(path.strip_prefix(folder).unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(to).unwrap();
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
    copy
}

fn keys(table: &Table, prefix: &[u8], bounds: Bounds, order: Order) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    table
        .scan(prefix, bounds, order, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    keys
}

#[test]
fn a_batch_sees_its_own_changes_and_nobody_else_does_before_its_commit() {
    both(|store| {
        let table = store.table("t").unwrap();
        let mut batch = store.batch();
        batch.put(&table, *b"a1", *b"x");
        batch.commit().unwrap();
        let mut batch = store.batch();
        batch.remove(&table, *b"a1");
        batch.put(&table, *b"a2", *b"y");
        batch.put(&table, *b"b", *b"z");
        assert_eq!(batch.get(&table, b"a1").unwrap(), None);
        assert_eq!(batch.rows(&table, b"a").unwrap(), [(b"a2".to_vec(), b"y".to_vec())]);
        assert_eq!(table.get(b"a1").unwrap(), Some(b"x".to_vec()));
        batch.commit().unwrap();
        assert_eq!((table.get(b"a1").unwrap(), table.count(b"").unwrap()), (None, 2));
    });
}

#[test]
fn what_was_removed_or_discarded_is_in_no_file_after_a_scrub() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (table, other) = (store.table("t").unwrap(), store.table("u").unwrap());
    let tells = |word: &str| tells(folder.path(), word);
    let mut batch = store.batch();
    batch.put(&table, *b"a", *b"gone-with-mangoes");
    batch.put(&table, *b"b", *b"still-here-walrus");
    batch.put(&other, *b"a", *b"swept-out-pylon");
    batch.commit().unwrap();
    store.scrub().unwrap();
    assert!(["gone-with-mangoes", "still-here-walrus", "swept-out-pylon"].into_iter().all(tells));
    let mut batch = store.batch();
    batch.remove(&table, *b"a");
    batch.commit().unwrap();
    store.discard(&other).unwrap();
    drop(other);
    store.scrub().unwrap();
    assert_eq!(
        ["gone-with-mangoes", "still-here-walrus", "swept-out-pylon"].map(tells),
        [false, true, false]
    );
    assert_eq!(table.count(b"").unwrap(), 1);
}

#[test]
fn a_scan_stays_within_its_table_prefix_and_bounds() {
    both(|store| {
        let (table, other) = (store.table("t").unwrap(), store.table("u").unwrap());
        let mut batch = store.batch();
        for key in [&b"a"[..], b"b\x00", b"b\x01", b"b\xff", b"c"] {
            batch.put(&table, key, *b"");
            batch.put(&other, key, *b"");
        }
        batch.commit().unwrap();
        let open = || (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(keys(&table, b"b", open(), Order::Descending), [b"b\xff", b"b\x01", b"b\x00"]);
        let bounds = (Bound::Excluded(b"b\x00".to_vec()), Bound::Excluded(b"b\xff".to_vec()));
        assert_eq!(keys(&table, b"b", bounds, Order::Ascending), [b"b\x01"]);
        assert_eq!(keys(&table, b"", open(), Order::Ascending).len(), 5);
        assert_eq!(after(b"\xff\xff"), None);
    });
}

/// Notes every position, in two tables.
#[derive(Clone)]
struct Positions<const VERSION: u32> {
    plain: Table,
    doubled: Table,
}

impl<const VERSION: u32> Fold for Positions<VERSION> {
    const NAME: &'static str = "noted";
    const VERSION: u32 = VERSION;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { plain: store.table("plain")?, doubled: store.table("doubled")? })
    }

    fn fold(&self, batch: &mut Batch, _: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let seq = recorded.record.seq;
        batch.put_row(&self.plain, seq.to_be_bytes(), &seq)?;
        batch.put_row(&self.doubled, seq.to_be_bytes(), &(2 * seq))
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.plain.clone(), self.doubled.clone()]
    }
}

impl<const VERSION: u32> Positions<VERSION> {
    fn counts(&self) -> [u64; 2] {
        [&self.plain, &self.doubled].map(|table| table.count(b"").unwrap())
    }
}

fn three() -> Vec<Recorded> {
    let mut fed = Fed::new();
    for n in 1..=3 {
        let rated = meta::Rated { id: id("ep", n), useful: true, note: None };
        fed.feed(n, meta::Event::from(rated));
    }
    fed.log
}

fn tables_on_disk(store: &Store) -> Vec<String> {
    let Backend::Disk(database, _) = &store.backend else { return Vec::new() };
    let mut names: Vec<String> = database
        .list_keyspace_names()
        .iter()
        .map(ToString::to_string)
        .filter(|name| name != BALLAST)
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_built_beside_is_seen_by_nobody_until_it_is_adopted_and_by_everybody_then() {
    both(|store| {
        let log = three();
        let mut live = Rows::<Positions<1>>::open(store).unwrap();
        let reader = live.reader();
        live.apply(&log).unwrap();
        for round in 1..=3_u64 {
            let mut built = live.beside().unwrap();
            built.apply(&log[..1]).unwrap();
            assert_eq!((reader.counts(), live.position(), built.position()), ([3, 3], 3, 1));
            built.apply(&log[1..2]).unwrap();
            live.adopt(built).unwrap();
            assert_eq!((reader.counts(), live.position()), ([2, 2], 2));
            live.apply(&log[2..]).unwrap();
            assert_eq!((reader.counts(), live.position()), ([3, 3], 3));
            if matches!(store.backend, Backend::Disk(..)) {
                let current = [format!("doubled@{round}"), format!("plain@{round}"), "positions".into()];
                assert_eq!(tables_on_disk(store), current);
            }
        }
    });
}

#[test]
fn a_start_takes_up_what_was_adopted_and_removes_what_was_not() {
    let (folder, log) = (tempfile::tempdir().unwrap(), three());
    let killed = {
        let store = Store::open(folder.path()).unwrap();
        let mut live = Rows::<Positions<1>>::open(&store).unwrap();
        live.apply(&log[..1]).unwrap();
        let mut built = live.beside().unwrap();
        built.apply(&log[..2]).unwrap();
        live.adopt(built).unwrap();
        let mut cut_off = live.beside().unwrap();
        cut_off.apply(&log).unwrap();
        assert_eq!(tables_on_disk(&store).len(), 5);
        copied(folder.path())
    };
    let store = Store::open(killed.path()).unwrap();
    let mut live = Rows::<Positions<1>>::open(&store).unwrap();
    store.sweep().unwrap();
    assert_eq!((live.reader().counts(), live.position()), ([2, 2], 2));
    assert_eq!(tables_on_disk(&store), ["doubled@1", "plain@1", "positions"]);
    live.apply(&log).unwrap();
    assert_eq!(live.reader().counts(), [3, 3]);
}

#[test]
fn rows_of_other_code_are_left_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = three();
    {
        let store = Store::open(folder.path()).unwrap();
        Rows::<Positions<1>>::open(&store).unwrap().apply(&log).unwrap();
    }
    let store = reopened(folder.path());
    let mut newer = Rows::<Positions<2>>::open(&store).unwrap();
    store.sweep().unwrap();
    assert_eq!((newer.reader().counts(), newer.position()), ([0, 0], 0));
    assert_eq!(tables_on_disk(&store), ["doubled@1", "plain@1", "positions"]);
    newer.apply(&log).unwrap();
    drop((newer, store));
    let newer = Rows::<Positions<2>>::open(&reopened(folder.path())).unwrap();
    assert_eq!((newer.reader().counts(), newer.position()), ([3, 3], 3));
}

#[test]
fn a_store_from_before_there_were_generations_is_taken_up() {
    both(|store| {
        let log = three();
        Rows::<Positions<1>>::open(store).unwrap().apply(&log).unwrap();
        let mut batch = store.batch();
        batch.put_row(&store.table("positions").unwrap(), *b"noted", &(1_u32, 3_u64)).unwrap();
        batch.commit().unwrap();
        let live = Rows::<Positions<1>>::open(store).unwrap();
        assert_eq!((live.reader().counts(), live.position()), ([3, 3], 3));
    });
}

#[test]
fn one_read_model_does_not_go_over_to_another() {
    let store = Store::memory();
    let mut live = Rows::<Positions<1>>::open(&store).unwrap();
    let other = crate::repository::Versions::open(None).unwrap().beside().unwrap();
    assert!(matches!(live.adopt(other), Err(ProjectionError::Stranger("repository"))));
}

/// Bytes of rows in memory, those among them that only readers of older snapshots could still want.
fn held(store: &Store) -> u64 {
    let Backend::Disk(database, _) = &store.backend else { return 0 };
    let held = |keyspace: &Keyspace| keyspace.tree.get_version_history_lock().memtable_size_sum();
    keyspaces(database).unwrap().iter().map(held).sum()
}

#[test]
fn in_a_pause_the_memory_of_rows_that_are_written_out_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tables = ["one", "two"].map(|name| store.table(name).unwrap());
    let mut batch = store.batch();
    for n in 0..1_000_u32 {
        tables.iter().for_each(|table| batch.put(table, n.to_be_bytes().to_vec(), vec![7; 100]));
    }
    batch.commit().unwrap();
    assert!(held(&store) > 200_000);
    store.write_out().unwrap();
    store.let_go().unwrap();
    assert!(held(&store) < 1_000, "{} bytes", held(&store));
    assert_eq!(keys(&tables[1], b"", (Bound::Unbounded, Bound::Unbounded), Order::Ascending).len(), 1_000);
}
