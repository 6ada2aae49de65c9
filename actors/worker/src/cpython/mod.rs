//! Python beyond monty: the host's own CPython, in the same jail.
//!
//! [`enter`] takes the first step of the jail and becomes that interpreter; `driver.py` loads the standard library, empties
//! the root and is copied for each run like the worker's own zygote, by the same orders. Each copy gives up its capabilities,
//! lowers its limits and installs the filters made here, so that agent code meets the same kernel in either Python. Files
//! answer "permission denied" instead of death, because a library asks for them before it does without.
//!
//! What code can observe stays a function of its record: strings hash by a constant, addresses are not randomised, clock and
//! randomness are the run's.

use crate::jail::{self, Level, Plan};
use crate::process;
use serde_json::json;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the interpreter runs.
const DRIVER: &str = include_str!("driver.py");

/// The standard library that is loaded; nothing can be imported later. Without what only reaches out of the process.
const MODULES: &[&str] = &[
    "abc",
    "argparse",
    "array",
    "base64",
    "binascii",
    "bisect",
    "calendar",
    "cmath",
    "codecs",
    "collections",
    "collections.abc",
    "colorsys",
    "concurrent.futures",
    "contextlib",
    "contextvars",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email",
    "email.message",
    "email.mime.text",
    "email.utils",
    "enum",
    "errno",
    "fnmatch",
    "fractions",
    "functools",
    "gzip",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "html.parser",
    "html.entities",
    "http",
    "importlib",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "keyword",
    "linecache",
    "locale",
    "logging",
    "math",
    "mimetypes",
    "numbers",
    "operator",
    "os",
    "os.path",
    "pathlib",
    "pickle",
    "pprint",
    "queue",
    "quopri",
    "random",
    "re",
    "reprlib",
    "secrets",
    "shlex",
    "signal",
    "statistics",
    "string",
    "struct",
    "sys",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "timeit",
    "token",
    "tokenize",
    "tomllib",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "unittest",
    "unittest.mock",
    "urllib.parse",
    "uuid",
    "warnings",
    "weakref",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
    "zlib",
    "zoneinfo",
    "graphlib",
    "stringprep",
    "bz2",
    "lzma",
    "zipfile",
    "configparser",
    "ast",
    "asyncio",
    "encodings.idna",
    "_strptime",
    "__future__",
];

/// An interpreter and the folder of its library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// The executable itself, no link or shim.
    pub(crate) program: PathBuf,
    /// What the interpreter calls its base prefix.
    pub(crate) prefix: PathBuf,
}

/// Becomes a zygote of this interpreter; never returns.
pub(crate) fn enter(plan: &Plan, interpreter: &Interpreter) -> ! {
    match become_python(plan, interpreter) {
        Ok(never) => match never {},
        Err(_) => process::exit(process::JAIL_FAILED),
    }
}

fn become_python(plan: &Plan, interpreter: &Interpreter) -> std::io::Result<std::convert::Infallible> {
    // Somebody's home may be closed to the nobody that root becomes here.
    let moved = jail::shown(&interpreter.prefix);
    let program = match (&moved, interpreter.program.strip_prefix(&interpreter.prefix)) {
        (Some(spot), Ok(below)) => spot.join(below),
        _ => interpreter.program.clone(),
    };
    let layers = jail::enter_interpreter(plan)?;
    let inside = layers.holds("namespaces");
    let mut names = layers.names();
    if inside {
        names.extend(["pid-namespace", "empty-root"].map(str::to_owned));
    }
    names.extend(
        ["no-capabilities", "rlimits", "no-new-privileges", "parent-death", "not-dumpable"]
            .map(str::to_owned),
    );
    let filters = if plan.level >= Level::Seccomp { jail::interpreter_filters(inside)? } else { Vec::new() };
    if !filters.is_empty() {
        names.push("seccomp".into());
    }
    let level = match (filters.is_empty(), inside) {
        (true, _) => Level::None,
        (false, true) => Level::Full,
        (false, false) => Level::Seccomp,
    };
    if level < plan.least {
        process::exit(process::JAIL_FAILED);
    }
    let config = json!({
        "modules": MODULES,
        "level": level.as_str(),
        "layers": names,
        "namespaces": inside,
        "filters": filters,
        "address_space": plan.address_space,
        "cpu_s": plan.cpu_s,
        "calls": jail::call_numbers(),
    });
    let text = |bytes: &[u8]| CString::new(bytes).map_err(std::io::Error::other);
    let arguments = [
        text(program.as_os_str().as_bytes())?,
        // Neither site packages, nor anybody's home, nor compiled files.
        text(b"-SsB")?,
        text(b"-c")?,
        text(DRIVER.as_bytes())?,
        text(config.to_string().as_bytes())?,
    ];
    let mut environment = vec![text(b"PYTHONHASHSEED=0")?, text(b"LC_ALL=C.UTF-8")?, text(b"TZ=UTC0")?];
    let home = moved.as_ref().unwrap_or(&interpreter.prefix);
    environment.push(text(&[b"PYTHONHOME=", home.as_os_str().as_bytes()].concat())?);
    if let Some(spot) = &moved {
        // Its own library, if it has one: the place that the executable remembers is closed.
        let libraries = spot.join("lib");
        environment.push(text(&[b"LD_LIBRARY_PATH=", libraries.as_os_str().as_bytes()].concat())?);
    }
    jail::fixed_addresses()?;
    nix::unistd::execve(&text(program.as_os_str().as_bytes())?, &arguments, &environment).map_err(Into::into)
}

/// Reads `PROGRAM:PREFIX`.
pub(crate) fn parse(value: &str) -> Option<Interpreter> {
    let (program, prefix) = value.split_once(':')?;
    let absolute = |path: &str| Path::new(path).is_absolute().then(|| PathBuf::from(path));
    Some(Interpreter { program: absolute(program)?, prefix: absolute(prefix)? })
}
