//! Types before the run: TypeScript's own compiler over the code, the tools' generated files and the sandbox's globals.
//!
//! The compiler is the host's and stands outside the jail, so it is given nothing to go astray with: it emits nothing and runs
//! nothing, resolves no import to a file beyond those made here (`noResolve`), has an empty environment but for `PATH`, lives in
//! a folder that goes with it, and is killed with all it started when its time is up or nobody waits any more.

mod said;

use crate::toolbox::Toolbox;
use athena_actors::run::parts::Types;
use athena_schemas::context::Context;
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::surface::Tool;
use athena_schemas::wire::Fault;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// What is looked for where the settings name no compiler: the native one first.
const NAMES: [&str; 2] = ["tsgo", "tsc"];
/// The code's file.
const RUN: &str = "run.ts";
/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a compiler may have to say, bytes; the rest is not read.
const SAID_MAX: u64 = 1 << 20;

/// Checks types with the compiler of the host.
pub(crate) struct Checker {
    toolbox: Arc<Toolbox>,
    program: String,
    always: bool,
}

impl Checker {
    /// A checker of code against these tools. `program` is a name or a path; empty for whatever is found. With `always` also
    /// code is checked that nobody asked to.
    pub(crate) fn new(toolbox: Arc<Toolbox>, program: String, always: bool) -> Self {
        Self { toolbox, program, always }
    }
}

impl Types for Checker {
    fn always(&self) -> bool {
        self.always
    }

    fn check<'a>(&'a self, cx: &'a Context, code: &'a str) -> BoxFuture<'a, Result<Option<Fault>, Refusal>> {
        Box::pin(async move {
            let program = find(&self.program)?;
            let (tools, sources) = self.toolbox.sources(cx);
            let code = code.to_owned();
            let folder = tokio::task::spawn_blocking(move || lay_out(&tools, &sources, &code))
                .await
                .map_err(|error| Refusal::internal(format!("the types could not be laid out: {error}")))?
                .map_err(|error| failed(&format!("its files could not be written: {error}")))?;
            let said = ask(&program, folder.path(), PATIENCE).await?;
            said::errors(&said, folder.path())
        })
    }
}

/// The compiler.
///
/// # Errors
/// Where there is none.
pub(crate) fn find(program: &str) -> Result<PathBuf, Refusal> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let wanted = if program.is_empty() { NAMES.as_slice() } else { &[program] };
    let found = wanted.iter().find_map(|name| match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
        false => places.iter().map(|place| place.join(name)).find(|path| path.is_file()),
    });
    found.ok_or_else(|| {
        let missing = match wanted {
            [one] => format!("there is no {one}"),
            names => format!("there is neither {}", names.join(" nor ")),
        };
        Refusal::new(Code::Unavailable, format!("types cannot be checked: {missing}"))
            .at("check")
            .hint("npm install --global typescript, or name a compiler in sandbox.checker; without `check` code runs unchecked")
    })
}

/// The compiler's settings. It may not look for anything by itself.
fn settings(files: &[String]) -> Value {
    json!({
        "compilerOptions": {
            "noEmit": true,
            "strict": true,
            "noResolve": true,
            "types": [],
            "lib": ["esnext"],
            "target": "esnext",
            "module": "preserve",
            "moduleResolution": "bundler",
            "moduleDetection": "force",
            "allowImportingTsExtensions": true,
            "allowUnreachableCode": true,
            "allowUnusedLabels": true,
            "skipLibCheck": true,
            "paths": { "/mcp-servers/*": ["./mcp-servers/*"], "/skills/*": ["./skills/*"] },
        },
        "files": files,
    })
}

/// Writes everything that the compiler is to see.
fn lay_out(tools: &[Tool], sources: &[(String, String)], code: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("athena-types-").tempdir()?;
    let mut files = vec![RUN.to_owned(), "globals.d.ts".to_owned(), "tools.d.ts".to_owned()];
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write(RUN, code)?;
    write("globals.d.ts", include_str!("globals.d.ts"))?;
    write("tools.d.ts", &globals(tools))?;
    for (path, source) in sources {
        let name = path.trim_start_matches('/');
        if let Some(parent) = Path::new(name).parent() {
            std::fs::create_dir_all(folder.path().join(parent))?;
        }
        write(name, source)?;
        files.push(name.to_owned());
    }
    write("tsconfig.json", &settings(&files).to_string())?;
    Ok(folder)
}

/// The type of a name that code finds.
enum Named {
    /// As it is written.
    Type(String),
    /// An object of names.
    Object(Names),
}

type Names = BTreeMap<String, Named>;

/// The tools as code names them without an import: `athena.semantic.search` has the type of its file's function.
pub(crate) fn globals(tools: &[Tool]) -> String {
    let mut names = Names::new();
    for tool in tools {
        let file = json!(format!(".{}.ts", tool.path()));
        let global = tool.global();
        let path: Vec<&str> = global.split('.').collect();
        put(&mut names, &path, format!("typeof import({file}).{}", tool.function()));
    }
    names.iter().map(|(name, named)| format!("declare const {name}: {};\n", written(named))).collect()
}

/// Puts a type at its path.
fn put(names: &mut Names, path: &[&str], of: String) {
    match path {
        [] => {}
        [name] => drop(names.insert((*name).to_owned(), Named::Type(of))),
        [name, rest @ ..] => {
            let inner = names.entry((*name).to_owned()).or_insert_with(|| Named::Object(Names::new()));
            if let Named::Object(inner) = inner {
                put(inner, rest, of);
            }
        }
    }
}

fn written(named: &Named) -> String {
    match named {
        Named::Type(written) => written.clone(),
        Named::Object(names) => {
            let members: Vec<String> = names
                .iter()
                .map(|(name, below)| format!("readonly {}: {}", json!(name), written(below)))
                .collect();
            format!("{{ {} }}", members.join("; "))
        }
    }
}

/// What the compiler says about what lies in the folder, if it says so within `patience`.
async fn ask(program: &Path, folder: &Path, patience: Duration) -> Result<String, Refusal> {
    let mut child = tokio::process::Command::new(program)
        .args(["--project", "tsconfig.json", "--pretty", "false"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // npm's `tsc` is a script that starts the compiler: they end together.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&format!("{} does not start: {error}", program.display())))?;
    let _group = Group(child.id());
    let mut said = Vec::new();
    let out = child.stdout.take();
    let read = async {
        if let Some(out) = out {
            out.take(SAID_MAX).read_to_end(&mut said).await?;
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(patience, read)
        .await
        .map_err(|_| {
            Refusal::new(
                Code::LimitExceeded,
                format!("the check of types took more than {} s", patience.as_secs_f32()),
            )
            .at("check")
            .hint("run it without `check`, or simplify its types")
        })?
        .map_err(|error| failed(&format!("{} broke off: {error}", program.display())))?;
    // 1 and 2 are "there are errors"; TypeScript's ExitStatus.
    match ended.code() {
        Some(0..=2) => Ok(String::from_utf8_lossy(&said).into_owned()),
        _ => Err(failed(&format!("{} ended with {ended}", program.display()))),
    }
}

/// A process and all it started; dropping it ends them.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(leader),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn failed(what: &str) -> Refusal {
    Refusal::new(Code::Unavailable, format!("types cannot be checked: {what}"))
        .at("check")
        .hint("athena sandbox doctor; without `check` code runs unchecked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A compiler that hangs, and that has started something which hangs as well.
    #[tokio::test]
    async fn a_check_that_does_not_end_is_ended_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tsc");
        let told = folder.path().join("pids");
        let script = format!("#!/bin/sh\nsleep 600 &\necho $$ $! > {}\nwait\n", told.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let refusal = ask(&program, folder.path(), Duration::from_millis(1500)).await.unwrap_err();
        assert_eq!(
            (refusal.code, refusal.path.as_deref()),
            (Code::LimitExceeded, Some("check")),
            "{refusal}"
        );
        assert!(refusal.message.contains("more than 1.5 s"), "{refusal}");
        // Killed, and reaped by whoever has it by now.
        let gone = |pid: &str| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let pids = std::fs::read_to_string(&told).unwrap_or_default();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !pids.split_whitespace().all(gone) {
            assert!(std::time::Instant::now() < deadline, "{pids} are still there");
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_compiler_that_is_not_there_is_said_with_a_way_to_get_one() {
        let refusal = find("/nonexistent/tsc").unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable);
        assert!(
            refusal.message.contains("/nonexistent/tsc") && refusal.hint.contains("npm install"),
            "{refusal}"
        );
    }
}
