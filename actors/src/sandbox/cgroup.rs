//! A control group for all workers together, where this process may make one: what they use of memory and processors is the
//! machine's to bound, and never the server's to lose.
//!
//! Workers join by being copies of a process that did, so the group costs a run nothing. Each run's own memory is bounded by
//! its engine and its address space; the group bounds their sum, and its fullest worker dies first. Both versions of the
//! kernel's interface are tried; what there is shows in the layers of each worker.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

/// The share of the machine's memory that all workers may have together: one part of this many.
const MEMORY_PART: u64 = 2;
/// The share of processors beside what else runs, in percent of the usual.
const CPU_PERCENT: u64 = 50;

/// A group. Dropping it removes it, once it is empty.
pub(super) struct Group {
    folders: Vec<PathBuf>,
    /// What it bounds.
    pub(super) layers: Vec<&'static str>,
}

impl Group {
    /// A new group; none where the kernel or this process's rights give none.
    pub(super) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("athena-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let memory = memory_total()? / MEMORY_PART;
        let mut group = Self { folders: Vec::new(), layers: Vec::new() };
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
                let file = folder.join(file);
                // Writing would make the file where the kernel has none.
                if file.exists()
                    && fs::write(&file, value.to_string()).is_ok()
                    && !group.layers.contains(&layer)
                {
                    group.layers.push(layer);
                }
            }
            group.folders.push(folder);
        }
        (!group.layers.is_empty()).then_some(group)
    }

    /// Puts a process, and all it will make, into the group.
    pub(super) fn add(&self, pid: libc::pid_t) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // While a worker is dying it is not empty; whoever makes the next group sweeps.
            let _ = fs::remove_dir(folder);
        }
    }
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
            let _ = fs::remove_dir(entry.path());
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

    /// Where a group can be made it bounds, holds a process, and is gone afterwards.
    #[test]
    fn a_group_holds_a_process_and_goes() {
        let Some(group) = Group::new() else { return };
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        group.add(libc::pid_t::try_from(sleeper.id()).unwrap()).unwrap();
        for folder in &group.folders {
            let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
            assert!(inside.lines().any(|pid| pid == sleeper.id().to_string()), "{folder:?}: {inside}");
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let folders = group.folders.clone();
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    }
}
