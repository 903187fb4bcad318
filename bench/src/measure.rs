//! What the kernel and the servers themselves count, before and after a run; and the machine.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::load::Tally;
use crate::server::{Node, Service};

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Successful operations a second.
    pub throughput: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Where the load generator tells it.
    pub p999_us: Option<f64>,
    /// User and system time of each server process for an operation, the leader's first.
    pub cpu_us: Vec<f64>,
    /// Bytes that went to the disk for an operation, where its device can be told.
    pub disk_bytes: Option<f64>,
    /// What the kernel puts down as written by all server processes, for an operation. Since Linux 6.16, ext4
    /// keeps files in large folios, and one that gets dirty counts as a whole: up to a hundred times of what
    /// goes to the disk.
    pub accounted_bytes: f64,
    /// How often all nodes together made their logs durable, a second; where the server counts that.
    pub syncs: Option<f64>,
    /// The most memory that each process had in use since it was started.
    pub memory_bytes: Vec<f64>,
    /// Operations that failed, and how the first one did.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Figures {
    /// User and system time of all server processes for an operation.
    #[must_use]
    pub fn cpu_us_sum(&self) -> f64 {
        self.cpu_us.iter().sum()
    }

    /// The most memory that any process had in use.
    #[must_use]
    pub fn memory_bytes_max(&self) -> f64 {
        self.memory_bytes.iter().copied().fold(0.0, f64::max)
    }
}

/// What a load came to, as its generator tells it.
#[derive(Debug)]
pub struct Outcome {
    /// Operations that succeeded.
    pub done: f64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: Option<f64>,
    /// Operations that failed, and how the first one did.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl From<Tally> for Outcome {
    fn from(Tally { replies, elapsed, latency }: Tally) -> Self {
        Self {
            done: (replies.count - replies.errors) as f64,
            seconds: elapsed.as_secs_f64(),
            p50_us: latency.percentile_us(50.0),
            p99_us: latency.percentile_us(99.0),
            p999_us: Some(latency.percentile_us(99.9)),
            errors: replies.errors,
            first_error: replies.first_error,
        }
    }
}

/// Runs `load` and finds what it cost the servers, which have their data on `disk`.
pub fn during(
    service: Service,
    nodes: &[&Node],
    disk: &Disk,
    load: impl FnOnce() -> Result<Outcome>,
) -> Result<Figures> {
    // What takes longer to ask for is farther from the run.
    let syncs_before = syncs(service, nodes)?;
    let disk_before = disk.written_bytes();
    let before = usages(nodes)?;
    let outcome = load()?;
    let after = usages(nodes)?;
    let disk_after = disk.written_bytes();
    let syncs_after = syncs(service, nodes)?;

    let Outcome { done, seconds, p50_us, p99_us, p999_us, errors, first_error } = outcome;
    ensure!(done > 0.0, "no request succeeded: {first_error:?}");
    let used = before.iter().zip(&after);
    Ok(Figures {
        throughput: done / seconds,
        p50_us,
        p99_us,
        p999_us,
        cpu_us: used.clone().map(|(before, after)| (after.cpu_us - before.cpu_us) / done).collect(),
        disk_bytes: disk_before.zip(disk_after).map(|(before, after)| (after - before) / done),
        accounted_bytes: used
            .map(|(before, after)| (after.accounted_bytes - before.accounted_bytes) / done)
            .sum(),
        syncs: syncs_before.zip(syncs_after).map(|(before, after)| (after - before) / seconds),
        memory_bytes: after.iter().map(|usage| usage.memory_bytes).collect(),
        errors,
        first_error,
    })
}

/// The processor time that the process has used so far.
pub fn cpu(pid: u32) -> Result<Duration> {
    Ok(Duration::from_secs_f64(usage(pid)?.cpu_us / 1e6))
}

/// A figure of /proc/PID/status in bytes: `VmRSS`, `RssAnon`, `VmHWM`.
pub fn memory(pid: u32, name: &str) -> Result<f64> {
    Ok(compat_tests::cluster::memory_bytes(pid, name)? as f64)
}

fn syncs(service: Service, nodes: &[&Node]) -> Result<Option<f64>> {
    nodes.iter().map(|node| node.syncs(service)).sum()
}

fn usages(nodes: &[&Node]) -> Result<Vec<Usage>> {
    nodes.iter().map(|node| usage(node.pid())).collect()
}

/// What a process has used since it was started.
struct Usage {
    cpu_us: f64,
    accounted_bytes: f64,
    memory_bytes: f64,
}

fn usage(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("{path}: the server has ended?"))
    };
    let ticks = cpu_ticks(&read("stat")?).with_context(|| format!("/proc/{pid}/stat"))?;
    let accounted = field(&read("io")?, "write_bytes").with_context(|| format!("/proc/{pid}/io"))?;
    let memory = field(&read("status")?, "VmHWM").with_context(|| format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu_us: ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64,
        accounted_bytes: accounted,
        memory_bytes: memory * 1024.0,
    })
}

/// User and system time in /proc/PID/stat, in ticks: of the process and of its children that have ended, for
/// redis-server rewrites its log in a child.
fn cpu_ticks(stat: &str) -> Option<f64> {
    // The name in parentheses may contain anything. After it: the state, and from the twelfth field on,
    // utime, stime, cutime, cstime.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 4).then(|| ticks.iter().sum())
}

/// The number of a line `name: number unit`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The block device that has a directory.
#[derive(Debug)]
pub struct Disk {
    /// The kernel's counts for it.
    counts: PathBuf,
}

impl Disk {
    /// The device of `directory`. Some file systems hide theirs; then nothing will be counted.
    pub fn of(directory: &Path) -> Result<Self> {
        let device = fs::metadata(directory)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Self { counts: format!("/sys/dev/block/{major}:{minor}/stat").into() })
    }

    /// Bytes written to it so far, by anyone.
    fn written_bytes(&self) -> Option<f64> {
        written_sectors(&fs::read_to_string(&self.counts).ok()?).map(|sectors| sectors * 512.0)
    }
}

/// The seventh count: sectors of 512 bytes, whatever the device's own are.
fn written_sectors(counts: &str) -> Option<f64> {
    counts.split_whitespace().nth(6)?.parse().ok()
}

/// Where and when it was measured.
#[derive(Debug)]
pub struct Machine {
    pub date: String,
    pub commit: Option<String>,
    pub cores: usize,
    pub processor: String,
    pub memory_bytes: u64,
    pub kernel: String,
    pub filesystem: String,
    /// Median time of fdatasync after an overwrite of 4 KiB.
    pub fdatasync_us: f64,
    /// Before we began. Others at work on the same machine make every figure worse.
    pub load_average: f64,
}

impl Machine {
    /// Describes this machine, with the disk on which `directory` is.
    pub fn describe(directory: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor = processor.lines().find(|line| line.starts_with("model name"));
        let load_average = read("/proc/loadavg").split(' ').next().and_then(|first| first.parse().ok());
        Ok(Self {
            date: utc(SystemTime::now()),
            commit: commit(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor
                .and_then(|line| Some(line.split_once(": ")?.1.to_owned()))
                .unwrap_or_default(),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default() as u64 * 1024,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            filesystem: filesystem(directory)?,
            fdatasync_us: fdatasync_us(directory)?,
            load_average: load_average.unwrap_or_default(),
        })
    }

    /// Whether what is written to the described directory reaches no disk.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        ["tmpfs", "ramfs"].contains(&self.filesystem.as_str())
    }

    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "date": self.date,
            "commit": self.commit,
            "cores": self.cores,
            "processor": self.processor,
            "memory_bytes": self.memory_bytes,
            "kernel": self.kernel,
            "filesystem": self.filesystem,
            "fdatasync_p50_us": self.fdatasync_us,
            "load_average_before": self.load_average,
        })
    }
}

/// The type of the file system that has `directory`.
fn filesystem(directory: &Path) -> Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(filesystem_in(&mounts, &directory).unwrap_or("unknown").to_owned())
}

fn filesystem_in<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let around = mounts.filter(|(point, _)| directory.starts_with(point));
    // The longest is the innermost; of several at one place, the last one hides the others.
    around.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

/// The median time of fdatasync after a block of a file that has its size already was overwritten.
fn fdatasync_us(directory: &Path) -> Result<f64> {
    const BLOCK: [u8; 4096] = [b'x'; 4096];
    const BLOCKS: u64 = 64;
    const TIMES: u64 = 200;
    const PATIENCE: Duration = Duration::from_secs(3);
    let path = directory.join("fdatasync");
    let file = File::create(&path)?;
    for block in 0..BLOCKS {
        file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let begin = Instant::now();
    let mut micros = Vec::new();
    for i in 0..TIMES {
        file.write_all_at(&BLOCK, i % BLOCKS * BLOCK.len() as u64)?;
        let start = Instant::now();
        file.sync_data()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        if begin.elapsed() > PATIENCE {
            break;
        }
    }
    fs::remove_file(&path)?;
    Ok(crate::report::median(micros))
}

/// The commit of the sources, if git knows, and whether they differ from it.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}

/// `2026-11-22T18:05:09Z`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days: years begin in March, so that leap days are at their ends.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) 9 (b) S 1 7 7 0 -1 4194304 100 0 0 0 11 22 3 4 20 0 1 0 414718 3133440 360";
        assert_eq!(cpu_ticks(stat), Some(40.0));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let io = "rchar: 1\ncancelled_write_bytes: 2\nwrite_bytes: 4096\n";
        assert_eq!(field(io, "write_bytes"), Some(4096.0));
        assert_eq!(field("VmHWM:\t    1772 kB\n", "VmHWM"), Some(1772.0));
        assert_eq!(field(io, "wchar"), None);
    }

    #[test]
    fn sectors_are_the_seventh_count() {
        let counts = "  104 14 2008 30   71 3 4444 92  0 100 122 0 0 0 0 0 0\n";
        assert_eq!(written_sectors(counts), Some(4444.0));
        assert_eq!(written_sectors(""), None);
    }

    #[test]
    fn our_own_process_has_figures() {
        let usage = usage(std::process::id()).expect("we run");
        assert!(usage.memory_bytes > 100_000.0);
    }

    #[test]
    fn the_innermost_file_system_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        for (directory, expect) in [("/home", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/disk/x", "xfs")] {
            assert_eq!(filesystem_in(mounts, Path::new(directory)), Some(expect));
        }
    }

    #[test]
    fn dates_are_civil() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expect);
        }
    }
}
