//! Five documents, made up and the same everywhere: Markdown with prose, lists, tables and code, of the sizes that real design
//! documents have.

use std::fmt::Write;
use std::path::Path;

/// Bytes of each document, and out of a hundred paragraphs how many are code.
const PLAN: [(usize, u64); 5] = [(46_523, 20), (44_000, 45), (9_937, 30), (20_899, 20), (41_553, 70)];

const NOUNS: &[&str] = &[
    "event", "log", "layer", "sandbox", "worker", "token", "vault", "policy", "lease", "index", "query",
    "result", "agent", "server", "schema", "request", "quota", "approval", "skill", "version", "scope",
    "replay", "snapshot", "graph", "entity", "fact", "task", "goal", "trigger", "pattern", "report",
    "client", "stream", "cursor", "batch", "record", "limit", "queue", "router", "channel", "ledger",
    "cache", "page", "digest",
];
const VERBS: &[&str] = &[
    "stores", "reads", "writes", "checks", "returns", "rebuilds", "compares", "rejects", "accepts",
    "retries", "records", "limits", "wraps", "loads", "sends", "merges", "links", "filters", "ranks",
    "signs", "verifies", "appends",
];
const WORDS: &[&str] = &[
    "small", "durable", "typed", "bounded", "local", "remote", "recent", "stale", "shared", "private",
    "pending", "current", "empty", "ordered", "partial", "idle", "strict", "lazy", "plain",
];

/// Numbers that look random and are the same in every run: `SplitMix64` (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len() as u64) as usize]
    }

    fn clause(&mut self) -> String {
        format!("the {} {} {} the {}", self.of(WORDS), self.of(NOUNS), self.of(VERBS), self.of(NOUNS))
    }
}

/// Writes the documents into a folder; answers their names.
pub(super) fn write(folder: &Path) -> std::io::Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let mut names = Vec::new();
    for (seed, (bytes, code)) in (11..).zip(PLAN) {
        let name = format!("document-{}.txt", names.len());
        std::fs::write(folder.join(&name), text(bytes, code, Dice(seed)))?;
        names.push(name);
    }
    Ok(names)
}

fn text(bytes: usize, code: u64, mut dice: Dice) -> String {
    let mut out = format!("# The {} {} and its sandbox\n\n", dice.of(WORDS), dice.of(NOUNS));
    while out.len() < bytes {
        if dice.roll(100) < code { block(&mut out, &mut dice) } else { prose(&mut out, &mut dice) }
    }
    out.truncate(bytes - 1);
    out + "\n"
}

fn prose(out: &mut String, dice: &mut Dice) {
    let _ = match dice.roll(5) {
        0 => {
            write!(out, "## {}.{} The {} {}\n\n", dice.roll(9), dice.roll(9), dice.of(NOUNS), dice.of(NOUNS))
        }
        1 => write!(out, "The sandbox: {}, so that {}.\n\n", dice.clause(), dice.clause()),
        2 => write!(
            out,
            "- **{}**: {}\n- **{}**: {}\n\n",
            dice.of(NOUNS),
            dice.clause(),
            dice.of(NOUNS),
            dice.clause()
        ),
        3 => write!(
            out,
            "| Name | Value | Notes |\n|---|---|---|\n| {} | {} | {} |\n\n",
            dice.of(NOUNS),
            dice.roll(10_000),
            dice.clause()
        ),
        _ => write!(
            out,
            "When {}, {} within {} ms. Then {}.\n\n",
            dice.clause(),
            dice.clause(),
            dice.roll(900),
            dice.clause()
        ),
    };
}

fn block(out: &mut String, dice: &mut Dice) {
    out.push_str("```typescript\n");
    for _ in 0..4 + dice.roll(10) {
        let (a, b) = (dice.of(NOUNS), dice.of(NOUNS));
        let _ = match dice.roll(4) {
            0 => writeln!(
                out,
                "  const {a} = await {b}.{}({{ {a}: \"{b}\", limit: {} }});",
                dice.of(VERBS),
                dice.roll(99)
            ),
            1 => writeln!(out, "  if (!{a}) {{ throw new Error(\"{} {b}\"); }}", dice.of(WORDS)),
            2 => writeln!(out, "    return {a}.filter((x) => x.{b} > {});", dice.roll(50)),
            _ => writeln!(out, "  // {}", dice.clause()),
        };
    }
    out.push_str("```\n\n");
}
