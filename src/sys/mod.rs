//! The host: the only place that spawns programs, reads the clock or writes files. Every error names the path.
pub mod clock;
pub mod cmd;
pub mod direct;
pub mod entropy;
pub mod fs;
pub mod memory;
pub mod region;
pub mod slot;

/// Seconds of processor time that a process has used, its threads included; `None` when there is no such process.
/// Format: proc_pid_stat(5).
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything; what follows begins with the third field.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = rest.next()?.parse::<u32>().ok()?.checked_add(rest.next()?.parse().ok()?)?;
    // USER_HZ is 100 on every architecture that Linux runs Rust on.
    Some(f64::from(ticks) / 100.0)
}
