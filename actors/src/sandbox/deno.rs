//! The host's Deno as an engine: each worker is made for one run, when that run asks for it, and keeps one Deno
//! (`actors/worker/src/engines/deno`). It is told its place, such as a control group, before it takes its first step.

use super::cgroup::Group;
use super::spawn::{Child, Maker, Reaper, Spawn, Spawned, exec};
use super::zygote::Settings;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Makes workers that keep a Deno.
pub struct Deno(Maker);

impl Deno {
    /// Starts the thread that makes them and the one that reaps them. `program` is a name or a path; it is looked for with each
    /// order until it is found.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn new(settings: Settings, program: String) -> io::Result<Self> {
        let reaper = Reaper::start()?;
        let mut nursery = Nursery { settings, program, reaper, found: None, group: None };
        Maker::start(move || nursery.worker()).map(Self)
    }
}

impl Spawn for Deno {
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>> {
        self.0.spawn()
    }
}

/// What the thread holds.
struct Nursery {
    settings: Settings,
    program: String,
    reaper: Reaper,
    /// The program with its loader and libraries, as a worker takes them.
    found: Option<String>,
    group: Option<Arc<Group>>,
}

impl Nursery {
    fn worker(&mut self) -> io::Result<Spawned> {
        let found = match &self.found {
            Some(found) => found,
            None => self.found.insert(linked(&self.program)?),
        };
        if self.group.is_none() {
            self.group = self.settings.grouped.and_then(Group::new).map(Arc::new);
        }
        let mut arguments = self.settings.arguments.clone();
        arguments.extend(["--deno".to_owned(), found.clone()]);
        let (mut ours, theirs) = UnixStream::pair()?;
        let pid = exec(theirs.as_raw_fd(), &arguments)?;
        drop(theirs);
        let child = Child::new(pid, &self.reaper);
        let own = self.group.as_ref().and_then(|group| group.run().filter(|own| own.add(pid).is_ok()));
        let layers = self.group.as_ref().map_or_else(Vec::new, |group| match &own {
            Some(_) => group.layers(true),
            // Outside of the group's bounds.
            None => Vec::new(),
        });
        // It stands where it shall: now it may go on.
        ours.write_all(&[1])?;
        Ok(Spawned { socket: ours, process: Box::new(child.keeping((own, self.group.clone()))), layers })
    }
}

/// A program of this name with its loader and the libraries it is linked with: `PROGRAM:LOADER:LIBRARY:…`.
fn linked(program: &str) -> io::Result<String> {
    let file = located(program).ok_or_else(|| {
        io::Error::other(format!("there is no {program}; install Deno, or name it in sandbox.deno"))
    })?;
    let shown = file.display();
    // The loader lists what it would load and loads nothing. A script has none, and must not be run to find out.
    let mut head = [0; 4];
    std::io::Read::read_exact(&mut std::fs::File::open(&file)?, &mut head)?;
    if head != *b"\x7fELF" {
        let why = "is a script; name the program itself, such as node_modules/@deno/linux-x64-glibc/deno";
        return Err(io::Error::other(format!("{shown} {why}")));
    }
    let told = Command::new(&file)
        .env_clear()
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let told = String::from_utf8(told.stdout).map_err(io::Error::other)?;
    let paths = told.split_whitespace().filter(|word| word.starts_with('/') && !word.contains(':'));
    let (libraries, loader): (Vec<&str>, Vec<&str>) = paths.partition(|path| !path.contains("/ld-"));
    let (Some(file), [loader]) = (file.to_str().filter(|path| !path.contains(':')), loader.as_slice()) else {
        return Err(io::Error::other(format!("{shown} is no program that its loader can be told of")));
    };
    Ok([&[file, loader], libraries.as_slice()].concat().join(":"))
}

/// The file of a program: a path, or a name on the search path.
fn located(program: &str) -> Option<PathBuf> {
    let file = |path: &Path| path.canonicalize().ok().filter(|path| path.is_file());
    if program.contains('/') {
        return file(Path::new(program));
    }
    std::env::split_paths(&std::env::var_os("PATH")?).find_map(|folder| file(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("deno");
        std::fs::write(&script, "#!/bin/sh\ntouch ran").unwrap();
        for (program, why) in [
            ("/nonexistent/deno", "name it in sandbox.deno"),
            ("no-such-program-anywhere", "name it in sandbox.deno"),
            (script.to_str().unwrap(), "is a script"),
        ] {
            let error = linked(program).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_program_comes_with_its_loader_and_libraries() {
        let found = linked("sh").unwrap();
        let parts: Vec<&str> = found.split(':').collect();
        assert!(parts[1].contains("/ld-") && parts[2..].iter().any(|path| path.contains("libc")), "{found}");
        assert!(parts.iter().all(|path| Path::new(path).exists()), "{found}");
    }

    /// The test binary takes the worker's argument for a filter and runs no test: there is no Deno in it.
    #[tokio::test]
    async fn without_a_deno_there_is_no_worker() {
        let deno = Deno::new(Settings::default(), "/nonexistent/deno".into()).unwrap();
        assert!(deno.spawn().await.unwrap().is_err());
    }
}
