//! What both languages are brought to before they are judged: names, members, calls, texts, assignments, loops.
//!
//! Everything else becomes a [`Kind::Group`] of its parts, so that nothing is passed over.

/// A piece of code and where it begins, bytes.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A text that is written out.
    Text(String),
    Number(f64),
    /// A regular expression's pattern.
    Regex(String),
    /// `true`, `None` and the like.
    Constant,
    Name(String),
    Member(Box<Node>, Key),
    Call(Box<Call>),
    /// `import(x)`.
    Load(Box<Node>),
    /// `import … from module`: what is bound to which name; `None` binds the module itself.
    Import {
        module: String,
        names: Vec<(Option<String>, String)>,
    },
    List(Vec<Node>),
    Dict(Vec<(Key, Node)>),
    /// Parts joined to one text: templates, f-strings, `+`.
    Join(Vec<Node>),
    /// Any other operator.
    Binary(Operator, Box<Node>, Box<Node>),
    Assign(Box<Pattern>, Box<Node>),
    Function(Box<Function>),
    Await(Box<Node>),
    Loop(Box<Loop>),
    /// One of these.
    Choice(Vec<Node>),
    /// `break`, `return`, `throw`, `yield`; with what is given on.
    Leave(Option<Box<Node>>),
    Group(Vec<Node>),
}

#[derive(Debug, Clone)]
pub(super) enum Key {
    /// Written as a name.
    Known(String),
    /// Computed.
    Computed(Box<Node>),
    /// A spread: no key at all.
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Power,
    Times,
    Modulo,
    InstanceOf,
    Compare,
    Other,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) callee: Node,
    pub(super) args: Vec<Node>,
    pub(super) named: Vec<(String, Node)>,
    pub(super) new: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) name: Option<String>,
    pub(super) params: Vec<Pattern>,
    pub(super) body: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(super) struct Loop {
    /// What must hold to go on; none is for ever.
    pub(super) test: Option<Node>,
    /// What is gone over, and the name it gets.
    pub(super) over: Option<(Pattern, Node)>,
    pub(super) body: Vec<Node>,
}

/// What a value is bound to.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Name(String),
    /// `object.key = …`.
    Place(Node),
    /// `{ key: pattern }`.
    Fields(Vec<(Key, Pattern)>),
    /// `[a, b]`.
    Items(Vec<Pattern>),
    Ignored,
}

impl Node {
    pub(super) fn new(at: u32, kind: Kind) -> Self {
        Self { at, kind }
    }

    /// Two parts joined; a chain of them is one list, however it is nested.
    pub(super) fn join(at: u32, left: Self, right: Self) -> Self {
        let mut parts = match left.kind {
            Kind::Join(parts) => parts,
            _ => vec![left],
        };
        parts.push(right);
        Self::new(at, Kind::Join(parts))
    }

    pub(super) fn group(at: u32, parts: Vec<Self>) -> Self {
        Self::new(at, Kind::Group(parts))
    }
}

/// A comment, with where it begins.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub(super) at: u32,
    pub(super) text: String,
}

/// Code, ready to be judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) body: Vec<Node>,
    pub(super) comments: Vec<Comment>,
    /// Byte ranges of the contents of strings, templates and comments.
    pub(super) literals: Vec<(u32, u32)>,
}
