//! A wall clock that can be set for one process: libfaketime. Its monotonic clock goes on as it is.

use std::fs;
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

/// Where the library is.
pub fn library() -> Result<PathBuf> {
    // /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1: the one for programs with threads.
    let places = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let library = places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    library.context("libfaketime: apt-get install faketime")
}
