//! Sessions: a JSON state that lasts between runs, bound to the caller that named it.
//!
//! Runs of one session take turns, so no update is lost. A run that waited for a person gives its turn up meanwhile; when it
//! ends, what it changed is merged, member by member, into what the others have made of the state since.

use super::record::Recorder;
use super::tape::Archive;
use athena_schemas::context::{Caller, Scope};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::run::{Event, SessionExpired, SessionRef, StateSaved};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// How long a run waits for its turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sessions whose state is kept in memory; the others are read from the log again.
const LOADED_MAX: usize = 4_096;
/// The name of a session, bytes.
const NAME_MAX: usize = 200;
/// Records read at once.
const PAGE: usize = 256;

/// The state of a session nobody has written to.
const EMPTY: &str = "{}";

/// A session's state as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// How many runs have changed it.
    pub(crate) version: u64,
    /// JSON.
    pub(crate) json: String,
    /// When it was last changed, milliseconds since 1970; 0 where it never was.
    at_ms: u64,
}

impl State {
    fn empty(version: u64) -> Self {
        Self { version, json: EMPTY.into(), at_ms: 0 }
    }
}

/// All sessions in use.
#[derive(Default)]
pub(crate) struct Sessions {
    loaded: Mutex<HashMap<String, Arc<Turn<Option<State>>>>>,
}

/// A session in the hands of one run.
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) owner: String,
    state: OwnedMutexGuard<Option<State>>,
}

/// The stream of a session.
pub(crate) fn stream(key: &str) -> String {
    format!("run/{key}")
}

/// The key of a session: its caller and project are part of it, so that two callers' sessions never meet.
fn key(owner: &str, scope: &Scope, name: &str) -> String {
    format!("ses_{}", CommandId::from_key(&format!("session/{owner}/{}", scope.vault()), name))
}

impl Sessions {
    /// Waits for a turn in the session of this name.
    ///
    /// # Errors
    /// When the name is not one, or the turn does not come.
    pub(crate) async fn hold(
        &self,
        archive: Archive<'_>,
        caller: &Caller,
        scope: &Scope,
        name: &str,
    ) -> Result<Held, Refusal> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Refusal::invalid(format!("a session's name has 1 to {NAME_MAX} bytes")).at("session"));
        }
        let owner = caller.principal();
        let key = key(&owner, scope, name);
        let state = self.turn(archive, scope, &key).await?;
        Ok(Held { key, name: name.to_owned(), owner, state })
    }

    /// Forgets the states that no run holds: something in them was erased.
    pub(crate) fn forget(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Waits for a turn in the session of this key.
    pub(crate) async fn turn(
        &self,
        archive: Archive<'_>,
        scope: &Scope,
        key: &str,
    ) -> Result<OwnedMutexGuard<Option<State>>, Refusal> {
        let turn = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if loaded.len() >= LOADED_MAX {
                // Whoever holds or waits for a turn has a handle on it.
                loaded.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            loaded.entry(key.to_owned()).or_default().clone()
        };
        let mut state = tokio::time::timeout(PATIENCE, turn.lock_owned()).await.map_err(|_| {
            Refusal::new(Code::LimitExceeded, "other runs of this session take too long")
                .hint("retry, or use another session")
        })?;
        if state.is_none() {
            *state = Some(load(archive, scope, key)?);
        }
        Ok(state)
    }
}

/// The state as the log has it.
fn load(archive: Archive<'_>, scope: &Scope, key: &str) -> Result<State, Refusal> {
    let stream = stream(key);
    let mut state = State::empty(0);
    let mut last = None;
    let mut after = 0;
    loop {
        let page = archive.reader.read_stream(&stream, after, PAGE)?;
        for record in &page {
            after = record.version;
            match archive.event(record)? {
                Some(Event::StateSaved(saved)) => {
                    state.version = saved.version;
                    state.at_ms = record.draft.meta.at_ms;
                    last = Some(saved.state);
                }
                Some(Event::SessionExpired(_)) => {
                    state = State::empty(state.version + 1);
                    last = None;
                }
                _ => {}
            }
        }
        if page.len() < PAGE {
            break;
        }
    }
    if let Some(text) = last {
        state.json = archive.text(scope, &text)?;
    }
    Ok(state)
}

impl Held {
    /// The state as it stands.
    pub(crate) fn state(&self) -> State {
        self.state.clone().unwrap_or(State::empty(0))
    }

    /// Forgets a state that nobody has changed for `idle_ms`, on record beside the run that finds it so; 0 is never.
    pub(crate) fn expire_idle(&mut self, recorder: &mut Recorder, idle_ms: u64) -> Result<(), Refusal> {
        let State { version, at_ms, .. } = self.state();
        let idle = idle_ms > 0 && at_ms > 0 && recorder.now_ms().saturating_sub(at_ms) > idle_ms;
        if idle {
            recorder.push_beside(&stream(&self.key), SessionExpired { key: self.key.clone() })?;
            *self.state = Some(State::empty(version + 1));
        }
        Ok(())
    }

    /// How a run's record names it.
    pub(crate) fn reference(&self) -> SessionRef {
        SessionRef { key: self.key.clone(), name: self.name.clone(), version: self.state().version }
    }

    /// Makes the state at the end of a run the session's, beside what waits in `recorder`. What others changed since the run
    /// saw it (`base`, at version `seen`) stays, unless the run changed the same member.
    pub(crate) fn save(
        &mut self,
        recorder: &mut Recorder,
        run: &Id,
        base: &str,
        seen: u64,
        mine: &str,
    ) -> Result<(), Refusal> {
        let current = self.state();
        let json = if current.version == seen { mine.to_owned() } else { merged(base, mine, &current.json) };
        let saved = StateSaved {
            key: self.key.clone(),
            name: self.name.clone(),
            owner: self.owner.clone(),
            version: current.version + 1,
            run: run.clone(),
            state: recorder.text(&json)?,
        };
        recorder.push_beside(&stream(&self.key), saved)?;
        *self.state = Some(State { version: current.version + 1, json, at_ms: recorder.now_ms() });
        Ok(())
    }

    /// Forgets what is in memory, after an append whose outcome is not known.
    pub(crate) fn forget(&mut self) {
        *self.state = None;
    }
}

/// Three states merged: what I changed since `base`, on top of `theirs`.
fn merged(base: &str, mine: &str, theirs: &str) -> String {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    merge(Some(&parse(base)), Some(&parse(mine)), Some(&parse(theirs))).unwrap_or_default().to_string()
}

fn merge(base: Option<&Value>, mine: Option<&Value>, theirs: Option<&Value>) -> Option<Value> {
    match (base, mine, theirs) {
        (base, mine, theirs) if mine == base => theirs.cloned(),
        (base, mine, theirs) if theirs == base => mine.cloned(),
        (base, Some(Value::Object(mine)), Some(Value::Object(theirs))) => {
            let empty = Map::new();
            let base = base.and_then(Value::as_object).unwrap_or(&empty);
            let keys = theirs.keys().chain(mine.keys().filter(|key| !theirs.contains_key(*key)));
            let members = keys.filter_map(|key| {
                merge(base.get(key), mine.get(key), theirs.get(key)).map(|value| (key.clone(), value))
            });
            Some(Value::Object(members.collect()))
        }
        // Both changed the same thing: the later end wins, as it would have in turn.
        (_, mine, _) => mine.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_each_side_changed_survives() {
        let merged = merged(
            r#"{"a": 1, "b": 2, "deep": {"x": 1, "y": 1}, "gone": 1}"#,
            r#"{"a": 10, "b": 2, "deep": {"x": 5, "y": 1}, "mine": true}"#,
            r#"{"a": 1, "b": 20, "deep": {"x": 1, "y": 7}, "gone": 1, "theirs": true}"#,
        );
        let expected = serde_json::json!(
            {"a": 10, "b": 20, "deep": {"x": 5, "y": 7}, "theirs": true, "mine": true}
        );
        assert_eq!(serde_json::from_str::<Value>(&merged).unwrap(), expected);
    }

    fn state() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn a_side_that_changed_nothing_does_not_matter(base in state(), other in state()) {
            let (base, other) = (base.to_string(), other.to_string());
            prop_assert_eq!(&merged(&base, &other, &base), &other);
            prop_assert_eq!(&merged(&base, &base, &other), &other);
            prop_assert_eq!(&merged(&base, &other, &other), &other);
        }
    }
}
