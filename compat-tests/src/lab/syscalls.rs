//! What a process is told by the kernel, changed on the way: strace's injection.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// All that asks a disk to have something.
const SYNCS: &str = "fdatasync,fsync,sync_file_range,msync";

/// A disk that is slow for one process, until this value is gone.
pub struct SlowDisk {
    _tracer: Tracer,
}

impl SlowDisk {
    /// Each of the process' syncs takes this much longer from now on.
    pub fn of(pid: u32, delay: Duration) -> Result<Self> {
        Tracer::attach(pid, &format!("delay_enter={}", delay.as_micros()))
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
        Tracer::attach(pid, "error=EIO").map(|tracer| Self { _tracer: tracer })
    }
}

struct Tracer(Child);

impl Tracer {
    /// Changes a running process' syncs.
    fn attach(pid: u32, change: &str) -> Result<Self> {
        let inject = format!("inject={SYNCS}:{change}");
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={SYNCS}"), "-e", &inject])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace: apt-get install strace")?;
        Ok(Self(tracer))
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
