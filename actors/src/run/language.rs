//! Which language code is in, where nobody says.

use athena_schemas::wire::Language;

/// Guesses by the shapes that occur in one language only; TypeScript, which JavaScript is part of, where in doubt.
pub fn detect(code: &str) -> Language {
    let mut python = 0_i32;
    for line in code.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        let word = text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        python += match word {
            "def" | "elif" | "except" | "lambda" | "pass" | "nonlocal" => 3,
            "from" if text.contains(" import ") && !text.contains(['"', '\'']) => 3,
            "import" if !text.contains(['"', '\'', '{']) => 3,
            "if" | "for" | "while" | "with" | "try" | "else" | "class" | "async" if text.ends_with(':') => 3,
            "print" if text.starts_with("print(") => 2,
            "const" | "let" | "var" | "function" | "interface" | "type" | "export" => -3,
            _ => 0,
        };
        if text.starts_with('#') {
            python += 2;
        }
        if text.starts_with("//") || text.ends_with([';', '{', '}']) || text.contains("=>") {
            python -= 2;
        }
        for token in ["None", "True", "False"] {
            if text.split(|c: char| !c.is_alphanumeric()).any(|word| word == token) {
                python += 1;
            }
        }
    }
    if python > 0 { Language::Python } else { Language::TypeScript }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_told_from_typescript() {
        for code in [
            "x = [1, 2]\nfor n in x:\n    print(n)",
            "import json\njson.dumps({'a': 1})",
            "def f(a):\n    return a + 1\nf(2)",
            "# count\nresult = athena.semantic.search(query='x')\nresult",
            "async def main():\n    pass",
        ] {
            assert_eq!(detect(code), Language::Python, "{code}");
        }
        for code in [
            "1 + 1",
            "return await athena.semantic.search({query: 'x'})",
            "const x: number = 1; x",
            "import { search } from '/mcp-servers/athena/semantic/search.ts'\nreturn await search({query: 'x'})",
            "for (const x of [1, 2]) {\n  console.log(x)\n}",
            "class A {\n  x = 1\n}\nreturn new A().x",
            "// from here\nlet n = 0\nreturn n",
        ] {
            assert_eq!(detect(code), Language::TypeScript, "{code}");
        }
    }
}
