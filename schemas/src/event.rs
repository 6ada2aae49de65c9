//! All events there are, over all layers.

use crate::envelope::{DecodeError, Family, Kind, KindInfo};
use serde::Serialize;

macro_rules! all_events {
    ($($family:literal $layer:ident $Layer:ident),* $(,)?) => {
        /// Any event. Folds of one layer match on that layer's own enum; projections match on this one.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        #[allow(missing_docs, reason = "one variant a layer")]
        pub enum Event { $($Layer(crate::layers::$layer::Event)),* }

        $(impl From<crate::layers::$layer::Event> for Event {
            fn from(event: crate::layers::$layer::Event) -> Self {
                Self::$Layer(event)
            }
        })*

        impl crate::undo::Undoable for Event {
            fn undo(&self) -> crate::undo::Undo {
                match self { $(Self::$Layer(event) => event.undo()),* }
            }
        }

        impl Event {
            /// Every kind there is.
            pub fn kinds() -> impl Iterator<Item = &'static KindInfo> {
                [$(<crate::layers::$layer::Event as Family>::KINDS),*].into_iter().flatten()
            }
        }

        impl Family for Event {
            // Over all families the rows are an iterator, `Event::kinds`.
            const KINDS: &'static [KindInfo] = &[];

            fn decode(kind: Kind, schema: u8, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
                match kind.family() {
                    $($family => Ok(<crate::layers::$layer::Event as Family>::decode(kind, schema, payload)?.map(Self::$Layer)),)*
                    _ if kind.is_ignorable() => Ok(None),
                    _ => Err(DecodeError::UnknownKind(kind.0)),
                }
            }

            fn encode(&self) -> Result<(Kind, u8, Vec<u8>), DecodeError> {
                match self { $(Self::$Layer(event) => event.encode()),* }
            }

            fn name(&self) -> &'static str {
                match self { $(Self::$Layer(event) => event.name()),* }
            }
        }

        /// The family number of a layer.
        #[cfg(test)]
        fn families() -> Vec<(&'static str, u8, &'static [KindInfo])> {
            vec![$((crate::layers::$layer::LAYER, $family, <crate::layers::$layer::Event as Family>::KINDS)),*]
        }
    };
}

all_events! {
    0x01 episodic Episodic,
    0x02 semantic Semantic,
    0x03 procedural Procedural,
    0x04 prospective Prospective,
    0x05 graph Graph,
    0x06 meta Meta,
    0x07 consolidation Consolidation,
    0x08 rag Rag,
    0x09 store Store,
    0x10 run Run,
    0x11 approval Approval,
    0x12 privacy Privacy,
    0x13 upstream Upstream,
}

/// Whether this build can read an event, or may pass it over. What it can do neither with was written by a newer build.
pub fn is_readable(kind: Kind, schema: u8) -> bool {
    kind.is_ignorable() || Event::kinds().any(|info| info.kind == kind && schema <= info.schema)
}

/// The name of a kind, or its number where this build does not know it.
pub fn kind_name(kind: Kind) -> String {
    Event::kinds()
        .find(|info| info.kind == kind)
        .map_or_else(|| format!("{:#06x}", kind.0), |info| info.name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::PathBuf;

    #[test]
    fn kinds_are_numbered_once_and_in_their_family() {
        let mut seen = HashSet::new();
        for (layer, family, kinds) in families() {
            for info in kinds {
                assert!(seen.insert(info.kind), "{:?} is numbered twice", info.kind);
                assert_eq!(info.kind.family(), family, "{}", info.name);
                assert!(info.name.starts_with(&format!("{layer}.")), "{}", info.name);
            }
        }
    }

    fn golden(info: &KindInfo, version: u8) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("golden")
            .join(format!("{}.v{version}.json", info.name))
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// Every version ever written is frozen in `golden/<name>.v<version>.json`: `bytes` (hex) as written then, `event` as read
    /// today. A new file may be begun with `event` alone; `ATHENA_GOLDEN=write` then adds today's bytes, once.
    #[test]
    fn every_version_ever_written_still_reads_and_today_s_still_writes_its_bytes() {
        for info in Event::kinds() {
            for version in 1..=info.schema {
                let path = golden(info, version);
                let text = std::fs::read_to_string(&path).unwrap_or_else(|_| {
                    panic!("{} v{version} has no golden file {}", info.name, path.display())
                });
                let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
                let today = (info.from_json)(file["event"].clone()).unwrap_or_else(|e| {
                    panic!("{} v{version}: the golden event is not of today's shape: {e}", info.name)
                });
                if file.get("bytes").is_none()
                    && version == info.schema
                    && std::env::var_os("ATHENA_GOLDEN").is_some()
                {
                    file["bytes"] = today.iter().map(|b| format!("{b:02x}")).collect::<String>().into();
                    std::fs::write(&path, serde_json::to_string_pretty(&file).unwrap() + "\n").unwrap();
                }
                let frozen =
                    unhex(file["bytes"].as_str().unwrap_or_else(|| panic!("{}: no bytes", path.display())));
                let read = (info.to_json)(version, &frozen)
                    .unwrap_or_else(|e| panic!("{} v{version}: {e}", info.name));
                assert_eq!(read, file["event"], "{} v{version} reads differently today", info.name);
                if version == info.schema {
                    assert_eq!(today, frozen, "{} changed its shape without a new version", info.name);
                }
            }
        }
    }

    #[test]
    fn unknown_kinds_are_refused_unless_ignorable() {
        assert!(Event::decode(Kind(0x7f01), 1, &[]).is_err());
        assert_eq!(Event::decode(Kind(0xff01), 1, &[]).unwrap(), None);
        assert_eq!(Event::decode(Kind(0x82ff), 1, &[]).unwrap(), None);
        assert!(Event::decode(Kind(0x02ff), 1, &[]).is_err());
    }
}
