//! How much memory the process may have, and how much it has. Whoever passes the limit of a control group is killed without a
//! word, so the process turns clients away a little before.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::proxy::{Admission, Memory};

/// How often memory is looked at.
const PERIOD: Duration = Duration::from_millis(250);
/// Above this part of the limit idle connections are closed …
const SCARCE: f64 = 0.85;
/// … above this, requests are turned away …
const SHORT: f64 = 0.9;
/// … and below this everything is as before. Apart from the first, so that closed connections that come again do not change it.
const ENOUGH: f64 = 0.8;
/// The part of the limit that bodies may have which are kept to be sent again.
const BODIES: u64 = 4;
/// The same without a limit, in bytes.
const BODIES_WITHOUT_LIMIT: u64 = 64 << 20;
/// A piece of memory that no allocator keeps for the next who wants one, in bytes. It is never touched.
const HUGE: usize = 16 << 20;
/// Where version 1 of control groups has no limit, it says the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

/// The limit in force, in bytes, if there is one: what was asked for (0: none), or what the control group has.
pub(super) fn limit(asked: Option<u64>) -> Option<u64> {
    match asked {
        Some(bytes) => Some(bytes).filter(|bytes| *bytes > 0),
        None => of_control_group(Path::new("/")),
    }
}

/// How many bytes of bodies may be kept.
pub(super) fn for_bodies(limit: Option<u64>) -> u64 {
    limit.map_or(BODIES_WITHOUT_LIMIT, |bytes| bytes / BODIES)
}

/// Tells the workers how much of `limit` is in use, for as long as the process lives.
///
/// # Errors
/// There is no thread.
pub(super) fn watch(limit: u64, admission: Arc<Admission>) -> io::Result<()> {
    let look = move || {
        let mut memory = Memory::Enough;
        loop {
            if let Some(bytes) = resident() {
                let now = level(memory, bytes, limit);
                if now != memory {
                    report(now, bytes, limit);
                }
                memory = now;
                admission.set_memory(memory);
                if memory != Memory::Enough {
                    give_back();
                }
            }
            thread::sleep(PERIOD);
        }
    };
    thread::Builder::new().name("serin-memory".to_owned()).spawn(look).map(drop)
}

/// Makes the allocator give back to the system what is free. It does so a second after memory was freed, but only when some more
/// is; where nobody does anything, this does.
fn give_back() {
    drop(black_box(Vec::<u8>::with_capacity(HUGE)));
}

fn level(before: Memory, resident: u64, limit: u64) -> Memory {
    let share = resident as f64 / limit as f64;
    match before {
        _ if share > SHORT => Memory::Short,
        _ if share <= ENOUGH => Memory::Enough,
        Memory::Short if share > SCARCE => Memory::Short,
        Memory::Enough if share <= SCARCE => Memory::Enough,
        _ => Memory::Scarce,
    }
}

fn report(memory: Memory, resident: u64, limit: u64) {
    let of = format!("{} of {} MiB of memory are in use", resident >> 20, limit >> 20);
    match memory {
        Memory::Enough => tracing::info!("{of}: everybody is served again"),
        Memory::Scarce => tracing::warn!("{of}: idle connections are closed"),
        Memory::Short => tracing::warn!("{of}: new requests are turned away"),
    }
}

/// The memory that the process has, in bytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The smallest limit of this process' control groups and those around them. `root` is where `/proc` and `/sys` are.
fn of_control_group(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounted = root.join("sys/fs/cgroup");
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers.is_empty() {
            return smallest(&mounted, path, "memory.max");
        }
        let has_memory = controllers.split(',').any(|one| one == "memory");
        has_memory.then(|| smallest(&mounted.join("memory"), path, "memory.limit_in_bytes")).flatten()
    });
    limits.min()
}

/// The smallest number in the files of this name from a group up to where groups are mounted. In a container, the group's own path
/// may be one of the host, of which only the last step is there.
fn smallest(mounted: &Path, path: &str, file: &str) -> Option<u64> {
    let group: PathBuf = mounted.join(path.trim_start_matches('/'));
    let folders = group.ancestors().take_while(|folder| folder.starts_with(mounted));
    let read = |folder: &Path| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    folders.filter_map(read).filter(|bytes| *bytes < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_turned_away_above_the_limit_until_there_is_room_again() {
        let mut memory = Memory::Enough;
        let seen: Vec<_> = [850, 851, 900, 901, 860, 851, 850, 801, 800, 850, 900]
            .map(|resident| {
                memory = level(memory, resident, 1000);
                memory
            })
            .into();
        use Memory::{Enough, Scarce, Short};
        let down = [Short, Short, Short, Scarce, Scarce, Enough, Enough, Scarce];
        assert_eq!((&seen[..3], &seen[3..]), (&[Enough, Scarce, Scarce][..], &down[..]));
    }

    #[test]
    fn what_was_asked_for_goes_before_the_control_group() {
        assert_eq!(limit(Some(1 << 30)), Some(1 << 30));
        assert_eq!(limit(Some(0)), None);
        assert_eq!((for_bodies(Some(1 << 30)), for_bodies(None)), (1 << 28, 64 << 20));
    }

    #[test]
    fn the_process_has_memory() {
        assert!((1 << 20..1 << 40).contains(&resident().unwrap()));
    }

    /// A machine with these files.
    fn machine(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", groups);
        files.iter().for_each(|(path, text)| write(&format!("sys/fs/cgroup/{path}"), text));
        of_control_group(root.path())
    }

    #[test]
    fn the_limit_of_a_control_group_is_the_smallest_on_the_way_up() {
        let own = ("system.slice/serin.service/memory.max", "1000\n");
        let around = ("system.slice/memory.max", "800\n");
        let unified = "0::/system.slice/serin.service\n";
        assert_eq!(machine(unified, &[own]), Some(1000));
        assert_eq!(machine(unified, &[own, around]), Some(800));
        assert_eq!(machine(unified, &[(own.0, "max\n"), around]), Some(800));
        assert_eq!(machine(unified, &[(own.0, "max\n")]), None);
        assert_eq!(machine("0::/\n", &[("memory.max", "700\n")]), Some(700), "a container's own root");
        assert_eq!(machine("", &[own]), None);
    }

    #[test]
    fn version_1_has_a_folder_for_memory_and_says_no_limit_with_a_number() {
        let groups = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n";
        let own = "memory/docker/abc/memory.limit_in_bytes";
        assert_eq!(machine(groups, &[(own, "5000\n")]), Some(5000));
        assert_eq!(machine(groups, &[("memory/memory.limit_in_bytes", "6000\n")]), Some(6000), "seen from inside");
        assert_eq!(machine(groups, &[(own, "9223372036854771712\n")]), None);
    }
}
