//! How much memory there is, and how much a model needs.

use std::fs;
use std::path::Path;

/// Bytes that a process can still take, or `None` where this platform does not say.
pub fn available_bytes() -> Option<u64> {
    let machine = meminfo_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"]
        .iter()
        .filter_map(|folder| group_available(Path::new(folder)))
        .min();
    Some(group.map_or(machine, |group| machine.min(group)))
}

/// What a model of so many weights needs on the CPU, where they are kept in f32: the weights, and
/// for a step at `pixels` about 2 KiB a pixel.
pub fn needed_bytes(parameters: u64, pixels: u64) -> u64 {
    parameters * 4 + pixels * 2048
}

/// `true` where the platform did not say how much there is.
pub fn fits(needed: u64, available: Option<u64>) -> bool {
    available.is_none_or(|available| needed <= available)
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What a container's limit leaves: cgroup v2's files or v1's.
fn group_available(folder: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_available_memory_is_read_in_bytes() {
        let text = "MemTotal:  100 kB\nMemAvailable:   2048 kB\nBuffers: 3 kB\n";
        assert_eq!(meminfo_available(text), Some(2048 * 1024));
        assert_eq!(meminfo_available("MemTotal: 1 kB"), None);
    }

    #[test]
    fn a_containers_limit_counts_less_what_it_uses() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(group_available(folder.path()), None);
        fs::write(folder.path().join("memory.max"), "max\n").unwrap();
        fs::write(folder.path().join("memory.current"), "400\n").unwrap();
        assert_eq!(group_available(folder.path()), None);
        fs::write(folder.path().join("memory.max"), "1000\n").unwrap();
        assert_eq!(group_available(folder.path()), Some(600));
    }
}
