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
        let text = |name: &str| read(&dir.join(name));
        left(&text("memory.max")?, &text("memory.current")?, &text("memory.stat").unwrap_or_default())
    });
    host.min(group.unwrap_or(u64::MAX))
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What a control group may still take, of its files `memory.max`, `memory.current` and `memory.stat`; `None` without a
/// limit. Page cache counts as used, but the kernel gives it up before it refuses memory: a group that has just built an
/// image looks full of it.
fn left(max: &str, current: &str, stat: &str) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let freed = |line: &str| match line.split_once(' ')? {
        ("inactive_file" | "slab_reclaimable", bytes) => number(bytes),
        _ => None,
    };
    let freed = stat.lines().filter_map(freed).fold(0, u64::saturating_add);
    Some(number(max)?.saturating_sub(number(current)?.saturating_sub(freed)))
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

    #[test]
    fn a_groups_page_cache_is_no_use_of_memory() {
        let stat = "anon 100\nfile 700\ninactive_anon 9\ninactive_file 600\nslab_reclaimable 50\nslab 60\n";
        assert_eq!(left("1000\n", "900\n", stat), Some(750));
        assert_eq!(left("1000\n", "900\n", "inactive_file x\nslab_reclaimable\n"), Some(100));
        assert_eq!(left("1000\n", "600\n", stat), Some(1000), "numbers of different moments do not underflow");
        assert_eq!(left("800\n", "900\n", ""), Some(0));
        assert_eq!(left("max\n", "900\n", stat), None);
    }
}
