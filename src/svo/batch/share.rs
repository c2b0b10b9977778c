// SPDX-License-Identifier: MPL-2.0

//! How many conversions run at once, and how many threads each of them has.

use std::path::Path;
use std::thread::available_parallelism;

use super::tool::Takes;

/// What one conversion may need: the pictures of 1920x1200 that x265 looks at ahead, a decoder's, and what lies between.
const MEMORY_OF_ONE: u64 = 1 << 30;
/// Of a segment, all cameras are decoded at once: four, mostly.
const MEMORY_OF_A_SEGMENT: u64 = 4 * MEMORY_OF_ONE;

/// The cores that this process may use.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that programs could have without anything being written to the disk for it, and within the limits of
/// this process's control groups (version 2), as a container has them; `None` where the system does not tell.
pub fn available_memory() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibi: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limit = within_groups(Path::new("/sys/fs/cgroup"), own);
    Some(limit.map_or(kibi << 10, |limit| limit.min(kibi << 10)))
}

/// What the limits of a control group, by its path below `root`, and of those that it is in leave; `None` without any.
fn within_groups(root: &Path, own: &str) -> Option<u64> {
    let group = root.join(own);
    let left = |folder: &Path| {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        // Of one that is not limited, it is "max".
        let limit: u64 = read("memory.max")?.trim().parse().ok()?;
        // What the system keeps of files on disks is given back when it is needed.
        let used = read("memory.stat").unwrap_or_default();
        let kept = |line: &str| {
            let bytes = line.strip_prefix("anon ").or_else(|| line.strip_prefix("shmem "))?;
            bytes.parse::<u64>().ok()
        };
        Some(limit.saturating_sub(used.lines().filter_map(kept).sum()))
    };
    group.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left).min()
}

/// One a core, since two encoders of one thread do more than one of two; but no more than there is memory for.
pub fn jobs(takes: Takes, cores: usize, memory: Option<u64>) -> usize {
    let need = match takes {
        Takes::Recordings => MEMORY_OF_ONE,
        Takes::Segments => MEMORY_OF_A_SEGMENT,
    };
    let by_memory = memory.map_or(usize::MAX, |bytes| (bytes / need) as usize);
    cores.min(by_memory).max(1)
}

/// Threads for each of so many encoders. `None`: it has the machine for itself, and chooses.
pub fn threads(cores: usize, jobs: usize) -> Option<usize> {
    (jobs > 1).then(|| (cores / jobs).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_shared() {
        assert_eq!(jobs(Takes::Segments, 8, None), 8);
        assert_eq!(jobs(Takes::Recordings, 8, Some(5 << 30)), 5);
        assert_eq!(jobs(Takes::Segments, 8, Some(9 << 30)), 2);
        assert_eq!(jobs(Takes::Recordings, 8, Some(1 << 20)), 1, "slowly, but it works");
        assert_eq!([1, 2, 3, 8, 20].map(|jobs| threads(8, jobs)), [None, Some(4), Some(2), Some(1), Some(1)]);
    }

    #[test]
    fn the_narrowest_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("outer/inner");
        std::fs::create_dir_all(&group).unwrap();
        let within = || within_groups(root.path(), "outer/inner");
        assert_eq!(within(), None);
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(within(), None);
        std::fs::write(root.path().join("outer/memory.max"), "4000\n").unwrap();
        std::fs::write(root.path().join("outer/memory.stat"), "file 3000\nanon 400\nshmem 100\nanon_thp 0\n")
            .unwrap();
        assert_eq!(within(), Some(3500));
        std::fs::write(group.join("memory.max"), "600\n").unwrap();
        assert_eq!(within(), Some(600));
    }

    #[test]
    fn the_system_tells_of_its_memory() {
        assert!(available_memory().is_some());
        assert!(cores() >= 1);
    }
}
