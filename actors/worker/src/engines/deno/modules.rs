//! The modules of a run as one text each: what a module imports stands in it as a `data:` URL, so that the engine has to look
//! for nothing.

use crate::engines::SharedHost;
use crate::engines::quickjs::MAIN;
use crate::engines::quickjs::faults::Places;
use crate::engines::quickjs::modules::{fetch, resolve};
use crate::host::fault;
use crate::source::script::{self, Emitted};
use athena_schemas::wire::{Fault, FaultKind};
use std::collections::BTreeMap;

/// The modules that were put together so far.
pub(super) struct Modules<'a> {
    host: &'a SharedHost,
    places: &'a Places,
    /// The URL of each path.
    urls: BTreeMap<String, String>,
    /// The paths that are being put together: one that imports them is a circle.
    open: Vec<String>,
}

impl<'a> Modules<'a> {
    pub(super) fn new(host: &'a SharedHost, places: &'a Places) -> Self {
        Self { host, places, urls: BTreeMap::new(), open: Vec::new() }
    }

    /// The script and all that it imports: its URL, and the names of the URLs as stacks show them.
    pub(super) fn link(mut self, emitted: Emitted) -> Result<(String, BTreeMap<String, String>), Fault> {
        let url = self.whole(MAIN, emitted)?;
        let mut names: BTreeMap<String, String> =
            self.urls.into_iter().map(|(path, url)| (url, path)).collect();
        names.insert(url.clone(), MAIN.to_owned());
        Ok((url, names))
    }

    /// A module as a URL.
    fn whole(&mut self, module: &str, emitted: Emitted) -> Result<String, Fault> {
        let imports = script::imports(&emitted.code);
        if let Some((line, column)) = imports.dynamic {
            let (line, column) = emitted.origin(line, column).unwrap_or_default();
            let message = "`import(…)` is outside what runs in Deno here; import at the top of the code";
            return Err(Fault { line, column, ..fault(FaultKind::Unsupported, "UnsupportedError", message) });
        }
        let mut text = String::new();
        let mut told = 0;
        for (at, name) in imports.named {
            let url = self.imported(module, &name)?;
            text.push_str(emitted.code.get(told..at.start).unwrap_or_default());
            text.push_str(&format!("{url:?}"));
            told = at.end;
        }
        text.push_str(emitted.code.get(told..).unwrap_or_default());
        self.places.add(module, emitted);
        Ok(format!("data:text/javascript;base64,{}", base64(text.as_bytes())))
    }

    /// What an import says, as a URL.
    fn imported(&mut self, base: &str, name: &str) -> Result<String, Fault> {
        let thrown = |message: String| fault(FaultKind::Thrown, "Error", message);
        let path = resolve(base, name).map_err(thrown)?;
        if let Some(url) = self.urls.get(&path) {
            return Ok(url.clone());
        }
        if self.open.contains(&path) {
            let message = format!("{path} imports itself by way of others, which does not run in Deno here");
            return Err(fault(FaultKind::Unsupported, "UnsupportedError", message));
        }
        let source = fetch(self.host, &path).map_err(thrown)?;
        let emitted = script::emit_module(&source).map_err(|found| {
            let message = format!("{path}:{}:{}: {}", found.line, found.column, found.message);
            fault(FaultKind::Syntax, "SyntaxError", message)
        })?;
        self.open.push(path.clone());
        let url = self.whole(&path, emitted)?;
        self.open.pop();
        self.urls.insert(path, url.clone());
        Ok(url)
    }
}

/// Base 64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * at)) as usize & 63).copied().unwrap_or_default();
            text.push(if at > three.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// The program that the engine runs, and that runs the code: it has no file.
pub(super) fn program(text: &str) -> String {
    format!("data:text/javascript;base64,{}", base64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
