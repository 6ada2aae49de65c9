//! Agent code as text and as syntax: the caps before parsing, places in the source, and the form that runs.

pub mod nesting;
pub mod python;
pub mod script;

use athena_schemas::wire::{Fault, FaultKind};

/// Lines of a text, to turn byte offsets into places.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Reads the line starts.
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    pub fn place(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |head| head.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

/// Code that does not parse, with its place.
pub fn syntax_fault(text: &str, offset: usize, message: impl Into<String>) -> Fault {
    let (line, column) = Lines::new(text).place(offset);
    Fault {
        kind: FaultKind::Syntax,
        name: "SyntaxError".into(),
        message: message.into(),
        line,
        column,
        stack: String::new(),
    }
}

/// Refuses source over its size limit, before it is looked at in any other way.
pub fn within(text: &str, limit_bytes: u64) -> Result<(), Fault> {
    if text.len() as u64 <= limit_bytes {
        return Ok(());
    }
    let message = format!(
        "the source has {} bytes, the limit is {limit_bytes}; pass data as `input` or read it with a call",
        text.len()
    );
    Err(crate::host::fault(FaultKind::Limit, "LimitError", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_places() {
        let lines = Lines::new("a\nbé c\n");
        assert_eq!(lines.place(0), (1, 1));
        assert_eq!(lines.place(2), (2, 1));
        assert_eq!(lines.place(6), (2, 4));
        assert_eq!(lines.place(7), (2, 5));
        assert_eq!(lines.place(8), (3, 1));
        assert_eq!(lines.place(99), (3, 1));
    }
}
