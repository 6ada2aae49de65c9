//! Values between Python and JSON, and the tools as Python objects.

use athena_schemas::refusal::nearest;
use athena_schemas::wire::Namespace;
use monty_types::{
    MontyClassInstance, MontyClassType, MontyDate, MontyDateTime, MontyObject, MontyTimeZone, MontyUuid,
};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// JSON as Python's `json.loads` would give it.
pub(super) fn from_json(value: &Value) -> MontyObject {
    match value {
        Value::Null => MontyObject::None,
        Value::Bool(it) => MontyObject::Bool(*it),
        Value::Number(it) => {
            it.as_i64().map_or_else(|| MontyObject::Float(it.as_f64().unwrap_or(f64::NAN)), MontyObject::Int)
        }
        Value::String(it) => MontyObject::String(it.clone()),
        Value::Array(items) => MontyObject::List(items.iter().map(from_json).collect()),
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.iter().map(|(key, item)| (MontyObject::String(key.clone()), from_json(item))).collect();
            MontyObject::dict(pairs)
        }
    }
}

/// A Python value as JSON; like `json.dumps`, and with sets as lists and dates in ISO 8601.
pub(super) fn to_json(value: &MontyObject) -> Result<Value, String> {
    let list =
        |items: &[MontyObject]| items.iter().map(to_json).collect::<Result<Vec<_>, _>>().map(Value::Array);
    match value {
        MontyObject::None | MontyObject::Ellipsis => Ok(Value::Null),
        MontyObject::Bool(it) => Ok(Value::Bool(*it)),
        MontyObject::Int(it) => Ok(Value::from(*it)),
        MontyObject::BigInt(it) => Err(format!("the integer {it:.40} is too large for JSON; use str()")),
        MontyObject::Float(it) => {
            Number::from_f64(*it).map(Value::Number).ok_or_else(|| format!("{it} cannot be written as JSON"))
        }
        MontyObject::String(it) | MontyObject::Path(it) => Ok(Value::String(it.clone())),
        MontyObject::List(items)
        | MontyObject::Tuple(items)
        | MontyObject::Set(items)
        | MontyObject::FrozenSet(items) => list(items),
        MontyObject::NamedTuple { field_names, values, .. } => {
            let pairs = field_names.iter().zip(values);
            pairs
                .map(|(name, item)| Ok((name.clone(), to_json(item)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object)
        }
        MontyObject::Dict(pairs) => object(pairs.into_iter()),
        MontyObject::ClassInstance(it) => object((&it.attrs).into_iter()),
        MontyObject::Date(it) => Ok(Value::String(format!("{:04}-{:02}-{:02}", it.year, it.month, it.day))),
        MontyObject::DateTime(it) => Ok(Value::String(iso(it))),
        MontyObject::Bytes(_) => Err("bytes cannot be written as JSON; decode them, or use base64".into()),
        MontyObject::Cycle(..) => Err("a value that contains itself cannot be written as JSON".into()),
        other => Ok(Value::String(other.to_string())),
    }
}

fn object<'a>(pairs: impl Iterator<Item = &'a (MontyObject, MontyObject)>) -> Result<Value, String> {
    let key = |key: &MontyObject| match key {
        MontyObject::String(it) => Ok(it.clone()),
        MontyObject::Bool(it) => Ok(it.to_string()),
        MontyObject::None => Ok("null".to_owned()),
        MontyObject::Int(_) | MontyObject::Float(_) => Ok(key.to_string()),
        other => Err(format!("the key {other} cannot be written as JSON; keys are strings or numbers")),
    };
    pairs
        .map(|(name, item)| Ok((key(name)?, to_json(item)?)))
        .collect::<Result<Map<_, _>, _>>()
        .map(Value::Object)
}

fn iso(it: &MontyDateTime) -> String {
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        it.year, it.month, it.day, it.hour, it.minute, it.second
    );
    if it.microsecond > 0 {
        text.push_str(&format!(".{:06}", it.microsecond));
    }
    if let Some(offset) = it.offset_seconds {
        let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        text.push_str(&format!("{sign}{:02}:{:02}", offset / 3600, offset % 3600 / 60));
    }
    text
}

/// `datetime.now(tz)` on the run's clock.
pub(super) fn now(clock_ms: u64, zone: Option<&MontyTimeZone>) -> MontyObject {
    let offset = zone.map(|zone| zone.offset_seconds);
    let shifted = i64::try_from(clock_ms).unwrap_or(0) + i64::from(offset.unwrap_or(0)) * 1000;
    let (days, of_day) = (shifted.div_euclid(86_400_000), shifted.rem_euclid(86_400_000));
    let date = date(days);
    let part = |unit: i64, count: i64| u8::try_from(of_day / unit % count).unwrap_or(0);
    MontyObject::DateTime(MontyDateTime {
        year: date.year,
        month: date.month,
        day: date.day,
        hour: part(3_600_000, 24),
        minute: part(60_000, 60),
        second: part(1_000, 60),
        microsecond: u32::try_from(of_day % 1_000).unwrap_or(0) * 1_000,
        offset_seconds: offset,
        timezone_name: zone.and_then(|zone| zone.name.clone()),
    })
}

/// `date.today()` on the run's clock, UTC.
pub(super) fn today(clock_ms: u64) -> MontyObject {
    MontyObject::Date(date(i64::try_from(clock_ms / 86_400_000).unwrap_or(0)))
}

/// Days since 1970 as a date: Hinnant's `civil_from_days` (2013).
fn date(days: i64) -> MontyDate {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    MontyDate {
        year: i32::try_from(year).unwrap_or(9999),
        month: u8::try_from(month).unwrap_or(1),
        day: u8::try_from(day).unwrap_or(1),
    }
}

/// The namespaces as objects: a group of tools is an instance the engine asks about by id, a tool is a function by path.
pub(super) struct Tree {
    /// Paths of groups, by id; the id is the index.
    groups: Vec<String>,
    /// Full path of a tool to its operation.
    tools: BTreeMap<String, String>,
}

impl Tree {
    /// Reads a job's namespaces.
    pub(super) fn new(namespaces: &[Namespace]) -> Self {
        let mut tree = Self { groups: vec!["results".to_owned()], tools: BTreeMap::new() };
        for space in namespaces {
            tree.groups.push(space.name.clone());
            for (path, op) in &space.members {
                let full = format!("{}.{path}", space.name);
                for (at, _) in full.match_indices('.') {
                    let group = full.get(..at).unwrap_or_default();
                    if !tree.groups.iter().any(|known| known == group) {
                        tree.groups.push(group.to_owned());
                    }
                }
                tree.tools.insert(full, op.clone());
            }
        }
        tree
    }

    /// Names of the namespaces.
    pub(super) fn roots(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str).filter(|group| !group.contains('.'))
    }

    /// Full paths of the tools.
    pub(super) fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Whether a plain call by this name leads anywhere.
    pub(super) fn knows(&self, name: &str) -> bool {
        super::FUNCTIONS.contains(&name) || name == "results.read" || self.tools.contains_key(name)
    }

    /// The operation of a tool.
    pub(super) fn operation(&self, path: &str) -> Option<String> {
        self.tools.get(path).cloned()
    }

    /// A namespace by its name.
    pub(super) fn global(&self, name: &str) -> Option<MontyObject> {
        if name.contains('.') { None } else { self.group(name) }
    }

    /// What an attribute of a group is.
    pub(super) fn attribute(&self, object: MontyUuid, name: &str) -> Option<MontyObject> {
        let path = self.path(object, name)?;
        let tool = self.tools.contains_key(&path) || path == "results.read";
        if tool { Some(MontyObject::Function { name: path, docstring: None }) } else { self.group(&path) }
    }

    /// The full path of a member that is called, or why there is none.
    pub(super) fn member(&self, object: MontyUuid, name: &str) -> Result<String, String> {
        match self.path(object, name) {
            Some(path) if path == "results.read" || self.tools.contains_key(&path) => Ok(path),
            _ => Err(self.missing(object, name)),
        }
    }

    /// Says what a name that does not exist probably meant.
    pub(super) fn missing(&self, object: MontyUuid, name: &str) -> String {
        let wanted = self.path(object, name).unwrap_or_else(|| name.to_owned());
        if self.groups.contains(&wanted) {
            return format!("{wanted} is a group of tools, not a tool");
        }
        let paths: Vec<String> = self.tools.keys().map(|tool| tool.replace('.', "/")).collect();
        let near = nearest(&wanted.replace('.', "/"), paths.iter().map(String::as_str));
        if near.is_empty() {
            return format!(
                "{wanted} does not exist; searchTools(\"…\") and readdir(\"/mcp-servers\") show what does"
            );
        }
        let near: Vec<String> = near.into_iter().map(|path| path.replace('/', ".")).collect();
        format!("{wanted} does not exist; did you mean {}?", near.join(" or "))
    }

    fn path(&self, object: MontyUuid, name: &str) -> Option<String> {
        let index = usize::try_from(u128::from_be_bytes(*object.as_bytes())).ok()?;
        Some(format!("{}.{name}", self.groups.get(index)?))
    }

    fn group(&self, path: &str) -> Option<MontyObject> {
        let index = self.groups.iter().position(|group| group == path)?;
        let id = MontyUuid::from_u128(index as u128);
        Some(MontyObject::ClassInstance(Box::new(MontyClassInstance {
            class_type: MontyClassType {
                name: path.rsplit('.').next().unwrap_or(path).to_owned(),
                // Ids of classes and instances share nothing but their form.
                id: MontyUuid::from_u128(index as u128 | 1 << 64),
                host_defined: true,
                is_dataclass: false,
                attrs: Vec::new().into(),
            },
            instance_id: id,
            attrs: Vec::new().into(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_survives_the_way_through() {
        for value in [json!(null), json!([1, -2.5, "é", true]), json!({"a": {"b": []}, "__proto__": 1})] {
            assert_eq!(to_json(&from_json(&value)).unwrap(), value);
        }
        assert!(to_json(&MontyObject::Float(f64::NAN)).is_err());
        assert!(to_json(&MontyObject::Bytes(vec![1])).is_err());
    }

    #[test]
    fn the_clock_gives_dates() {
        let at = |ms| to_json(&now(ms, None)).unwrap();
        assert_eq!(at(0), json!("1970-01-01T00:00:00"));
        assert_eq!(at(1_700_000_000_123), json!("2023-11-14T22:13:20.123000"));
        assert_eq!(to_json(&today(951_782_400_000)).unwrap(), json!("2000-02-29"));
    }
}
