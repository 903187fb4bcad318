//! What the operating system says about this process.
//!
//! Read from `/proc` at the moment of a scrape. Nothing decides anything by these figures; where one
//! cannot be read, it is zero.

#![allow(clippy::disallowed_methods)] // `/proc` is not the node's disk, and is never simulated.

use std::fs;

/// The figures of the process and its machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_bytes: u64,
    /// The most it ever had.
    pub resident_bytes_peak: u64,
    pub virtual_bytes: u64,
    pub cpu_user_seconds: f64,
    pub cpu_system_seconds: f64,
    pub open_files: u64,
    pub open_files_max: u64,
    pub threads: u64,
    /// Since the Unix epoch.
    pub start_seconds: f64,
    /// The machine's memory.
    pub machine_memory_bytes: u64,
}

/// The unit of times in `/proc`. A kernel constant (`USER_HZ`) on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (file("/proc/self/stat"), file("/proc/self/status"));
        let boot_seconds = field(&file("/proc/stat"), "btime").unwrap_or_default();
        let kib = |name| field(&status, name).unwrap_or_default() * 1024;
        let seconds = |place| stat_field(&stat, place).unwrap_or_default() as f64 / TICKS_PER_SECOND;
        Self {
            resident_bytes: kib("VmRSS:"),
            resident_bytes_peak: kib("VmHWM:"),
            virtual_bytes: kib("VmSize:"),
            cpu_user_seconds: seconds(14),
            cpu_system_seconds: seconds(15),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            open_files_max: field(&file("/proc/self/limits"), "Max open files").unwrap_or_default(),
            threads: field(&status, "Threads:").unwrap_or_default(),
            start_seconds: boot_seconds as f64 + seconds(22),
            machine_memory_bytes: field(&file("/proc/meminfo"), "MemTotal:").unwrap_or_default() * 1024,
        }
    }
}

/// The kernel's name, release and architecture: `Linux 6.1.0 x86_64`.
#[must_use]
pub fn operating_system() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat`, counted from 1 as in proc(5). The second, the program's name in
/// parentheses, may hold spaces.
fn stat_field(stat: &str, place: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(place - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.resident_bytes <= process.resident_bytes_peak);
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_files > 0 && process.open_files < process.open_files_max);
        assert!(process.threads > 0 && process.machine_memory_bytes > process.resident_bytes);
        assert!(process.start_seconds > 1.6e9, "not in this century: {}", process.start_seconds);
    }

    #[test]
    fn a_program_name_may_hold_anything() {
        let stat = "1 (a) b (c) S 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!(
            (stat_field(stat, 14), stat_field(stat, 15), stat_field(stat, 99)),
            (Some(14), Some(15), None)
        );
    }
}
