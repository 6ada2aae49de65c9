//! What is dangerous, as data: paths from a global or a module, and how much harm lies at their end.

use athena_schemas::risk::Risk::{self, Critical, High, Low, Medium};
use athena_schemas::wire::Language;

/// A path and everything below it. The longest that fits decides.
type Row = (&'static str, Risk, &'static str);

const SCRIPT: &[Row] = &[
    ("eval", Critical, "code-generation"),
    ("Function", Critical, "code-generation"),
    ("AsyncFunction", Critical, "code-generation"),
    ("GeneratorFunction", Critical, "code-generation"),
    ("execScript", Critical, "code-generation"),
    ("importScripts", Critical, "code-generation"),
    ("require", Critical, "module-loading"),
    ("module", Critical, "module-loading"),
    ("createRequire", Critical, "module-loading"),
    ("process", High, "process"),
    ("process.env", Medium, "environment"),
    ("process.argv", Medium, "process"),
    ("process.cwd", Medium, "process"),
    ("process.platform", Low, "process"),
    ("process.version", Low, "process"),
    ("process.versions", Low, "process"),
    ("process.hrtime", Low, "process"),
    ("process.uptime", Low, "process"),
    ("process.nextTick", Low, "process"),
    ("process.memoryUsage", Low, "process"),
    ("process.stdout", Low, "process"),
    ("process.stderr", Low, "process"),
    ("process.binding", Critical, "process"),
    ("process.dlopen", Critical, "native-code"),
    ("process.mainModule", Critical, "module-loading"),
    ("process.getBuiltinModule", Critical, "module-loading"),
    ("Deno", High, "file-or-network"),
    ("Deno.Command", Critical, "subprocess"),
    ("Deno.run", Critical, "subprocess"),
    ("Deno.dlopen", Critical, "native-code"),
    ("Deno.env", Medium, "environment"),
    ("Deno.readDir", Low, "file-or-network"),
    ("Deno.exit", High, "process"),
    ("Deno.version", Low, "process"),
    ("Bun", High, "file-or-network"),
    ("Bun.spawn", Critical, "subprocess"),
    ("Bun.spawnSync", Critical, "subprocess"),
    ("Bun.$", Critical, "subprocess"),
    ("Bun.env", Medium, "environment"),
    ("fetch", High, "network"),
    ("XMLHttpRequest", High, "network"),
    ("WebSocket", High, "network"),
    ("WebTransport", High, "network"),
    ("EventSource", High, "network"),
    ("RTCPeerConnection", High, "network"),
    ("navigator.sendBeacon", High, "network"),
    ("navigator", Medium, "environment"),
    ("document", High, "browser"),
    ("localStorage", Medium, "browser"),
    ("sessionStorage", Medium, "browser"),
    ("indexedDB", High, "browser"),
    ("Image", High, "network"),
    ("Worker", High, "worker"),
    ("SharedWorker", High, "worker"),
    ("WebAssembly", High, "native-code"),
    ("SharedArrayBuffer", High, "worker"),
    ("Atomics.wait", High, "denial-of-service"),
    ("Error.prepareStackTrace", High, "stack-walk"),
    ("arguments.callee", High, "stack-walk"),
    ("__dirname", Medium, "environment"),
    ("__filename", Medium, "environment"),
    // Modules.
    ("child_process", Critical, "subprocess"),
    ("vm", Critical, "code-generation"),
    ("worker_threads", Critical, "worker"),
    ("cluster", Critical, "subprocess"),
    ("repl", Critical, "code-generation"),
    ("inspector", Critical, "code-generation"),
    ("v8", Critical, "native-code"),
    ("fs", High, "file"),
    ("net", High, "network"),
    ("tls", High, "network"),
    ("dgram", High, "network"),
    ("dns", High, "network"),
    ("http", High, "network"),
    ("http2", High, "network"),
    ("https", High, "network"),
    ("os", High, "environment"),
    ("axios", High, "network"),
    ("execa", Critical, "subprocess"),
    ("shelljs", Critical, "subprocess"),
    ("got", High, "network"),
    ("undici", High, "network"),
    ("ws", High, "network"),
    ("ssh2", High, "network"),
    ("puppeteer", High, "network"),
];

const PYTHON: &[Row] = &[
    ("eval", Critical, "code-generation"),
    ("exec", Critical, "code-generation"),
    ("compile", Critical, "code-generation"),
    ("execfile", Critical, "code-generation"),
    ("__import__", Critical, "module-loading"),
    ("reload", Critical, "module-loading"),
    ("globals", Critical, "introspection"),
    ("locals", High, "introspection"),
    ("vars", High, "introspection"),
    ("breakpoint", High, "introspection"),
    ("exit", High, "process"),
    ("quit", High, "process"),
    ("open", High, "file"),
    ("os", High, "process"),
    ("os.system", Critical, "subprocess"),
    ("os.popen", Critical, "subprocess"),
    ("os.exec", Critical, "subprocess"),
    ("os.fork", Critical, "subprocess"),
    ("os.environ", Medium, "environment"),
    ("os.getenv", Medium, "environment"),
    ("os.getcwd", Medium, "environment"),
    ("os.path", Low, "file"),
    ("os.sep", Low, "file"),
    ("os.linesep", Low, "file"),
    ("os.name", Low, "environment"),
    ("sys", Low, "process"),
    ("sys.modules", Critical, "module-loading"),
    ("sys.meta_path", Critical, "module-loading"),
    ("sys.path", High, "module-loading"),
    ("sys.path_hooks", Critical, "module-loading"),
    ("sys.settrace", Critical, "introspection"),
    ("sys.setprofile", Critical, "introspection"),
    ("sys.exit", High, "process"),
    ("sys.excepthook", High, "introspection"),
    ("sys.stdin", Medium, "process"),
    ("sys.setrecursionlimit", High, "denial-of-service"),
    ("subprocess", Critical, "subprocess"),
    ("multiprocessing", High, "subprocess"),
    ("concurrent.futures.ProcessPoolExecutor", High, "subprocess"),
    ("asyncio.create_subprocess_exec", Critical, "subprocess"),
    ("asyncio.create_subprocess_shell", Critical, "subprocess"),
    ("asyncio.subprocess", Critical, "subprocess"),
    ("asyncio.open_connection", High, "network"),
    ("asyncio.open_unix_connection", High, "network"),
    ("asyncio.start_server", High, "network"),
    ("pty", Critical, "subprocess"),
    ("commands", Critical, "subprocess"),
    ("popen2", Critical, "subprocess"),
    ("pexpect", Critical, "subprocess"),
    ("sh", Critical, "subprocess"),
    ("plumbum", Critical, "subprocess"),
    ("ctypes", Critical, "native-code"),
    ("_ctypes", Critical, "native-code"),
    ("cffi", Critical, "native-code"),
    ("mmap", High, "native-code"),
    ("importlib", Critical, "module-loading"),
    ("importlib.metadata", Medium, "environment"),
    ("imp", Critical, "module-loading"),
    ("zipimport", Critical, "module-loading"),
    ("pkgutil", Critical, "module-loading"),
    ("runpy", Critical, "code-generation"),
    ("code", Critical, "code-generation"),
    ("codeop", Critical, "code-generation"),
    ("builtins", Critical, "introspection"),
    ("inspect", Critical, "introspection"),
    ("gc", Critical, "introspection"),
    ("dis", High, "introspection"),
    ("ast.literal_eval", Low, "introspection"),
    ("ast", Medium, "introspection"),
    ("traceback", Low, "introspection"),
    ("pickle", Critical, "deserialization"),
    ("cPickle", Critical, "deserialization"),
    ("_pickle", Critical, "deserialization"),
    ("dill", Critical, "deserialization"),
    ("cloudpickle", Critical, "deserialization"),
    ("joblib", Critical, "deserialization"),
    ("marshal", Critical, "deserialization"),
    ("shelve", Critical, "deserialization"),
    ("jsonpickle", Critical, "deserialization"),
    ("yaml.load", Critical, "deserialization"),
    ("yaml.unsafe_load", Critical, "deserialization"),
    ("yaml.full_load", High, "deserialization"),
    ("types.FunctionType", Critical, "code-generation"),
    ("types.LambdaType", Critical, "code-generation"),
    ("types.CodeType", Critical, "code-generation"),
    ("types.ModuleType", High, "module-loading"),
    ("socket", High, "network"),
    ("_socket", High, "network"),
    ("ssl", High, "network"),
    ("select", High, "network"),
    ("selectors", High, "network"),
    ("socketserver", High, "network"),
    ("urllib.request", High, "network"),
    ("urllib2", High, "network"),
    ("urllib3", High, "network"),
    ("http.client", High, "network"),
    ("http.server", High, "network"),
    ("ftplib", High, "network"),
    ("smtplib", High, "network"),
    ("poplib", High, "network"),
    ("imaplib", High, "network"),
    ("telnetlib", High, "network"),
    ("xmlrpc", High, "network"),
    ("webbrowser", High, "network"),
    ("requests", High, "network"),
    ("httpx", High, "network"),
    ("aiohttp", High, "network"),
    ("websockets", High, "network"),
    ("paramiko", High, "network"),
    ("fabric", Critical, "subprocess"),
    ("boto3", High, "network"),
    ("shutil", High, "file"),
    ("shutil.rmtree", Critical, "file"),
    ("pathlib", Low, "file"),
    ("pathlib.PurePath", Low, "file"),
    ("tempfile", High, "file"),
    ("glob", High, "file"),
    ("fileinput", High, "file"),
    ("io", Low, "file"),
    ("io.open", High, "file"),
    ("io.open_code", High, "file"),
    ("io.FileIO", High, "file"),
    ("codecs.open", High, "file"),
    ("sqlite3", High, "file"),
    ("dbm", High, "file"),
    ("zipfile", High, "file"),
    ("tarfile", High, "file"),
    ("logging.FileHandler", High, "file"),
    ("logging.config", High, "module-loading"),
    ("logging.handlers", High, "network"),
    ("signal", High, "process"),
    ("resource", High, "process"),
    ("psutil", High, "process"),
    ("pwd", High, "environment"),
    ("grp", High, "environment"),
    ("getpass", High, "environment"),
    ("platform", Medium, "environment"),
    ("faulthandler", High, "introspection"),
    ("string.Formatter", High, "introspection"),
    ("timeit", High, "code-generation"),
    ("cProfile", High, "code-generation"),
    ("trace", High, "code-generation"),
    ("doctest", High, "code-generation"),
    ("unittest", Low, "process"),
    ("atexit", High, "process"),
    ("site", High, "module-loading"),
    ("sysconfig", Medium, "environment"),
    ("threading", Medium, "process"),
    ("_thread", High, "process"),
];

/// Modules whose import says nothing by itself; what is used of them does.
const PLAIN_MODULES: &[&str] = &[
    "json",
    "math",
    "cmath",
    "re",
    "datetime",
    "collections",
    "itertools",
    "functools",
    "dataclasses",
    "typing",
    "typing_extensions",
    "enum",
    "statistics",
    "random",
    "string",
    "time",
    "decimal",
    "fractions",
    "uuid",
    "hashlib",
    "hmac",
    "base64",
    "binascii",
    "textwrap",
    "operator",
    "copy",
    "heapq",
    "bisect",
    "calendar",
    "asyncio",
    "contextlib",
    "abc",
    "html",
    "urllib",
    "difflib",
    "pprint",
    "zoneinfo",
    "numbers",
    "secrets",
    "csv",
    "io",
    "types",
    "codecs",
    "unicodedata",
    "struct",
    "array",
    "graphlib",
    "queue",
    "warnings",
    "weakref",
    "keyword",
    "reprlib",
    "colorsys",
    "locale",
    "gettext",
    "email",
    "mimetypes",
    "quopri",
    "zlib",
    "gzip",
    "bz2",
    "lzma",
    "concurrent",
    "contextvars",
    "logging",
    "xml",
    "configparser",
    "tomllib",
    "argparse",
    "numpy",
    "pandas",
    "dateutil",
    "pytz",
    "pydantic",
    "attr",
    "attrs",
    "tabulate",
    "yaml",
    "os",
    "sys",
    "pathlib",
    "traceback",
    "unittest",
    "pytest",
    "ast",
    "http",
    "athena",
    "mcp_servers",
    "mcp",
    "skills",
    "__future__",
    "session",
    "tools",
];

/// The row of a path, such as `process.env.HOME`.
pub(super) fn row(language: Language, path: &[String]) -> Option<(Risk, &'static str)> {
    let rows = if language == Language::Python { PYTHON } else { SCRIPT };
    let joined = path.join(".");
    rows.iter()
        .filter(|(prefix, ..)| {
            joined.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                || (*prefix == "os.exec" && joined.starts_with("os.exec")
                    || joined.starts_with("os.spawn") && *prefix == "os.exec")
        })
        .max_by_key(|(prefix, ..)| prefix.len())
        .map(|(_, risk, rule)| (*risk, *rule))
}

/// What importing a module says.
pub(super) fn import(language: Language, module: &str) -> Option<(Risk, &'static str)> {
    if is_house(module) {
        return None;
    }
    if language == Language::Python {
        let path: Vec<String> = module.split('.').map(str::to_owned).collect();
        let root = path.first().map_or("", String::as_str);
        return match row(language, &path) {
            // What these are good for depends on what is used of them.
            Some(_)
                if matches!(
                    module,
                    "os" | "sys" | "pathlib" | "io" | "ast" | "asyncio" | "types" | "yaml"
                ) =>
            {
                None
            }
            Some((Low, _)) => None,
            Some(found) => Some(found),
            None if PLAIN_MODULES.contains(&root) || module.is_empty() => None,
            None => Some((High, "unknown-module")),
        };
    }
    let plain = module.strip_prefix("node:").unwrap_or(module);
    if plain.starts_with("data:")
        || plain.starts_with("blob:")
        || plain.starts_with("http:")
        || plain.starts_with("https:")
    {
        return Some((Critical, "module-loading"));
    }
    let root = plain.split('/').next().unwrap_or(plain);
    match row(language, &[root.to_owned()]) {
        Some(found) => Some(found),
        None if matches!(
            root,
            "assert"
                | "buffer"
                | "events"
                | "path"
                | "querystring"
                | "string_decoder"
                | "timers"
                | "url"
                | "util"
                | "crypto"
                | "punycode"
                | "test"
                | "lodash"
                | "zod"
                | "date-fns"
        ) =>
        {
            None
        }
        None => Some((High, "unknown-module")),
    }
}

/// Whether a module is a file of the virtual file system.
pub(super) fn is_house(module: &str) -> bool {
    let path = module.trim_start_matches("./").trim_start_matches('/');
    let traversal = module.contains("..") && module.matches("..").count() > 1;
    let python = ["mcp_servers", "skills", "athena"]
        .iter()
        .any(|root| module == *root || module.strip_prefix(root).is_some_and(|rest| rest.starts_with('.')));
    python
        || (!traversal
            && ["mcp-servers/", "skills/", "athena/", "../mcp-servers/", "../skills/"]
                .iter()
                .any(|root| path.starts_with(root)))
}

/// Globals that hold all others.
pub(super) const GLOBALS: &[&str] = &["globalThis", "window", "self", "global", "top", "parent", "frames"];

/// Built-in objects of script that must stay as they are.
pub(super) const BUILTINS: &[&str] = &[
    "Object",
    "Array",
    "String",
    "Number",
    "Boolean",
    "Symbol",
    "Promise",
    "JSON",
    "Math",
    "Date",
    "RegExp",
    "Map",
    "Set",
    "WeakMap",
    "WeakSet",
    "Reflect",
    "Proxy",
    "Error",
    "TypeError",
    "Function",
    "console",
    "Intl",
    "BigInt",
    "Uint8Array",
    "ArrayBuffer",
    "Iterator",
    "athena",
    "globalThis",
    "callMCPTool",
    "searchTools",
    "readFile",
    "session",
];

/// Attributes of Python that lead out of a value into the interpreter.
pub(super) fn attribute(name: &str) -> Option<(Risk, &'static str)> {
    const FRAMES: &[&str] = &[
        "tb_frame",
        "gi_frame",
        "f_back",
        "f_globals",
        "f_locals",
        "f_builtins",
        "f_code",
        "cr_frame",
        "ag_frame",
        "gi_code",
        "cr_code",
        "co_code",
        "co_consts",
        "func_globals",
        "func_code",
        "tb_next",
        "im_func",
        "mro",
    ];
    const PLAIN: &[&str] = &[
        "__name__",
        "__doc__",
        "__init__",
        "__len__",
        "__str__",
        "__repr__",
        "__eq__",
        "__hash__",
        "__iter__",
        "__next__",
        "__enter__",
        "__exit__",
        "__aenter__",
        "__aexit__",
        "__contains__",
        "__version__",
        "__post_init__",
        "__annotations__",
        "__members__",
        "__call__",
        "__add__",
        "__lt__",
        "__gt__",
        "__le__",
        "__ge__",
        "__ne__",
        "__bool__",
        "__format__",
        "__qualname__",
        "__getitem__",
        "__setitem__",
        "__slots__",
        "__all__",
        "__class__",
    ];
    if FRAMES.contains(&name) {
        return Some((Critical, "stack-walk"));
    }
    (name.starts_with("__") && name.ends_with("__") && name.len() > 4 && !PLAIN.contains(&name))
        .then_some((Critical, "introspection"))
}

/// Methods that do harm on whatever object they are called.
pub(super) fn method(language: Language, name: &str) -> Option<(Risk, &'static str)> {
    const SUBPROCESS: &[&str] = &[
        "execSync",
        "execFile",
        "execFileSync",
        "spawn",
        "spawnSync",
        "popen",
        "Popen",
        "check_output",
        "check_call",
        "create_subprocess_shell",
        "create_subprocess_exec",
        "execv",
        "execve",
        "dlopen",
        "CDLL",
        "runInThisContext",
        "runInNewContext",
        "runInContext",
        "spawnl",
        "spawnv",
        "startfile",
    ];
    const FILES: &[&str] = &[
        "readFileSync",
        "writeFileSync",
        "appendFileSync",
        "unlinkSync",
        "rmSync",
        "rmdirSync",
        "mkdirSync",
        "createReadStream",
        "createWriteStream",
        "readTextFile",
        "readTextFileSync",
        "writeTextFile",
        "rmtree",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "unlink",
        "copyFileSync",
        "chmodSync",
    ];
    if SUBPROCESS.contains(&name) || (language == Language::Python && name == "system") {
        return Some((Critical, "subprocess"));
    }
    (FILES.contains(&name)).then_some((High, "file"))
}

/// Verbs that take things away.
pub(super) fn removes(name: &str) -> bool {
    const VERBS: &[&str] = &[
        "forget",
        "delete",
        "remove",
        "erase",
        "purge",
        "drop",
        "destroy",
        "wipe",
        "truncate",
        "unlink",
        "revoke",
        "retract",
        "archive",
        "prune",
        "clear",
        "trash",
        "expunge",
        "terminate",
        "deactivate",
        "nuke",
    ];
    words(name)
        .first()
        .is_some_and(|first| VERBS.contains(&first.as_str()) || first == "bulk" || first == "mass")
        && words(name).iter().any(|w| VERBS.contains(&w.as_str()))
}

/// Verbs that carry things out of the house.
pub(super) fn sends(name: &str) -> bool {
    const VERBS: &[&str] = &[
        "send",
        "post",
        "publish",
        "tweet",
        "email",
        "mail",
        "upload",
        "share",
        "notify",
        "webhook",
        "broadcast",
        "forward",
        "reply",
        "transmit",
        "push",
        "export",
        "sms",
        "dm",
        "message",
    ];
    let words = words(name);
    words.first().is_some_and(|first| VERBS.contains(&first.as_str())) && name != "push"
}

/// Verbs that read what the house remembers.
pub(super) fn reads(name: &str) -> bool {
    const VERBS: &[&str] = &[
        "recall",
        "search",
        "list",
        "get",
        "read",
        "find",
        "query",
        "fetch",
        "export",
        "retrieve",
        "load",
        "lookup",
        "untokenize",
        "detokenize",
        "dump",
        "history",
        "timeline",
        "pack",
    ];
    words(name).first().is_some_and(|first| VERBS.contains(&first.as_str()))
}

/// A name's words, lower case: `sendMessage`, `send_message` and `send-message` alike.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut lower = false;
    for c in name.chars() {
        if (!c.is_alphanumeric() || (c.is_uppercase() && lower)) && !current.is_empty() {
            out.push(std::mem::take(&mut current));
        }
        if c.is_alphanumeric() {
            current.extend(c.to_lowercase());
        }
        lower = c.is_lowercase() || c.is_numeric();
    }
    if !current.is_empty() {
        out.push(current);
    }
    out
}
