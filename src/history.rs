//! The store at earlier positions: its layers folded from the log, its read models rebuilt, and what lies between two of them.

use athena_actors::dispatch::Layers;
use athena_projections::library::{Library, Options};
use athena_projections::past;
use athena_schemas::envelope::Seq;
use athena_schemas::event::{Event, kind_name};
use athena_schemas::id::Id;
use athena_schemas::layers::common::Layer;
use athena_schemas::ports::{LogReader, Projection, ProjectionError, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Records read at once.
const PAGE: usize = 1_024;

/// Hears how far a rebuild has come: done and total. Answers whether to go on.
pub(crate) type Told<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// A part of the store as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) part: &'static str,
    /// `layer` or `read model`.
    pub(crate) kind: &'static str,
    /// Digest of what it held, hexadecimal.
    pub(crate) digest: String,
}

/// Every layer and read model as it stood at a position.
///
/// # Errors
/// When the log cannot be read, or `told` answers no.
pub(crate) fn standing(
    log: &dyn LogReader,
    sealer: &dyn Sealer,
    at: Seq,
    told: Told<'_>,
) -> Result<Vec<Standing>, Refusal> {
    let mut parts = layers(log, sealer, at)?;
    let models = Models::new()?;
    models.drive(log, sealer, at, &mut |done| told(done, at))?;
    parts.extend(models.standing()?);
    Ok(parts)
}

/// What lies between two positions.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    from: Seq,
    to: Seq,
    /// Events in between, by type.
    events: BTreeMap<String, u64>,
    /// Items that stand otherwise, by layer and id.
    items: Vec<Changed>,
    /// Layers whose state is another one.
    layers: Vec<&'static str>,
    /// Read models whose content is another one.
    models: Vec<&'static str>,
}

/// An item that stands otherwise.
#[derive(Debug, Serialize)]
struct Changed {
    layer: &'static str,
    id: Id,
    /// `added`, `removed` or `changed`.
    change: &'static str,
    /// What it says, where the event that made it can still be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    /// Fields before and after.
    fields: BTreeMap<String, [Value; 2]>,
}

/// What changed in layers and read models between two positions.
///
/// # Errors
/// When the log cannot be read, or `told` answers no.
pub(crate) fn difference(
    log: &dyn LogReader,
    sealer: &dyn Sealer,
    from: Seq,
    to: Seq,
    told: Told<'_>,
) -> Result<Difference, Refusal> {
    if from > to {
        return Err(Refusal::invalid(format!("{from} lies behind {to}")).hint(format!("{to}..{from}")));
    }
    let mut events = BTreeMap::new();
    let mut after = from;
    while after < to {
        let page = log.read(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for record in page.iter().filter(|record| record.seq <= to) {
            *events.entry(kind_name(record.draft.kind)).or_default() += 1;
        }
    }
    let mut items = Vec::new();
    for layer in Layer::ALL {
        items.extend(changed(log, sealer, layer, from, to)?);
    }
    let (old, new) = (layers(log, sealer, from)?, layers(log, sealer, to)?);
    let models = Models::new()?;
    models.drive(log, sealer, from, &mut |done| told(done, to))?;
    let before = models.standing()?;
    models.drive(log, sealer, to, &mut |done| told(done, to))?;
    let other = |old: &[Standing], new: &[Standing]| -> Vec<&'static str> {
        old.iter().zip(new).filter(|(old, new)| old != new).map(|(_, new)| new.part).collect()
    };
    Ok(Difference {
        from,
        to,
        events,
        items,
        layers: other(&old, &new),
        models: other(&before, &models.standing()?),
    })
}

fn layers(log: &dyn LogReader, sealer: &dyn Sealer, at: Seq) -> Result<Vec<Standing>, Refusal> {
    let folded = Layers::folded(log, sealer, at)?;
    let standing = |(part, state): (&'static str, Vec<u8>)| Standing {
        part,
        kind: "layer",
        digest: blake3::hash(&state).to_hex().to_string(),
    };
    Ok(folded.into_iter().map(standing).collect())
}

/// Read models in memory, rebuilt as far as is asked.
struct Models {
    library: Library,
}

impl Models {
    fn new() -> Result<Self, Refusal> {
        Ok(Self { library: Library::open(Options::default()).map_err(failed)? })
    }

    fn drive(
        &self,
        log: &dyn LogReader,
        sealer: &dyn Sealer,
        to: Seq,
        told: &mut dyn FnMut(Seq) -> bool,
    ) -> Result<(), Refusal> {
        self.library.drive(log, sealer, to, told)
    }

    fn standing(&self) -> Result<Vec<Standing>, Refusal> {
        let digest = |mut model: Box<dyn Projection>| {
            model.flush().map_err(failed)?;
            let digest = blake3::Hash::from_bytes(model.digest().map_err(failed)?).to_hex().to_string();
            Ok(Standing { part: model.name(), kind: "read model", digest })
        };
        self.library.projections().into_iter().map(digest).collect()
    }
}

fn failed(error: ProjectionError) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}

/// The items of a layer that stand otherwise.
fn changed(
    log: &dyn LogReader,
    sealer: &dyn Sealer,
    layer: Layer,
    from: Seq,
    to: Seq,
) -> Result<Vec<Changed>, Refusal> {
    if layer == Layer::Procedural {
        // Procedures are versions, not items that are put back: their events say what happened.
        return Ok(Vec::new());
    }
    let (mut said, mut touched, mut version) = (HashMap::new(), Vec::new(), 0);
    'all: loop {
        let page = log.read_stream(layer.as_str(), version, PAGE)?;
        let Some(last) = page.last() else { break };
        version = last.version;
        for record in &page {
            if record.seq > to {
                break 'all;
            }
            let Some(event) = record.event::<Event>(sealer)? else { continue };
            for id in past::touched(&event) {
                // The first event that touches an item is the one that made it.
                said.entry(id.clone()).or_insert_with(|| words(&event));
                if record.seq > from && !touched.contains(&id) {
                    touched.push(id);
                }
            }
        }
    }
    let images = |at: Seq| -> Result<HashMap<Id, Value>, Refusal> {
        let wanted: Vec<(Id, Seq)> = touched.iter().map(|id| (id.clone(), at + 1)).collect();
        let Value::Array(images) = past::before(log, sealer, layer, &wanted)? else {
            return Ok(HashMap::new());
        };
        let image = |mut image: Value| {
            let id = Id::from_text(image.get("id")?.as_str()?);
            Some((id, image.get_mut("to")?.take()))
        };
        Ok(images.into_iter().filter_map(image).collect())
    };
    let (before, after) = (images(from)?, images(to)?);
    let change = |id: Id| {
        let (old, new) = (before.get(&id).unwrap_or(&Value::Null), after.get(&id).unwrap_or(&Value::Null));
        let change = match (old.is_null(), new.is_null()) {
            (true, true) => return None,
            (true, false) => "added",
            (false, true) => "removed",
            (false, false) if old == new => return None,
            (false, false) => "changed",
        };
        let fields = if change == "changed" { fields(old, new) } else { BTreeMap::new() };
        let said = said.get(&id).cloned().flatten();
        Some(Changed { layer: layer.as_str(), id, change, said, fields })
    };
    Ok(touched.iter().cloned().filter_map(change).collect())
}

/// What an event says, in the words of whoever it was recorded for.
fn words(event: &Event) -> Option<String> {
    let value = serde_json::to_value(event).ok()?;
    find(&value, &["content", "title", "name", "relation", "note"]).map(str::to_owned)
}

/// The first text under one of these names, however deep.
fn find<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    let fields = value.as_object()?;
    names
        .iter()
        .find_map(|name| fields.get(*name)?.as_str())
        .or_else(|| fields.values().find_map(|field| find(field, names)))
}

/// The fields that differ, by their paths.
fn fields(old: &Value, new: &Value) -> BTreeMap<String, [Value; 2]> {
    let mut all = BTreeMap::new();
    compare("", old, new, &mut all);
    all
}

fn compare(path: &str, old: &Value, new: &Value, into: &mut BTreeMap<String, [Value; 2]>) {
    let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let (old, new) =
                    (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
                compare(&under(name), old, new, into);
            }
        }
        (old, new) if old == new => {}
        (old, new) => {
            into.insert(path.to_owned(), [old.clone(), new.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told_by_its_path() {
        let old = json!({"scope": {"project": "p"}, "thing": {"task": {"title": "tea", "due": null}}, "tags": ["a"]});
        let new = json!({"scope": {"project": "p"}, "thing": {"task": {"title": "coffee", "due": null}, "outcome": 1}, "tags": ["a"]});
        let told = fields(&old, &new);
        let expected = [
            ("thing.outcome", [json!(null), json!(1)]),
            ("thing.task.title", [json!("tea"), json!("coffee")]),
        ];
        assert_eq!(told, expected.map(|(path, pair)| (path.to_owned(), pair)).into());
        assert!(fields(&old, &old).is_empty());
    }

    #[test]
    fn words_are_found_however_deep() {
        assert_eq!(find(&json!({"Stored": {"fact": {"content": "red"}}}), &["content"]), Some("red"));
        assert_eq!(find(&json!({"Stored": [1]}), &["content"]), None);
    }
}
