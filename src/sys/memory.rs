//! How much memory the host has to give.

use std::path::Path;

/// Bytes that programs can still take without the host swapping: what the kernel says, or what this process's control
/// group leaves, whichever is less. `u64::MAX` where neither says anything.
#[must_use]
pub fn available() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let host = read(Path::new("/proc/meminfo")).and_then(|text| meminfo(&text)).unwrap_or(u64::MAX);
    let group = read(Path::new("/proc/self/cgroup")).and_then(|text| {
        // Version 2 has one line, `0::/path`.
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let dir = Path::new("/sys/fs/cgroup").join(path);
        let number = |name: &str| read(&dir.join(name))?.trim().parse::<u64>().ok();
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    });
    host.min(group.unwrap_or(u64::MAX))
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_counts_in_kibibytes() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:     2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        assert!(available() > 0);
    }
}
