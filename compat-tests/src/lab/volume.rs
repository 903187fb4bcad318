//! File systems that can lose their power, be full, and give back another bit than was written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::run;
use crate::wait_for;

/// Stops a file system as a power cut does: what is in memory stays there, the journal included (FS_IOC_SHUTDOWN with
/// FS_SHUTDOWN_FLAGS_NOLOGFLUSH, which XFS' tests and ext4's have their crashes from).
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
                        mount = os.open(sys.argv[1], os.O_RDONLY)\n\
                        fcntl.ioctl(mount, 0x8004587D, struct.pack('I', 2))";

/// An ext4 in a file, mounted. It is gone with this value.
pub struct Volume {
    image: PathBuf,
    mount: PathBuf,
}

impl Volume {
    /// A new one of this size, mounted at `mount`, which is made. The file beside it takes no more room than what is in it.
    pub fn create(mount: &Path, bytes: u64) -> Result<Self> {
        let volume = Self { image: mount.with_extension("ext4"), mount: mount.to_owned() };
        File::create(&volume.image)?.set_len(bytes)?;
        fs::create_dir_all(mount)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &volume.image()])?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.mount
    }

    /// From now on nothing more reaches it, and every write and sync to it fails.
    pub fn cut_power(&self) -> Result<()> {
        run("python3", &["-c", SHUTDOWN, &self.mount.to_string_lossy()]).map(drop)
    }

    /// Mounts it anew, as after a start of the machine. Nobody may have a file of it open.
    pub fn remount(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Fills it up until only `left` bytes are free.
    pub fn fill(&self, left: u64) -> Result<()> {
        let state = rustix::fs::statvfs(&self.mount)?;
        let more = (state.f_bavail * state.f_frsize).saturating_sub(left);
        let ballast = File::create(self.ballast())?;
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, more)
            .context("filling a disk")
    }

    /// Takes away what filled it, for good: a power cut does not bring it back.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.ballast())?;
        Ok(File::open(&self.mount)?.sync_all()?)
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    fn image(&self) -> String {
        self.image.to_string_lossy().into_owned()
    }

    fn mount(&self) -> Result<()> {
        run("mount", &["-o", "loop", &self.image(), &self.mount.to_string_lossy()]).map(drop)
    }

    fn unmount(&self) -> Result<()> {
        let mount = self.mount.to_string_lossy();
        // A process that was killed lets go of its files a little later.
        wait_for(&format!("nobody to use {mount}"), Duration::from_secs(10), || {
            Ok(run("umount", &[&mount]).ok())
        })
        .map(drop)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}
