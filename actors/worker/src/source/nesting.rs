//! How deep code nests, judged on its text alone, before a parser that recurses over it.
//!
//! Parsers and visitors descend once per level, and a file of 200,000 opening brackets would overflow the stack of any of
//! them. Counting brackets is not enough: `!!!!x`, `a=>a=>a`, `if(a)if(a)…` and `- - -x` nest without any. So runs that can
//! only be prefix operators or statement heads are counted too. The count may exceed the real depth (brackets within strings
//! count, as they do not hurt), never fall below it by more than the handful of levels a single token can open.

/// The deepest nesting that is parsed, levels. Generated JSON rarely exceeds 30, written code 15.
pub const MAX_DEPTH: usize = 400;

/// The first place, in bytes, where code nests deeper than [`MAX_DEPTH`].
pub fn too_deep(text: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut run = 0_usize;
    let mut comment = false;
    let mut fresh = true;
    let mut words = text.char_indices().peekable();
    while let Some((at, c)) = words.next() {
        // Rulers in comments of their own line (`// -----`) are no operators; brackets in them still count.
        if fresh && !c.is_whitespace() {
            fresh = false;
            comment = c == '#' || c == '*' || text.get(at..).is_some_and(|rest| rest.starts_with("//"));
        }
        match c {
            '(' | '[' | '{' => brackets += 1,
            ')' | ']' | '}' => {
                brackets = brackets.saturating_sub(1);
            }
            // A statement or an element ended: whatever was chained by operators is complete.
            ';' | ',' => run = 0,
            '\n' => {
                if brackets == 0 && (comment || !continues(text, at)) {
                    run = 0;
                }
                (fresh, comment) = (true, false);
            }
            _ if comment => {}
            '!' | '~' | '-' | '+' | '=' | '?' | ':' | '<' | '*' | '/' | '%' | '&' | '|' | '^' | '.' | '`' => {
                run += 1
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut end = at + c.len_utf8();
                while let Some((next, _)) = words.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = next + 1;
                }
                if opens(text.get(at..end).unwrap_or_default()) {
                    run += 1;
                }
            }
            _ => {}
        }
        if brackets > MAX_DEPTH || run > MAX_RUN {
            return Some(at);
        }
    }
    None
}

/// The longest chain of operators and statement heads without an end, such as a sum of this many terms.
const MAX_RUN: usize = 8_000;

/// Whether a line break at `at` lies inside a chain: the next line starts, or this one ends, with an operator.
fn continues(text: &str, at: usize) -> bool {
    let operator = |c: char| "!~-+=?:<>*/%&|^.`".contains(c);
    let before = text.get(..at).and_then(|head| head.trim_end().chars().next_back());
    let after = text.get(at..).and_then(|tail| tail.trim_start().chars().next());
    before.is_some_and(operator) || after.is_some_and(operator)
}

/// Words that open a level without a bracket.
fn opens(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "for"
            | "while"
            | "do"
            | "try"
            | "with"
            | "typeof"
            | "void"
            | "delete"
            | "await"
            | "yield"
            | "new"
            | "not"
            | "lambda"
            | "elif"
            | "async"
            | "in"
            | "is"
            | "and"
            | "or"
            | "extends"
            | "keyof"
            | "infer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_found_however_it_is_written() {
        for bomb in
            ["(", "[", "{", "!", "-  ", "if(1)", "a=>", "typeof ", "await ", "x?", "`${", "1+", "not ", "a."]
        {
            let at = too_deep(&bomb.repeat(200_000)).unwrap();
            assert!(at < 200_000, "{bomb} at {at}");
        }
    }

    #[test]
    fn ordinary_code_passes() {
        let long =
            "const row = { a: [1, 2, { b: (x) => !x }], c: -1 };\nfor (const a of b) if (!a) c += 1;\n"
                .repeat(3_000);
        assert_eq!(too_deep(&long), None);
        let json = format!("const data = [{}];", "{\"a\": \"x - y (z)\", \"b\": [1, 2]},".repeat(3_000));
        assert_eq!(too_deep(&json), None);
        let text = "'''It is - in a way - a text. If so, for what? ''' \n".repeat(2_000);
        assert_eq!(too_deep(&text), None);
        assert_eq!(too_deep(&"// ----------------\n# ================\n".repeat(2_000)), None);
        assert_eq!(too_deep(&format!("let s = {};", "'part' +\n".repeat(1_000) + "''")), None);
    }
}
