//! What a fact claims, read off its wording: a subject, a relation and a value. Two facts that give one subject different
//! values of a relation that has only one at a time seem to contradict each other. Rules, no model: precise before complete.

/// A claim, in lower case and without articles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is about.
    pub subject: String,
    /// Which of its properties.
    pub relation: String,
    /// What the property is said to be.
    pub value: String,
    /// Whether it is said not to be that.
    pub negated: bool,
}

impl Claim {
    /// Whether two claims about the same subject and relation cannot both be true.
    pub fn contradicts(&self, other: &Self) -> bool {
        let same_value = self.value == other.value;
        match (self.negated, other.negated) {
            (false, false) => !same_value,
            (true, true) => false,
            _ => same_value,
        }
    }
}

/// Relations that have one value at a time, as they are worded; longer wordings first.
const SINGLE: &[(&str, &str)] = &[
    ("is located in", "is in"),
    ("is located at", "is in"),
    ("are located in", "is in"),
    ("is married to", "is married to"),
    ("is scheduled for", "is scheduled for"),
    ("is called", "is called"),
    ("is named", "is called"),
    ("is owned by", "is owned by"),
    ("is due on", "is due"),
    ("is due", "is due"),
    ("is set to", "is"),
    ("was born in", "was born in"),
    ("was born on", "was born on"),
    ("works at", "works for"),
    ("works for", "works for"),
    ("works in", "works in"),
    ("lives in", "lives in"),
    ("lives at", "lives in"),
    ("moved to", "lives in"),
    ("belongs to", "belongs to"),
    ("runs on", "runs on"),
    ("listens on", "listens on"),
    ("reports to", "reports to"),
    ("defaults to", "is"),
    ("costs", "costs"),
    ("weighs", "weighs"),
    ("equals", "is"),
    ("is on", "is in"),
    ("is in", "is in"),
    ("is at", "is in"),
    ("are in", "is in"),
    ("are on", "is in"),
    ("are at", "is in"),
    ("is", "is"),
    ("are", "is"),
];

/// Most words of a subject or a value: longer ones are prose, not claims.
const WORDS: usize = 8;

/// Reads a sentence as a claim; `None` where it is none, or one of which several may be true.
pub fn claim(sentence: &str) -> Option<Claim> {
    let sentence = sentence.trim().trim_end_matches(['.', '!']);
    if sentence.len() > 200 || sentence.contains(['?', ';', '\n']) {
        return None;
    }
    let words: Vec<String> = sentence
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| ",:\"'()".contains(c)).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let (at, length, relation) = (1..words.len()).find_map(|at| {
        SINGLE.iter().find_map(|(wording, relation)| {
            let length = wording.split(' ').count();
            let here = words.get(at..at + length)?;
            wording.split(' ').eq(here.iter().map(String::as_str)).then_some((at, length, *relation))
        })
    })?;
    let (subject, rest) = (words.get(..at)?, words.get(at + length..)?);
    let negated = rest.first().is_some_and(|word| word == "not" || word == "no");
    let mut value: Vec<&str> = rest.iter().skip(usize::from(negated)).map(String::as_str).collect();
    value.retain(|word| !matches!(*word, "now" | "currently" | "still"));
    let (subject, value) = (plain(subject.iter().map(String::as_str)), plain(value.into_iter()));
    // "Ana is a painter" and "Ana is a mother" are both true: a class is no single value.
    let class = relation == "is" && rest.iter().take(2).any(|word| word == "a" || word == "an");
    let short = |text: &str| !text.is_empty() && text.split(' ').count() <= WORDS;
    (short(&subject) && short(&value) && !class).then(|| Claim {
        subject,
        relation: relation.to_owned(),
        value,
        negated,
    })
}

fn plain<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let kept: Vec<&str> = words.filter(|word| !matches!(*word, "the" | "a" | "an")).collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contradict(a: &str, b: &str) -> bool {
        match (claim(a), claim(b)) {
            (Some(a), Some(b)) => (a.subject == b.subject) && (a.relation == b.relation) && a.contradicts(&b),
            _ => false,
        }
    }

    #[test]
    fn one_subject_cannot_have_two_values_of_one_property() {
        assert!(contradict("The kettle is in the cupboard.", "the kettle is on the stove"));
        assert!(contradict("Ana lives in Lisbon", "Ana moved to Porto"));
        assert!(contradict("the port is 8080", "The port is now 9090"));
        assert!(contradict("the door is locked", "the door is not locked"));
        assert!(contradict("the build server runs on Debian 12", "the build server runs on Fedora"));
    }

    #[test]
    fn what_can_both_be_true_is_no_conflict() {
        assert!(!contradict("The kettle is in the cupboard.", "the kettle is in the cupboard"));
        assert!(!contradict("Ana is a painter", "Ana is a mother"));
        assert!(!contradict("Ana likes tea", "Ana likes coffee"));
        assert!(!contradict("the port is 8080", "the host is 9090"));
        assert!(!contradict("the door is not locked", "the door is not open"));
        assert!(!contradict("is it red?", "is it blue?"));
    }
}
