//! Settings and folders: flags over environment over `./athena.toml` over the user's `config.toml` over defaults.

use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// All settings. Every field has a default; an unknown field is an error with its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The log.
    pub log: Log,
    /// The keys.
    pub keys: Keys,
    /// What run records keep.
    pub retention: Retention,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The daemon.
    pub daemon: Daemon,
    /// Approvals.
    pub approvals: Approvals,
    /// Embeddings.
    pub model: Model,
    /// Consolidation.
    pub consolidation: Consolidation,
}

/// Settings of the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Where the master key lies: `file` (mode 0600, beside the keys) or `keyring` (the system's, through `secret-tool`; one in
    /// the file is moved there). `ATHENA_MASTER_KEY` goes before both.
    pub master: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self { master: "file".into() }
    }
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `sync` (an answer follows the fsync), `interval` (at most `interval_ms` later) or `buffer` (when the system likes).
    pub durability: String,
    /// For `interval`, milliseconds.
    pub interval_ms: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { durability: "sync".into(), interval_ms: 100 }
    }
}

/// How long, and how much, run records keep of what runs were answered. Everything else is kept until it is forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// A run that ended this many days ago loses the answers it was given, and cannot be replayed any more; 0 is never.
    pub run_days: u64,
    /// When run records take more than this many bytes, the oldest lose theirs; 0 is any amount. Whoever can start runs can
    /// thereby crowd out old answers, so there is no such limit unless it is set.
    pub run_bytes: u64,
    /// Runs that keep everything.
    pub pinned: Vec<String>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { run_days: 365, run_bytes: 0, pinned: Vec::new() }
    }
}

/// Settings of the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// `conservative`, `balanced`, `permissive`, or the path of a TOML file with own limits.
    pub preset: String,
    /// Pre-warmed workers that wait for runs.
    pub warm: usize,
    /// Runs at once.
    pub concurrent: usize,
    /// The CPython for what of Python the built-in engine cannot run: a name or a path; empty for none.
    pub python: String,
    /// The Deno that requests may ask for as their engine: a name or a path; empty for none. It runs in namespaces only, under a
    /// filter that is wider than the others'.
    pub deno: String,
    /// Check the types of TypeScript before it runs, where a request does not say.
    pub type_check: bool,
    /// The TypeScript compiler for that: a name or a path; empty for `tsgo` or `tsc`, whichever is found.
    pub checker: String,
    /// A session that no run has changed for this many days starts anew; 0 is never.
    pub session_days: u64,
    /// Bound each run by a control group of its own, and all together by one below this process's own: half of the machine's
    /// memory, half the usual share of its processors. A server that is killed leaves empty groups behind, which the next one
    /// sweeps.
    pub cgroup: bool,
    /// Run code even where the kernel gives no seccomp. In so many words: this is not safe.
    pub allow_weak: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            preset: "balanced".into(),
            warm: 2,
            concurrent: 64,
            python: "python3".into(),
            deno: String::new(),
            type_check: false,
            checker: String::new(),
            session_days: 90,
            cgroup: false,
            allow_weak: false,
        }
    }
}

/// Settings of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Daemon {
    /// It ends after this long without clients or runs, seconds.
    pub idle_s: u64,
    /// It takes at most this many clients at once, sessions of MCP over HTTP among them.
    pub clients_max: usize,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { idle_s: 300, clients_max: 64 }
    }
}

/// Settings of approvals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// A request that nobody answers is denied after this long, seconds.
    pub ttl_s: u64,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { ttl_s: 900 }
    }
}

/// Settings of embeddings. Nothing is ever downloaded without being asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A folder with a model; none means lexical search alone.
    pub dir: Option<PathBuf>,
}

/// Settings of consolidation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consolidation {
    /// The language model that is asked about what the first system is unsure of. None unless the user's own file names one:
    /// a folder that somebody else wrote must not say where memories are sent.
    pub model: Reasoner,
}

/// A language model and how much it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reasoner {
    /// `ollama`, `openai` (any server that speaks its chat completions) or `anthropic`; empty for none.
    pub kind: String,
    /// The address of the endpoint.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// `${VARIABLE}` of the environment or `${vault:TOKEN}`; empty for none.
    pub key: String,
    /// A call may take this long, seconds, 1 to 600.
    pub timeout_s: u64,
    /// Calls of one pass at most, up to 100.
    pub calls: u32,
    /// Tokens of one pass at most, sent and answered.
    pub tokens: u64,
    /// Whether scheduled passes ask, too, and not only `consolidation/reason`.
    pub scheduled: bool,
}

impl Default for Reasoner {
    fn default() -> Self {
        Self {
            kind: String::new(),
            url: String::new(),
            model: String::new(),
            key: String::new(),
            timeout_s: 60,
            calls: 10,
            tokens: 50_000,
            scheduled: false,
        }
    }
}

/// What a working folder has no say in: where memories are sent, where the key to all of them lies.
const OWN: [(&str, &str); 2] = [("consolidation", "model"), ("keys", "master")];

impl Config {
    /// The settings of the user's file and of the working folder's, the nearer one winning field by field.
    ///
    /// # Errors
    /// When a file is not TOML or has a field that does not exist, or one but the first says what is the user's own to say; the
    /// message names file and field.
    pub fn load(files: &[PathBuf]) -> Result<Self, Refusal> {
        let mut merged = toml::Table::new();
        for (at, file) in files.iter().enumerate() {
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            let table: toml::Table = text.parse().map_err(|error| unreadable(file, &error))?;
            table.clone().try_into::<Self>().map_err(|error| unreadable(file, &error))?;
            let own = OWN.iter().find(|(section, name)| {
                table.get(*section).is_some_and(|section| section.get(*name).is_some())
            });
            if let Some((section, name)) = own.filter(|_| at > 0) {
                let own = files.first().map(|own| own.display().to_string()).unwrap_or_default();
                return Err(unreadable(file, &format!("{section}.{name} is the user's own to say"))
                    .hint(format!("move it to {own}")));
            }
            merge(&mut merged, table);
        }
        merged.try_into().map_err(|error| Refusal::invalid(format!("the settings do not fit: {error}")))
    }
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("{}: {error}", file.display())).hint("athena config show --origin")
}

fn merge(under: &mut toml::Table, over: toml::Table) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(name, value);
            }
        }
    }
}

/// Where things lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The store: log, keys, projections, blobs.
    pub store: PathBuf,
    /// Settings and upstream configuration.
    pub config: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
}

impl Folders {
    /// The folders of one store. With `--store DIR` or `ATHENA_STORE` everything lies in `DIR`; else XDG's places.
    ///
    /// # Errors
    /// When there is neither a home folder nor a given store.
    pub fn find(store: Option<PathBuf>, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Refusal> {
        if let Some(store) = store.or_else(|| env("ATHENA_STORE")) {
            let runtime = env("XDG_RUNTIME_DIR").map_or_else(|| store.join("run"), |dir| dir.join("athena"));
            return Ok(Self { config: store.clone(), runtime, store });
        }
        let home = env("HOME").ok_or_else(|| {
            Refusal::invalid("there is no home folder to keep a store in")
                .hint("--store DIR, or set ATHENA_STORE")
        })?;
        let under =
            |name: &str, default: &str| env(name).unwrap_or_else(|| home.join(default)).join("athena");
        let store = under("XDG_DATA_HOME", ".local/share");
        let runtime = env("XDG_RUNTIME_DIR")
            .map_or_else(|| under("XDG_STATE_HOME", ".local/state"), |dir| dir.join("athena"));
        Ok(Self { config: under("XDG_CONFIG_HOME", ".config"), runtime, store })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_file_wins_field_by_field() {
        let dir = tempfile::tempdir().unwrap();
        let (user, near) = (dir.path().join("config.toml"), dir.path().join("athena.toml"));
        std::fs::write(&user, "[sandbox]\npreset = \"conservative\"\nwarm = 4\n").unwrap();
        std::fs::write(&near, "[sandbox]\nwarm = 1\n").unwrap();
        let config = Config::load(&[user, near]).unwrap();
        assert_eq!((config.sandbox.preset.as_str(), config.sandbox.warm), ("conservative", 1));
        assert_eq!(config.daemon, Daemon::default());
    }

    #[test]
    fn an_unknown_field_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("athena.toml");
        std::fs::write(&file, "[sandbox]\nwarmth = 1\n").unwrap();
        let refusal = Config::load(std::slice::from_ref(&file)).unwrap_err();
        assert!(refusal.message.contains("warmth"), "{refusal}");
    }

    #[test]
    fn a_folder_does_not_say_where_memories_are_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (user, near) = (dir.path().join("config.toml"), dir.path().join("athena.toml"));
        let model = "[consolidation.model]\nkind = \"ollama\"\nurl = \"http://127.0.0.1:11434\"\n";
        std::fs::write(&near, model).unwrap();
        let refusal = Config::load(&[user.clone(), near.clone()]).unwrap_err();
        assert!(refusal.message.contains("athena.toml") && refusal.hint.contains("config.toml"), "{refusal}");
        std::fs::rename(&near, &user).unwrap();
        let config = Config::load(&[user, near]).unwrap();
        assert_eq!(
            (config.consolidation.model.kind.as_str(), config.consolidation.model.calls),
            ("ollama", 10)
        );
        assert!(Config::default().consolidation.model.kind.is_empty());
    }

    #[test]
    fn one_store_folder_holds_everything() {
        let folders = Folders::find(Some("/s".into()), |_| None).unwrap();
        assert_eq!(folders.config, PathBuf::from("/s"));
        assert_eq!(folders.runtime, PathBuf::from("/s/run"));
    }
}
