//! A wall clock that can be set for one process: libfaketime. Its monotonic clock goes on as it is.
//!
//! The library keeps two files in shared memory for each process, and whoever is killed leaves them there. They are
//! named after the process, and nothing says whose it was; so those are swept up that name nobody who lives, and that
//! nobody uses, as the child of a process may that is no more.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The clock of one node. It reads the file about once a second.
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// A right one, which is told what to show in `file`.
    pub fn of(file: &Path) -> Result<Self> {
        let clock = Self { file: file.to_owned(), library: library()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds before or after the right time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Renamed into place: the node never reads half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// What a process must be started with.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Takes away what processes that are no more have left in shared memory.
pub fn sweep() -> Result<()> {
    let left = left_behind()?;
    let used = if left.is_empty() { HashSet::new() } else { used()? };
    for path in left.iter().filter(|path| !used.contains(*path)) {
        match fs::remove_file(path) {
            // Another lab sweeps, too.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(|| path.display().to_string())?,
        }
    }
    Ok(())
}

/// A value whose end is a sweep.
pub struct Residue;

impl Drop for Residue {
    fn drop(&mut self) {
        // What is left now, the next lab finds.
        let _ = sweep();
    }
}

/// The library's files that are named after a process that is no more.
fn left_behind() -> Result<Vec<PathBuf>> {
    const DIRECTORY: &str = "/dev/shm";
    let paths = fs::read_dir(DIRECTORY).context(DIRECTORY)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| owner(path).is_some_and(|pid| !Path::new("/proc").join(pid).exists())).collect())
}

/// The process that a file of the library is named after.
fn owner(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let pid = ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    (!pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())).then_some(pid)
}

/// The library's files that some process has in its memory.
fn used() -> Result<HashSet<PathBuf>> {
    let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    // One that ends meanwhile has none.
    let maps = processes.filter_map(|process| fs::read_to_string(process.join("maps")).ok());
    let of = |maps: String| {
        let paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5).map(PathBuf::from));
        paths.filter(|path| owner(path).is_some()).collect::<Vec<_>>()
    };
    Ok(maps.flat_map(of).collect())
}

/// Where the library is.
pub fn library() -> Result<PathBuf> {
    // /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1: the one for programs with threads.
    let places = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let library = places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    library.context("libfaketime: apt-get install faketime")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::wait_for;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A process under the library that does nothing, and what there is of it in shared memory.
    fn idler(script: &str) -> Result<(Child, Vec<PathBuf>)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).process_group(0);
        let child = command.env("LD_PRELOAD", library()?).env("FAKETIME", "+0").spawn()?;
        let files = ["faketime_shm_", "sem.faketime_sem_"];
        let files: Vec<_> = files
            .iter()
            .map(|prefix| Path::new("/dev/shm").join(format!("{prefix}{}", child.id())))
            .collect();
        wait_for("its files", PATIENCE, || Ok(files.iter().all(|path| path.exists()).then_some(())))?;
        Ok((child, files))
    }

    #[test]
    fn only_what_nobody_uses_is_swept_up() -> Result<()> {
        let (mut killed, gone) = idler("exec sleep 600")?;
        let (mut living, kept) = idler("exec sleep 600")?;
        // The child of this one goes on by its parent's files.
        let (mut parent, inherited) = idler("sleep 600 & wait")?;
        let group = rustix::process::Pid::from_child(&parent);
        wait_for("its child", PATIENCE, || Ok((users(&inherited)? == 2).then_some(())))?;
        for child in [&mut killed, &mut parent] {
            child.kill()?;
            child.wait()?;
        }
        sweep()?;
        let there = |paths: &[PathBuf]| paths.iter().filter(|path| path.exists()).count();
        let found = [&gone, &kept, &inherited].map(|paths| there(paths));
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
        living.kill()?;
        living.wait()?;
        assert_eq!(found, [0, 2, 2]);
        wait_for("the last of it to be swept up", PATIENCE, || {
            sweep()?;
            Ok((there(&kept) + there(&inherited) == 0).then_some(()))
        })
    }

    /// How many processes use the first of these files.
    fn users(paths: &[PathBuf]) -> Result<usize> {
        let first = paths[0].display().to_string();
        let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
        let maps = processes.filter_map(|process| fs::read_to_string(process.join("maps")).ok());
        Ok(maps.filter(|maps| maps.contains(&first)).count())
    }
}
