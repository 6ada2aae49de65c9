//! Walks a tree once, keeps track of what names stand for, and notes what is dangerous.
//!
//! Names are followed through assignments and destructuring, texts are folded, and a path that begins at a global or a module is
//! held against the tables of [`rules`](super::rules). Names that are free and no known global are inputs of the run. One scope
//! holds all names: code this short rarely shadows, and where it does the more dangerous reading stands.

mod calls;
mod effects;
mod flow;
mod names;
mod said;
mod values;

use super::texts;
use super::tree::{Comment, Kind, Node, Pattern, Tree};
use super::value::{Seen, Value};
use athena_schemas::risk::Risk::{self, High, Low, Medium};
use athena_schemas::wire::Language;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Something noted; its place is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) rule: &'static str,
    pub(super) level: Risk,
    pub(super) message: String,
    pub(super) at: u32,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) notes: Vec<Note>,
    pub(super) capabilities: BTreeSet<String>,
}

/// Judges a tree. `depth` is how many texts of code it lies in.
pub(super) fn judge(language: Language, tree: &Tree, depth: u32) -> Findings {
    let mut judge = Judge {
        language,
        depth,
        names: HashMap::new(),
        declared: declared(&tree.body),
        loops: Vec::new(),
        awaited: false,
        steps: 0,
        beyond: None,
        findings: Findings::default(),
    };
    judge.run(&tree.body);
    for comment in &tree.comments {
        judge.comment(comment);
    }
    if let Some(at) = judge.beyond {
        judge.note(High, "too-large", at, "the code is too large to be judged as a whole");
    }
    judge.findings
}

struct Judge {
    language: Language,
    depth: u32,
    names: HashMap<String, Seen>,
    declared: HashSet<String>,
    /// How many loops (or callbacks of `map` and the like) we are in, and whether the innermost goes over everything there is.
    loops: Vec<bool>,
    awaited: bool,
    steps: u32,
    /// Where the steps ran out.
    beyond: Option<u32>,
    findings: Findings,
}

/// Nodes looked at, at most; what lies beyond is not judged, and that is noted.
const STEPS: u32 = 200_000;

impl Judge {
    fn note(&mut self, level: Risk, rule: &'static str, at: u32, message: impl Into<String>) {
        let note = Note { rule, level, message: message.into(), at };
        if level == Low {
            return;
        }
        let notes = &mut self.findings.notes;
        let room = notes.len() < 64;
        if let Some(known) = notes.iter_mut().find(|n| n.rule == rule && n.at == at) {
            if known.level < level {
                *known = note;
            }
        } else if room {
            notes.push(note);
        } else if let Some(least) = notes.iter_mut().min_by_key(|n| n.level)
            && least.level < level
        {
            // The list is full: the worst still counts.
            *least = note;
        }
    }

    fn is_python(&self) -> bool {
        self.language == Language::Python
    }

    fn run(&mut self, body: &[Node]) {
        for node in body {
            self.value(node);
        }
    }

    fn comment(&mut self, comment: &Comment) {
        if texts::switches_off(&comment.text) {
            self.note(Medium, "security-bypass-comment", comment.at, "a comment tries to switch judging off");
        }
        if texts::instructs(&comment.text) {
            self.note(
                High,
                "hidden-instruction",
                comment.at,
                "a comment speaks to a model or hides something",
            );
        }
    }

    /// The value of a node that is used as such: a dangerous path is noted.
    fn value(&mut self, node: &Node) -> Seen {
        let seen = self.look(node);
        match &seen.value {
            Value::Path(path) => self.used(path, node.at),
            Value::Global if !self.is_python() => {
                self.note(High, "global-object", node.at, "the global object is passed on")
            }
            _ => {}
        }
        seen
    }

    /// The value of a node; a path is not noted yet, it may be the beginning of a longer one.
    fn look(&mut self, node: &Node) -> Seen {
        self.steps += 1;
        if self.steps > STEPS {
            self.beyond.get_or_insert(node.at);
            return Seen::unknown();
        }
        let at = node.at;
        match &node.kind {
            Kind::Text(text) => {
                self.text(text, at);
                Value::Text(text.clone()).into()
            }
            Kind::Number(n) => Value::Number(*n).into(),
            Kind::Regex(pattern) => {
                if texts::explodes(pattern) {
                    self.note(High, "regular-expression", at, "this regular expression can take for ever");
                }
                Value::Constant.into()
            }
            Kind::Constant => Value::Constant.into(),
            Kind::Name(name) => self.name(name, at),
            Kind::Member(object, key) => self.member(object, key, at),
            Kind::Call(call) => self.call(call, at),
            Kind::Load(source) => self.load(source, at),
            Kind::Import { module, names } => {
                self.import(module, names, at);
                Seen::unknown()
            }
            Kind::List(items) => {
                let seen: Vec<Seen> = items.iter().map(|item| self.value(item)).collect();
                let list = Value::List(seen.iter().map(|s| s.value.clone()).collect());
                seen.iter().fold(Seen::from(list), Seen::with)
            }
            Kind::Dict(fields) => self.dict(fields),
            Kind::Join(parts) => self.join(parts, at),
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, at),
            Kind::Assign(pattern, right) => {
                let seen = self.look(right);
                self.settle(right, &seen);
                self.bind(pattern, &seen, right.at);
                seen
            }
            Kind::Function(function) => self.function(function),
            Kind::Await(inner) => {
                let before = std::mem::replace(&mut self.awaited, true);
                let seen = self.look(inner);
                self.awaited = before;
                seen
            }
            Kind::Loop(inner) => self.loops(inner, at),
            Kind::Choice(parts) => {
                let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
                let dangerous =
                    seen.iter().find(|s| matches!(s.value, Value::Path(_) | Value::Maker | Value::Global));
                let first = dangerous.or(seen.first()).cloned().unwrap_or_else(Seen::unknown);
                seen.iter().fold(first, Seen::with)
            }
            Kind::Leave(inner) => {
                if let Some(inner) = inner {
                    self.value(inner);
                }
                Seen::unknown()
            }
            Kind::Group(parts) => {
                let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
                let last = match seen.last() {
                    // A sequence has its last value: `(0, eval)(…)`.
                    Some(last) if parts.len() <= 2 => last.clone(),
                    _ => Seen::unknown(),
                };
                seen.iter().fold(last, Seen::with)
            }
        }
    }

    /// A path that was looked at only, and is used now.
    fn settle(&mut self, node: &Node, seen: &Seen) {
        match &seen.value {
            Value::Path(path) => self.used(path, node.at),
            Value::Global if !self.is_python() => {}
            _ => {}
        }
    }
}

/// Every name the code itself gives.
fn declared(body: &[Node]) -> HashSet<String> {
    fn pattern(p: &Pattern, out: &mut HashSet<String>) {
        match p {
            Pattern::Name(name) => drop(out.insert(name.clone())),
            Pattern::Fields(fields) => fields.iter().for_each(|(_, inner)| pattern(inner, out)),
            Pattern::Items(items) => items.iter().for_each(|inner| pattern(inner, out)),
            Pattern::Place(node) => walk(node, out),
            Pattern::Ignored => {}
        }
    }
    fn walk(node: &Node, out: &mut HashSet<String>) {
        let mut each = |nodes: &[Node]| nodes.iter().for_each(|n| walk(n, out));
        match &node.kind {
            Kind::List(parts) | Kind::Join(parts) | Kind::Choice(parts) | Kind::Group(parts) => each(parts),
            Kind::Dict(fields) => fields.iter().for_each(|(_, n)| walk(n, out)),
            Kind::Member(object, _) | Kind::Await(object) | Kind::Load(object) => walk(object, out),
            Kind::Call(call) => {
                walk(&call.callee, out);
                call.args.iter().chain(call.named.iter().map(|(_, n)| n)).for_each(|n| walk(n, out));
            }
            Kind::Binary(_, a, b) => [a, b].into_iter().for_each(|n| walk(n, out)),
            Kind::Assign(p, right) => {
                pattern(p, out);
                walk(right, out);
            }
            Kind::Function(function) => {
                out.extend(function.name.clone());
                function.params.iter().for_each(|p| pattern(p, out));
                function.body.iter().for_each(|n| walk(n, out));
            }
            Kind::Loop(inner) => {
                if let Some((p, over)) = &inner.over {
                    pattern(p, out);
                    walk(over, out);
                }
                inner.test.iter().for_each(|n| walk(n, out));
                inner.body.iter().for_each(|n| walk(n, out));
            }
            Kind::Leave(Some(inner)) => walk(inner, out),
            Kind::Import { names, .. } => out.extend(names.iter().map(|(_, bound)| bound.clone())),
            _ => {}
        }
    }
    let mut out = HashSet::new();
    body.iter().for_each(|node| walk(node, &mut out));
    out
}
