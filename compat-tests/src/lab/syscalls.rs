//! What a process is told by the kernel, changed on the way: strace's injection.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// All that asks a disk to have something.
const SYNCS: &str = "fdatasync,fsync,sync_file_range,msync";

/// A disk that is slow for one process, until this value is gone.
pub struct SlowDisk {
    _tracer: Tracer,
}

impl SlowDisk {
    /// Each of the process' syncs takes this much longer from now on.
    pub fn of(pid: u32, delay: Duration) -> Result<Self> {
        Tracer::attach(pid, &format!("delay_enter={}", delay.as_micros()), None)
            .map(|tracer| Self { _tracer: tracer })
    }
}

/// A disk that is broken for one process, until this value is gone.
pub struct FailingDisk {
    _tracer: Tracer,
}

impl FailingDisk {
    /// Each of the process' syncs fails from now on.
    pub fn of(pid: u32) -> Result<Self> {
        Tracer::attach(pid, "error=EIO", None).map(|tracer| Self { _tracer: tracer })
    }

    /// Each of its syncs of this file does.
    pub fn of_file(pid: u32, file: &Path) -> Result<Self> {
        Tracer::attach(pid, "error=EIO", Some(file)).map(|tracer| Self { _tracer: tracer })
    }
}

/// A disk that says it has what it was told to sync, and has not, until this value is gone.
pub struct LyingDisk {
    _tracer: Tracer,
}

impl LyingDisk {
    /// None of the process' syncs reaches the kernel from now on, and each succeeds.
    pub fn of(pid: u32) -> Result<Self> {
        Tracer::attach(pid, "retval=0", None).map(|tracer| Self { _tracer: tracer })
    }
}

struct Tracer(Child);

impl Tracer {
    /// Changes a running process' syncs, or those of one file; all its threads' when this returns.
    fn attach(pid: u32, change: &str, file: Option<&Path>) -> Result<Self> {
        let inject = format!("inject={SYNCS}:{change}");
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={SYNCS}"), "-e", &inject])
            .args(["-p", &pid.to_string()])
            .args(file.map(|file| format!("--trace-path={}", file.display())))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace: apt-get install strace")?;
        let mut tracer = Self(tracer);
        wait_for("strace to see all threads", Duration::from_secs(10), || {
            match tracer.0.try_wait()? {
                None => Ok(tracer.sees_all_of(pid)?.then_some(())),
                // The first sync that was changed has ended the process.
                Some(end) if end.success() => Ok(Some(())),
                Some(end) => bail!("strace ended: {end}"),
            }
        })?;
        Ok(tracer)
    }

    fn sees_all_of(&self, pid: u32) -> Result<bool> {
        let line = format!("TracerPid:\t{}", self.0.id());
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended meanwhile.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_else(|_| line.clone());
            if !status.lines().any(|known| known == line) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It lets go of the process when it is asked to end.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// What a command line must begin with for each of its threads' syncs from this one on to fail (1 is the first), as with
/// a broken disk.
#[must_use]
pub fn failing_syncs(from: usize) -> Vec<String> {
    let inject = format!("inject={SYNCS}:error=EIO:when={from}+");
    // -D: the process stays our child, and strace is beside it.
    [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={SYNCS}"),
        "-e",
        &inject,
    ]
    .map(str::to_owned)
    .into()
}
