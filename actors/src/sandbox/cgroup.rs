//! Control groups, where this process may make them: one for all workers together, and in it one for each run. What they use of
//! memory and processors is the machine's to bound, and never the server's to lose.
//!
//! The process that workers are copies of stands in a group of its own beside theirs. A run's memory is bounded by its engine, by
//! its address space, and by its group, which counts what the kernel really gave; among each other runs have equal shares of
//! the processors. Both versions of the kernel's interface are tried; what there is shows in the layers of each worker.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

/// The share of the machine's memory that all workers may have together: one part of this many.
const MEMORY_PART: u64 = 2;
/// The share of processors beside what else runs, in percent of the usual.
const CPU_PERCENT: u64 = 50;
/// The layer of a worker in a group of its own.
const RUN: &str = "cgroup-run";

/// A group of groups. Dropping it removes it, once it is empty.
pub(super) struct Group {
    folders: Vec<PathBuf>,
    /// What one run may have of memory, bytes.
    run_bytes: u64,
    made: AtomicU32,
    /// What it bounds.
    pub(super) layers: Vec<&'static str>,
}

impl Group {
    /// A new group, whose runs may have so much memory each; none where the kernel or this process's rights give none.
    pub(super) fn new(run_bytes: u64) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("athena-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let memory = memory_total()? / MEMORY_PART;
        let mut group = Self { folders: Vec::new(), run_bytes, made: AtomicU32::new(0), layers: Vec::new() };
        for place in places(&mounts, &own) {
            sweep(&place);
            let folder = place.join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let bounds = [
                ("cgroup-memory", "memory.max", memory),
                ("cgroup-memory", "memory.limit_in_bytes", memory),
                ("cgroup-cpu", "cpu.weight", CPU_PERCENT),
                ("cgroup-cpu", "cpu.shares", 1024 * CPU_PERCENT / 100),
            ];
            for (layer, file, value) in bounds {
                if bound(&folder, file, value) && !group.layers.contains(&layer) {
                    group.layers.push(layer);
                }
            }
            // The second version bounds groups within a group only where that group says so, and holds no process itself then.
            let _ = fs::write(folder.join("cgroup.subtree_control"), "+memory +cpu");
            group.folders.push(folder);
        }
        (!group.layers.is_empty()).then_some(group)
    }

    /// Puts the process that makes workers into a group of its own, and with it all that it will make.
    pub(super) fn add(&self, pid: libc::pid_t) -> io::Result<()> {
        put(&self.within("zygote")?, pid)
    }

    /// A group for one run; none where its memory cannot be bounded.
    pub(super) fn run(&self) -> Option<Run> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let run = Run { folders: self.within(&format!("run-{number}")).ok()? };
        let bounded = run.folders.iter().any(|folder| {
            bound(folder, "memory.max", self.run_bytes)
                || bound(folder, "memory.limit_in_bytes", self.run_bytes)
        });
        bounded.then_some(run)
    }

    /// The layers of a worker; in a group of its own there is one more.
    pub(super) fn layers(&self, own: bool) -> Vec<&'static str> {
        self.layers.iter().copied().chain(own.then_some(RUN)).collect()
    }

    fn within(&self, name: &str) -> io::Result<Vec<PathBuf>> {
        let folders: Vec<PathBuf> = self.folders.iter().map(|folder| folder.join(name)).collect();
        folders.iter().try_for_each(fs::create_dir)?;
        Ok(folders)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            remove(folder);
        }
    }
}

/// The group of one run. Dropping it ends what is left in it and removes it; after its process was reaped, that is.
pub(super) struct Run {
    folders: Vec<PathBuf>,
}

impl Run {
    /// Puts a process into the group.
    pub(super) fn add(&self, pid: libc::pid_t) -> io::Result<()> {
        put(&self.folders, pid)
    }

    /// Ends every process in it: at once where the kernel can, else one by one.
    fn kill(&self) {
        for folder in &self.folders {
            if bound(folder, "cgroup.kill", 1) {
                continue;
            }
            let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines().filter_map(|pid| pid.parse().ok()) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
        for folder in &self.folders {
            // What was killed just now is still there; whoever removes the whole tries again.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Puts a process into a group.
fn put(folders: &[PathBuf], pid: libc::pid_t) -> io::Result<()> {
    folders.iter().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
}

/// Writes a bound; whether there is such a one. Writing alone would make the file where the kernel has none.
fn bound(folder: &Path, file: &str, value: u64) -> bool {
    let file = folder.join(file);
    file.exists() && fs::write(&file, value.to_string()).is_ok()
}

/// Removes a group and those in it, as far as they are empty.
fn remove(folder: &Path) {
    for inner in fs::read_dir(folder).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir(inner.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// The folders of this process's own groups that may hold one of ours.
fn places(mounts: &str, own: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(1);
        let (Some(folder), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // The second version lists no controllers.
        let wanted = match kind {
            "cgroup2" => "",
            "cgroup" => match options.split(',').find(|option| ["memory", "cpu"].contains(option)) {
                Some(controller) => controller,
                None => continue,
            },
            _ => continue,
        };
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|controller| controller == wanted).then_some(path)
        });
        if let Some(path) = path {
            places.push(Path::new(folder).join(path.trim_start_matches('/')));
        }
    }
    places
}

/// Removes the groups of servers that died.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("athena-")?.split('-').next());
        if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            remove(&entry.path());
        }
    }
}

/// The machine's memory, bytes.
fn memory_total() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn own_groups_are_found_in_both_versions() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice/x\n";
        let found = places(mounts, own);
        let expected = [
            "/sys/fs/cgroup/cpu,cpuacct/",
            "/sys/fs/cgroup/memory/a/b",
            "/sys/fs/cgroup/unified/user.slice/x",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    const MIB: u64 = 1 << 20;

    fn inside(run: &Run, pid: u32) -> bool {
        run.folders.iter().all(|folder| {
            let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
            inside.lines().any(|line| line == pid.to_string())
        })
    }

    /// A group with one for a run in it, or a word that this kernel or these rights give none.
    fn groups(run_bytes: u64) -> Option<(Group, Run)> {
        let made = Group::new(run_bytes).and_then(|group| {
            let run = group.run()?;
            Some((group, run))
        });
        if made.is_none() {
            // Past the capture of the test harness.
            let missing = "control groups cannot be made here: they were NOT tried";
            let mut told = std::io::stderr();
            writeln!(told, "{missing}").unwrap();
        }
        made
    }

    /// Where groups can be made they hold processes, end them, and are gone afterwards.
    #[test]
    fn a_group_holds_a_process_ends_it_and_goes() {
        let Some((group, run)) = groups(64 * MIB) else { return };
        let spawn = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (mut zygote, mut worker) = (spawn(), spawn());
        group.add(libc::pid_t::try_from(zygote.id()).unwrap()).unwrap();
        run.add(libc::pid_t::try_from(worker.id()).unwrap()).unwrap();
        assert!(inside(&run, worker.id()) && !inside(&run, zygote.id()));
        run.kill();
        worker.wait().unwrap();
        assert!(zygote.try_wait().unwrap().is_none(), "the others are not touched");
        drop(run);
        zygote.kill().unwrap();
        zygote.wait().unwrap();
        let folders = group.folders.clone();
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    }

    /// A process that takes all the memory it can get: the kernel ends it, and nobody beside it.
    #[test]
    fn a_run_that_takes_more_memory_than_its_group_has_is_ended_alone() {
        use std::os::unix::process::ExitStatusExt;
        let Some((group, run)) = groups(32 * MIB) else { return };
        let beside = group.run().unwrap();
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        beside.add(libc::pid_t::try_from(sleeper.id()).unwrap()).unwrap();
        let mut hog = std::process::Command::new("tail")
            .arg("/dev/zero")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        run.add(libc::pid_t::try_from(hog.id()).unwrap()).unwrap();
        assert_eq!(hog.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(sleeper.try_wait().unwrap().is_none());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
