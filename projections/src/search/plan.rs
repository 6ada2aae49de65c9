//! How a query is understood, by rules: is it a list that is asked for, which names are in it, which parts does it have.

use super::text::{self, words};
use crate::temporal::understand;

/// Whether a question asks for all of something ("which books …", "how many times …", "what are Ann's hobbies"): then the answer
/// is spread over many places, and what stands beside one of them says less.
pub fn asks_for_list(query: &str) -> bool {
    let words: Vec<String> = words(query).map(str::to_lowercase).collect();
    let plural = |word: &String| {
        word.len() > 3
            && word.ends_with('s')
            && !word.ends_with("ss")
            && !matches!(word.as_str(), "does" | "this" | "always" | "news" | "perhaps")
    };
    let mut rest =
        words.iter().skip_while(|word| matches!(word.as_str(), "in" | "on" | "to" | "from" | "with" | "at"));
    match rest.next().map(String::as_str) {
        Some("how") => rest.next().is_some_and(|word| word == "many"),
        Some("which") => true,
        Some("list" | "name") => rest.take(4).any(plural),
        Some("what" | "where" | "who") => rest.take(4).any(plural),
        _ => false,
    }
}

/// The names in a query: runs of capitalised words that are no stop words, the first word only where it is followed by another
/// name or stands in the middle of the alphabet of `known` names.
pub fn names(query: &str, known: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut run: Vec<&str> = Vec::new();
    let mut close = |run: &mut Vec<&str>| {
        let name = run.join(" ");
        if !run.is_empty() && !names.contains(&name) {
            names.push(name);
        }
        run.clear();
    };
    for (at, word) in query.split_whitespace().enumerate() {
        let plain = word.trim_matches(|c: char| !c.is_alphanumeric());
        let plain = plain.strip_suffix("'s").or_else(|| plain.strip_suffix("’s")).unwrap_or(plain);
        let lower = plain.to_lowercase();
        let capital = plain.chars().next().is_some_and(char::is_uppercase);
        if capital && !text::is_stop_word(&lower) && (at > 0 || known(&lower)) {
            run.push(plain);
        } else {
            close(&mut run);
            if !plain.is_empty() && known(&lower) {
                run.push(plain);
            }
        }
        if word.ends_with([',', ';', '?', '.']) || word.contains('\'') || word.contains('’') {
            close(&mut run);
        }
    }
    close(&mut run);
    names
}

/// The time a query says, from the first (inclusive) to the second (exclusive), milliseconds since 1970. A lone "may" or "march" is
/// rather a verb.
pub fn time_in(query: &str, now_ms: i64) -> Option<(i64, i64)> {
    let understood = understand(query, now_ms);
    let said = query.split_whitespace().count() - understood.rest.split_whitespace().count();
    let verb = |word: &str| {
        let plain = word.trim_matches(|c: char| !c.is_alphanumeric());
        plain.eq_ignore_ascii_case("may") || plain.eq_ignore_ascii_case("march")
    };
    let alone = said == 1 && query.split_whitespace().any(verb);
    understood.range.filter(|_| !alone)
}

/// The parts of a query that ask for two things at once; the query alone where it is one.
///
/// "When did Ann move and why did she leave?" has two questions; "bread and butter" is one thing.
pub fn parts(query: &str) -> Vec<String> {
    const ASKS: &[&str] =
        &["what", "when", "where", "who", "why", "how", "which", "did", "does", "do", "is", "was", "are"];
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    let words: Vec<&str> = query.split_whitespace().collect();
    for (at, word) in words.iter().enumerate() {
        let joins = matches!(word.to_lowercase().as_str(), "and" | "then" | "also");
        let asks = words.get(at + 1).is_some_and(|next| ASKS.contains(&next.to_lowercase().as_str()));
        if joins && asks && parts.last().is_some_and(|part| part.len() > 1) {
            parts.push(Vec::new());
            continue;
        }
        if let Some(part) = parts.last_mut() {
            part.push(word);
        }
        if word.ends_with(['?', ';']) && at + 1 < words.len() {
            parts.push(Vec::new());
        }
    }
    let parts: Vec<String> =
        parts.into_iter().filter(|part| !part.is_empty()).map(|part| part.join(" ")).collect();
    if parts.is_empty() { vec![query.trim().to_owned()] } else { parts }
}

/// How much a text says by itself, from its form alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Form {
    /// The part of its sentences that ask, in 1/255.
    pub asks: u8,
    /// Whether it speaks in the first person.
    pub first_person: bool,
}

impl Form {
    /// Reads the form of a text; who says it, before a colon, does not count.
    pub fn of(text: &str) -> Self {
        let said =
            super::document::speaker(text).map_or(text, |name| text.get(name.len() + 2..).unwrap_or(text));
        let (mut sentences, mut asks) = (0_u32, 0_u32);
        for sentence in said.split_inclusive(['.', '!', '?']).map(str::trim) {
            if sentence.chars().any(char::is_alphanumeric) {
                sentences += 1;
                asks += u32::from(sentence.ends_with('?'));
            }
        }
        let first_person = words(said).any(|word| {
            matches!(word, "I" | "i" | "My" | "my" | "We" | "we" | "Our" | "our" | "Me" | "me" | "Us" | "us")
        });
        Self { asks: (255 * asks / sentences.max(1)) as u8, first_person }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_from_single_answers() {
        for list in [
            "What activities does Ann enjoy?",
            "How many times did he go?",
            "Which towns?",
            "In what ways did it help?",
        ] {
            assert!(asks_for_list(list), "{list}");
        }
        for one in ["When did Ann move?", "What does this mean?", "How much was it?", "Where is the kettle?"]
        {
            assert!(!asks_for_list(one), "{one}");
        }
    }

    #[test]
    fn names_are_capitalised_or_known() {
        let none = |_: &str| false;
        assert_eq!(names("What did Mary Ann say to Bob?", none), ["Mary Ann", "Bob"]);
        assert_eq!(names("Kettles and bread", none), Vec::<String>::new());
        assert_eq!(names("ann's garden", |name| name == "ann"), ["ann"]);
    }

    #[test]
    fn a_time_is_read_and_a_verb_is_none() {
        let now = 1_700_000_000_000;
        assert!(time_in("What did Ann say in May?", now).is_some());
        assert!(time_in("What happened on 25 May 2023?", now).is_some());
        assert!(time_in("What did Ann do yesterday?", now).is_some());
        assert_eq!(time_in("What may Ann do?", now), None);
        assert_eq!(time_in("Where is the kettle?", now), None);
    }

    #[test]
    fn two_questions_are_two_parts() {
        assert_eq!(
            parts("When did Ann move and why did she leave?"),
            ["When did Ann move", "why did she leave?"]
        );
        assert_eq!(parts("bread and butter"), ["bread and butter"]);
        assert_eq!(parts("Who is it? Where is it?"), ["Who is it?", "Where is it?"]);
        assert_eq!(parts(""), [""]);
    }

    #[test]
    fn a_form_is_read_behind_the_speaker() {
        assert_eq!(Form::of("Ann: My kettle broke."), Form { asks: 0, first_person: true });
        assert_eq!(Form::of("Ann: Really? Nice."), Form { asks: 127, first_person: false });
        assert_eq!(Form::of(""), Form::default());
    }
}
