//! Exceptions as faults, with their places in the agent's source.

use crate::host::fault;
use crate::source::script::Emitted;
use athena_schemas::wire::{Fault, FaultKind};
use rquickjs::{Ctx, Function};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The emitted modules of a run, by name.
#[derive(Clone, Default)]
pub(in crate::engines) struct Places(Rc<RefCell<BTreeMap<String, Emitted>>>);

impl Places {
    /// Remembers how a module's places map back.
    pub(in crate::engines) fn add(&self, module: &str, mut emitted: Emitted) {
        emitted.code = String::new();
        self.0.borrow_mut().insert(module.to_owned(), emitted);
    }

    /// Line and column in the source for a place in emitted code; the same place for code that was not emitted.
    fn origin(&self, module: &str, line: u32, column: u32) -> Option<(u32, u32)> {
        self.0.borrow().get(module)?.origin(line, column)
    }

    fn knows(&self, module: &str) -> bool {
        self.0.borrow().contains_key(module)
    }
}

/// The pending exception as a fault.
pub(super) fn caught<'js>(
    ctx: &Ctx<'js>,
    error: &rquickjs::Error,
    describe: Option<Function<'js>>,
    places: &Places,
) -> Fault {
    if !matches!(error, rquickjs::Error::Exception) {
        return fault(FaultKind::Thrown, "Error", error.to_string());
    }
    let thrown = ctx.catch();
    // The engine itself could not allocate the error.
    if thrown.is_null() || thrown.is_undefined() {
        return out_of_memory();
    }
    let described = describe.map(|describe| describe.call::<_, Vec<String>>((thrown.clone(),)));
    let Some(Ok(described)) = described else {
        ctx.catch();
        let message = thrown.as_exception().and_then(rquickjs::Exception::message);
        return match message {
            Some(message) if message.contains("out of memory") => out_of_memory(),
            message => fault(FaultKind::Thrown, "Error", message.unwrap_or_else(|| "the code threw".into())),
        };
    };
    let mut parts = described.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    placed(next(), next(), &next(), places)
}

/// The heap was full.
pub(in crate::engines) fn out_of_memory() -> Fault {
    let message = "the run filled its heap; hold less at once, or raise limits.memory_mb";
    fault(FaultKind::OutOfMemory, "MemoryError", message)
}

/// Finds the agent's places in a stack.
pub(in crate::engines) fn placed(name: String, message: String, stack: &str, places: &Places) -> Fault {
    if name == "InternalError" && message.contains("out of memory") {
        return out_of_memory();
    }
    let frames: Vec<Frame<'_>> = stack.lines().filter_map(Frame::parse).collect();
    let mut lines = Vec::new();
    let mut first = None;
    for frame in &frames {
        let Some((line, column)) = places.origin(frame.module, frame.line, frame.column) else { continue };
        first.get_or_insert((line, column));
        let function = match frame.function {
            "" | "<anonymous>" | "default" => "<script>",
            function => function,
        };
        lines.push(format!("    at {function} ({}:{line}:{column})", frame.module));
    }
    // An error of the parser inside a module has no frame within it, only its file and line.
    let kind = if name == "SyntaxError" && frames.iter().all(|frame| !places.knows(frame.module)) {
        FaultKind::Syntax
    } else {
        FaultKind::Thrown
    };
    let (line, column) = first.unwrap_or_default();
    Fault { kind, name, message, line, column, stack: lines.join("\n") }
}

/// A line of a QuickJS stack: `    at name (module:line:column)`.
struct Frame<'a> {
    function: &'a str,
    module: &'a str,
    line: u32,
    column: u32,
}

impl<'a> Frame<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim().strip_prefix("at ")?;
        let (function, place) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((function, place)) => (function, place),
            None => ("", text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text)),
        };
        let (place, column) = place.rsplit_once(':')?;
        let (module, line) = place.rsplit_once(':')?;
        Some(Self { function, module, line: line.parse().ok()?, column: column.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_lines_are_read() {
        let frame = Frame::parse("    at inner (run.ts:12:5)").unwrap();
        assert_eq!((frame.function, frame.module, frame.line, frame.column), ("inner", "run.ts", 12, 5));
        let frame = Frame::parse("    at run.ts:3:1").unwrap();
        assert_eq!((frame.function, frame.module, frame.line), ("", "run.ts", 3));
        assert!(Frame::parse("    at parse (native)").is_none());
    }
}
