//! Names and free text on their way into source code.

/// Words that cannot name a function in TypeScript or Python.
const RESERVED: &[&str] = &[
    "abstract",
    "and",
    "any",
    "arguments",
    "as",
    "assert",
    "async",
    "await",
    "boolean",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "def",
    "default",
    "del",
    "delete",
    "do",
    "elif",
    "else",
    "enum",
    "eval",
    "except",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "from",
    "function",
    "global",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "is",
    "lambda",
    "let",
    "new",
    "nonlocal",
    "not",
    "null",
    "number",
    "or",
    "package",
    "pass",
    "private",
    "protected",
    "public",
    "raise",
    "return",
    "static",
    "string",
    "super",
    "switch",
    "symbol",
    "this",
    "throw",
    "true",
    "try",
    "type",
    "typeof",
    "undefined",
    "var",
    "void",
    "while",
    "with",
    "yield",
    "None",
    "True",
    "False",
    "constructor",
    "prototype",
    "__proto__",
];

/// Verbs that announce a loss.
const DESTRUCTIVE: &[&str] = &[
    "delete",
    "remove",
    "drop",
    "destroy",
    "purge",
    "erase",
    "wipe",
    "truncate",
    "revoke",
    "terminate",
    "kill",
    "uninstall",
];

/// An identifier in both languages: other characters become `_`, a leading digit or a reserved word gets one more.
pub fn identifier(name: &str) -> String {
    let mut id = member(name);
    if RESERVED.contains(&id.as_str()) {
        id.push('_');
    }
    id
}

/// As [`identifier`], but reserved words stay: they may follow a dot.
pub fn member(name: &str) -> String {
    let mut id: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if id.is_empty() || id.starts_with(|c: char| c.is_ascii_digit()) || id == "__proto__" {
        id.insert(0, '_');
    }
    id
}

/// `read_text_file` and `API-post-search` as `ReadTextFile` and `APIPostSearch`.
pub fn type_name(name: &str) -> String {
    let mut out = String::new();
    for word in name.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'T');
    }
    out
}

/// Whether a property may be written without quotes.
pub fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name != "__proto__"
}

/// Whether one of the words of a name announces a loss. `camelCase` and `snake_case` are both taken apart.
pub fn destructive(name: &str) -> bool {
    words(name).iter().any(|word| DESTRUCTIVE.contains(&word.as_str()))
}

/// The words of a name, in lower case.
pub fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower) {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        lower = c.is_lowercase() || c.is_numeric();
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Text without characters that a reader does not see or that reorder what he sees ("Trojan Source", CVE-2021-42574). Line
/// breaks and tabs stay.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !invisible(*c)).collect()
}

/// Whether a character is unseen: controls, zero-width, bidirectional marks, tags, variation selectors.
pub fn invisible(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Text as the lines of a block comment in C's family: nothing in it ends the comment.
pub fn comment_lines(text: &str) -> Vec<String> {
    plain(text).replace("*/", "*\\/").lines().map(|line| line.trim_end().to_string()).collect()
}

/// Text for a Python docstring: nothing in it ends the string or escapes.
pub fn docstring(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_an_identifier() {
        assert_eq!(identifier("API-post-search"), "API_post_search");
        assert_eq!(identifier("delete"), "delete_");
        assert_eq!(member("delete"), "delete");
        assert_eq!(identifier("2fa"), "_2fa");
        assert_eq!(identifier(""), "_");
        assert_eq!(type_name("read_text-file"), "ReadTextFile");
        assert_eq!(type_name("9"), "T9");
    }

    #[test]
    fn destructive_words_are_found_in_any_case() {
        assert!(destructive("repoDelete") && destructive("delete_repo") && destructive("drop-table"));
        assert!(!destructive("deleted_items_count") && !destructive("undelete"));
        assert_eq!(words("getHTTPUser2Name"), ["get", "httpuser2", "name"]);
    }

    #[test]
    fn what_is_not_seen_is_not_kept() {
        assert_eq!(plain("a\u{202e}b\u{200b}c\u{e0041}\u{7}\n\td"), "abc\n\td");
    }

    proptest::proptest! {
        #[test]
        fn a_comment_never_ends_early(text in "(\\*|/|\\\\|\n|\u{200b}|\u{202e}|`|\\$|\\{|[a-z ]){0,60}") {
            for line in comment_lines(&text) {
                proptest::prop_assert!(!line.contains("*/"), "{line:?}");
            }
        }

        #[test]
        fn a_docstring_never_ends_early(text in "(\"|'|\\\\|\n|[a-z ]){0,60}") {
            let doc = docstring(&text);
            let mut escaped = false;
            for c in doc.chars() {
                proptest::prop_assert!(escaped || c != '"');
                escaped = c == '\\' && !escaped;
            }
            proptest::prop_assert!(!escaped);
        }
    }
}
