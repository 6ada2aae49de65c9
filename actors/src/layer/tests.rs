//! The generic actor over a log in memory.

use super::*;
use crate::log::{Location, Options};
use athena_schemas::catalog;
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::semantic::{self, Stored};
use athena_schemas::ports::Opened;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Mutex;

/// Leaves payloads as they are.
struct Clear;

impl Sealer for Clear {
    fn seal(&self, draft: Draft) -> Result<Draft, Refusal> {
        Ok(draft)
    }

    fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
        Ok(Opened::Plain(draft.payload.clone()))
    }
}

/// Counts what it is told; panics when told to.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Count(Vec<String>);

impl Decider for Count {
    const LAYER: &'static str = "semantic";
    const SNAPSHOT: u32 = 1;
    type Command = &'static str;
    type Event = semantic::Event;

    fn decide(
        &self,
        cx: &Context,
        command: &'static str,
    ) -> Result<Decision<semantic::Event, Value>, Refusal> {
        match command {
            "panic" => panic!("told to"),
            "no" => Err(Refusal::conflict("told to refuse")),
            word => {
                let stored = stored(cx.mint("fa"), word);
                Ok(Decision::one(stored, json!({"n": self.0.len() + 1, "seq": 0})))
            }
        }
    }

    fn evolve(&mut self, _: &Meta, event: &semantic::Event) {
        if let semantic::Event::Stored(stored) = event {
            self.0.push(stored.content.clone());
        }
    }
}

/// A stored fact by way of its golden file, so that this test does not care for its other fields.
fn stored(id: Id, content: &str) -> Stored {
    let golden = include_str!("../../../schemas/golden/semantic.stored.v1.json");
    let mut event: Stored =
        serde_json::from_value(serde_json::from_str::<Value>(golden).unwrap()["event"].clone()).unwrap();
    (event.id, event.content) = (id, content.to_owned());
    event
}

fn args(log: &LogHandle) -> LayerArgs<Count> {
    LayerArgs { log: log.clone(), sealer: Arc::new(Clear), slot: Slot::new("semantic"), snapshots: None }
}

fn keyed(key: &str) -> Context {
    let mut cx = Context::example();
    (cx.command, cx.keyed) = (CommandId::from_key("test", key), true);
    cx
}

async fn start(log: &LogHandle) -> (LayerHandle<Count>, ActorRef<LayerMessage<Count>>) {
    let args = args(log);
    let handle = LayerHandle(args.slot.clone());
    let (actor, _) = Actor::spawn(None, Layer::<Count>::default(), args).await.unwrap();
    (handle, actor)
}

fn memory() -> LogHandle {
    LogHandle::open(Location::Memory, Options::default()).unwrap().0
}

#[tokio::test]
async fn an_answer_carries_the_position_of_what_was_recorded() {
    let (layer, _) = start(&memory()).await;
    let first = layer.decide(keyed("a"), "tea", None).await.unwrap();
    assert_eq!(first, Answer { value: json!({"n": 1, "seq": 1}), seq: Some(1) });
    let second = layer.decide(keyed("b"), "milk", None).await.unwrap();
    assert_eq!(second.value, json!({"n": 2, "seq": 2}));
}

#[tokio::test]
async fn a_panic_refuses_one_command_and_its_neighbours_live() {
    let (layer, _) = start(&memory()).await;
    let (first, poison, last) = tokio::join!(
        layer.decide(keyed("a"), "tea", None),
        layer.decide(keyed("b"), "panic", None),
        layer.decide(keyed("c"), "milk", None),
    );
    assert_eq!(poison.unwrap_err().code, Code::Internal);
    assert_eq!((first.unwrap().seq, last.unwrap().seq), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_retry_is_answered_as_the_first_try_also_after_a_restart() {
    let log = memory();
    let (layer, actor) = start(&log).await;
    let first = layer.decide(keyed("a"), "tea", None).await.unwrap();
    layer.decide(keyed("b"), "milk", None).await.unwrap();
    assert_eq!(layer.decide(keyed("a"), "tea", None).await.unwrap(), first);
    actor.stop_and_wait(None, None).await.unwrap();
    let (again, _) = start(&log).await;
    assert_eq!(again.decide(keyed("a"), "tea", None).await.unwrap(), first);
    assert_eq!(log.reader().head(), 2);
}

#[tokio::test]
async fn a_replay_gives_the_same_state() {
    let log = memory();
    let (layer, actor) = start(&log).await;
    for (key, word) in [("a", "tea"), ("b", "no"), ("c", "milk"), ("d", "panic")] {
        let _ = layer.decide(keyed(key), word, None).await;
    }
    let before = layer.inspect().await.unwrap();
    actor.stop_and_wait(None, None).await.unwrap();
    let (again, _) = start(&log).await;
    assert_eq!(again.inspect().await.unwrap(), before);
}

/// Snapshots in memory; counts those that were given.
#[derive(Default)]
struct Kept(Mutex<HashMap<String, (u64, Vec<u8>)>>, std::sync::atomic::AtomicUsize);

impl Snapshots for Kept {
    fn load(&self, name: &str, _: u32) -> Option<(u64, Vec<u8>)> {
        let found = self.0.lock().unwrap().get(name).cloned();
        self.1.fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
        found
    }

    fn save(&self, name: &str, _: u32, version: u64, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(name.into(), (version, bytes));
    }

    fn discard(&self, name: &str, _: u64) -> std::io::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

#[tokio::test]
async fn a_start_takes_up_a_snapshot_and_an_erasure_leaves_none() {
    let (log, kept) = (memory(), Arc::new(Kept::default()));
    let start = async || {
        let args = LayerArgs { snapshots: Some(kept.clone()), ..args(&log) };
        let handle = LayerHandle(args.slot.clone());
        (handle, Actor::spawn(None, Layer::<Count>::default(), args).await.unwrap().0)
    };
    let (layer, actor) = start().await;
    for n in 0..SNAPSHOT_ON_CLOSE {
        layer.decide(keyed(&n.to_string()), "tea", None).await.unwrap();
    }
    let state = layer.inspect().await.unwrap();
    actor.stop_and_wait(None, None).await.unwrap();
    assert_eq!(kept.0.lock().unwrap()["semantic"].0, SNAPSHOT_ON_CLOSE);
    // What happened behind the snapshot is read from the log.
    let (layer, actor) = start().await;
    layer.decide(keyed("one more"), "milk", None).await.unwrap();
    actor.stop_and_wait(None, None).await.unwrap();
    let (layer, _) = start().await;
    assert_eq!(kept.1.load(Ordering::SeqCst), 2, "taken up twice");
    let after = layer.inspect().await.unwrap();
    assert!(after.len() > state.len());
    layer.renew(true).await.unwrap();
    assert!(kept.0.lock().unwrap().is_empty());
    assert_eq!(layer.inspect().await.unwrap(), after);
    assert_eq!(kept.1.load(Ordering::SeqCst), 2, "and not taken up again");
}

#[test]
fn every_zero_seq_is_placed() {
    let answer = placed(json!([{"id": "a", "seq": 0}, {"deep": {"seq": 0}, "seq": 4}]), 9);
    assert_eq!(answer, json!([{"id": "a", "seq": 9}, {"deep": {"seq": 9}, "seq": 4}]));
}

#[test]
fn the_catalogue_knows_the_layer() {
    assert!(catalog::is_layer(Count::LAYER));
}
