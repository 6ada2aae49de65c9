//! The checks that parameters of several layers share. Each names the field at fault.

use athena_schemas::context::{Context, Party};
use athena_schemas::layers::common::{Object, Origin, Prov, Source};
use athena_schemas::refusal::{Code, Refusal};

/// Most bytes of one text.
pub const TEXT_BYTES: usize = 64 << 10;
/// Most bytes of one item's other data, as JSON.
pub const META_BYTES: usize = 16 << 10;
/// Most tags of one item.
pub const TAGS: usize = 32;
/// Most bytes of one tag, name or kind.
pub const WORD_BYTES: usize = 200;
/// Most items one command changes.
pub const ITEMS: usize = 100_000;

fn too_long(field: &str, is: usize, most: usize) -> Refusal {
    Refusal::new(Code::LimitExceeded, format!("{field} has {is} bytes; at most {most} are taken")).at(field)
}

/// A text that says something and is not too long.
///
/// # Errors
/// When it is blank, or longer than [`TEXT_BYTES`].
pub fn text(field: &str, text: String) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::invalid(format!("{field} is empty")).at(field));
    }
    if text.len() > TEXT_BYTES {
        return Err(too_long(field, text.len(), TEXT_BYTES).hint("split it, or keep a summary"));
    }
    Ok(text)
}

/// A text that may be missing; blank is missing.
///
/// # Errors
/// When it is longer than [`TEXT_BYTES`].
pub fn maybe_text(field: &str, given: Option<String>) -> Result<Option<String>, Refusal> {
    given.filter(|given| !given.trim().is_empty()).map(|given| text(field, given)).transpose()
}

/// A short name.
///
/// # Errors
/// When it is blank, or longer than [`WORD_BYTES`].
pub fn word(field: &str, word: String) -> Result<String, Refusal> {
    let trimmed = word.trim();
    if trimmed.is_empty() {
        return Err(Refusal::invalid(format!("{field} is empty")).at(field));
    }
    if trimmed.len() > WORD_BYTES {
        return Err(too_long(field, trimmed.len(), WORD_BYTES));
    }
    Ok(if trimmed.len() == word.len() { word } else { trimmed.to_owned() })
}

/// Tags: trimmed, each once, in the order given.
///
/// # Errors
/// When one is blank or too long, or there are more than [`TAGS`].
pub fn tags(field: &str, tags: Vec<String>) -> Result<Vec<String>, Refusal> {
    if tags.len() > TAGS {
        return Err(Refusal::new(
            Code::LimitExceeded,
            format!("{} tags; at most {TAGS} are taken", tags.len()),
        )
        .at(field));
    }
    let mut kept: Vec<String> = Vec::with_capacity(tags.len());
    for (i, tag) in tags.into_iter().enumerate() {
        let tag = word(&format!("{field}[{i}]"), tag)?;
        if !kept.contains(&tag) {
            kept.push(tag);
        }
    }
    Ok(kept)
}

/// Other data as its JSON text; empty where there is none.
///
/// # Errors
/// When it is longer than [`META_BYTES`].
pub fn meta(field: &str, meta: &Object) -> Result<String, Refusal> {
    if meta.is_empty() {
        return Ok(String::new());
    }
    let text = serde_json::to_string(meta).map_err(|error| Refusal::invalid(error.to_string()).at(field))?;
    if text.len() > META_BYTES {
        return Err(too_long(field, text.len(), META_BYTES));
    }
    Ok(text)
}

/// A number from 0 to 1.
///
/// # Errors
/// When it is not.
pub fn fraction(field: &str, value: f64) -> Result<f64, Refusal> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Refusal::invalid(format!("{field} is {value}, not from 0 to 1")).at(field))
    }
}

/// A number from 0 to 1 in thousandths.
///
/// # Errors
/// When it is not from 0 to 1.
pub fn per_mille(field: &str, value: f64) -> Result<u16, Refusal> {
    fraction(field, value).map(|value| (value * 1e3).round() as u16)
}

/// How many items a command names: some, and not too many.
///
/// # Errors
/// When there are none, or more than `most`.
pub fn count(field: &str, is: usize, most: usize) -> Result<(), Refusal> {
    match is {
        0 => Err(Refusal::invalid(format!("{field} is empty")).at(field)),
        n if n > most => {
            Err(Refusal::new(Code::LimitExceeded, format!("{n} {field}; at most {most} are taken at once"))
                .at(field))
        }
        _ => Ok(()),
    }
}

/// Puts the refusal of an element's field under the element: `content` becomes `events[3].content`.
pub fn under(prefix: &str, refusal: Refusal) -> Refusal {
    let path = refusal.path.as_deref().map_or_else(|| prefix.to_owned(), |path| format!("{prefix}.{path}"));
    refusal.at(path)
}

/// Where content comes from: as said, else by who says it. The author in the event's meta is what the runtime saw.
pub fn origin(cx: &Context, said: Option<Prov>) -> Origin {
    let mut origin = said.map_or_else(
        || Origin {
            source: match cx.caller.party {
                Party::Human | Party::Host => Source::User,
                Party::Agent | Party::Code => Source::Agent,
                Party::System => Source::Consolidation,
            },
            ..Origin::default()
        },
        Origin::from,
    );
    origin.actor.get_or_insert_with(|| cx.caller.name.clone());
    origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_trimmed_and_kept_once() {
        let given = [" a", "b", "a "].map(String::from).to_vec();
        assert_eq!(tags("tags", given).unwrap(), ["a", "b"]);
        assert_eq!(tags("tags", vec!["".into()]).unwrap_err().path.as_deref(), Some("tags[0]"));
        assert_eq!(tags("tags", vec!["x".into(); 33]).unwrap_err().code, Code::LimitExceeded);
    }

    #[test]
    fn a_text_says_something_and_has_a_limit() {
        assert!(text("content", " \n".into()).is_err());
        assert!(text("content", "x".repeat(TEXT_BYTES)).is_ok());
        assert_eq!(text("content", "x".repeat(TEXT_BYTES + 1)).unwrap_err().code, Code::LimitExceeded);
    }

    #[test]
    fn the_field_at_fault_is_named_within_its_element() {
        let refusal = under("events[3]", text("content", String::new()).unwrap_err());
        assert_eq!(refusal.path.as_deref(), Some("events[3].content"));
    }

    #[test]
    fn not_a_number_is_no_fraction() {
        assert!(fraction("x", f64::NAN).is_err());
        assert_eq!(per_mille("x", 0.5).unwrap(), 500);
    }
}
