//! Disks that can lose their power, break, and be full.

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

/// What a file system gives room in.
const BLOCK_BYTES: u64 = 4096;

/// A file system on a device with a cache that the power cut empties: an ext4 in a file, and that file in another ext4. What
/// the upper one has written, past its own cache or not, is in the memory of the lower one until the upper one is
/// asked to sync; the loop device between them passes that on. So the lower file system is the device: stopped alone,
/// each of the device's blocks fails; stopped together with the upper one, it is a power cut. All is gone with this value.
pub struct Volume {
    // In the order in which they have to go.
    upper: FileSystem,
    lower: FileSystem,
}

impl Volume {
    /// A new one of this size, mounted at `mount`, which is made. The file beside it takes no more room than what is in it.
    pub fn create(mount: &Path, bytes: u64) -> Result<Self> {
        // A file system needs a little for itself.
        let lower = FileSystem::create(
            &mount.with_extension("ext4"),
            &mount.with_extension("device"),
            bytes + bytes / 8,
        )?;
        let upper = FileSystem::create(&lower.mount.join("blocks"), mount, bytes)?;
        Ok(Self { upper, lower })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.upper.mount
    }

    /// From now on nothing more reaches it, and every write and sync to it fails.
    pub fn cut_power(&self) -> Result<()> {
        // In this order: a file system that stops asks its device to sync.
        self.lower.stop()?;
        self.upper.stop()
    }

    /// From now on every block that is read or written fails. The file system is not told.
    pub fn break_blocks(&self) -> Result<()> {
        self.lower.stop()
    }

    /// Mounts it anew, as after a start of the machine. Nobody may have a file of it open.
    pub fn remount(&self) -> Result<()> {
        self.upper.unmount()?;
        self.lower.unmount()?;
        self.lower.mount()?;
        self.upper.mount()
    }

    /// Fills it up until only `left` bytes are free.
    pub fn fill(&self, left: u64) -> Result<()> {
        let state = rustix::fs::statvfs(self.directory())?;
        let mut more = (state.f_bavail * state.f_frsize).saturating_sub(left);
        let ballast = File::create(self.ballast())?;
        let mut filled = 0;
        // The last blocks are not all to be had: some are for the file system's own account of the others.
        while more >= BLOCK_BYTES {
            match rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), filled, more) {
                Ok(()) if left > 0 => break,
                Ok(()) => filled += more,
                Err(rustix::io::Errno::NOSPC) if left == 0 => more /= 2,
                Err(error) => return Err(error).context("filling a disk"),
            }
        }
        Ok(())
    }

    /// Takes away what filled it, for good: a power cut does not bring it back.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.ballast())?;
        Ok(File::open(self.directory())?.sync_all()?)
    }

    fn ballast(&self) -> PathBuf {
        self.directory().join("ballast")
    }
}

/// An ext4 in a file, mounted until this value is gone.
struct FileSystem {
    image: PathBuf,
    mount: PathBuf,
}

impl FileSystem {
    fn create(image: &Path, mount: &Path, bytes: u64) -> Result<Self> {
        let system = Self { image: image.to_owned(), mount: mount.to_owned() };
        File::create(image)?.set_len(bytes)?;
        fs::create_dir_all(mount)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        system.mount()?;
        Ok(system)
    }

    fn stop(&self) -> Result<()> {
        run("python3", &["-c", SHUTDOWN, &self.mount.to_string_lossy()]).map(drop)
    }

    fn mount(&self) -> Result<()> {
        run("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.mount.to_string_lossy()]).map(drop)
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

impl Drop for FileSystem {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use rustix::fs::OFlags;

    use super::*;

    const BLOCK: usize = 4096;

    /// Memory as writes past the cache want it.
    #[repr(align(4096))]
    struct Block([u8; BLOCK]);

    /// A file of one block that is on the disk, open for writes past the cache.
    fn block_of(byte: u8, path: &Path) -> Result<File> {
        let mut file = File::create(path)?;
        file.write_all(&[byte; BLOCK])?;
        file.sync_all()?;
        let flags = OFlags::WRONLY | OFlags::DIRECT;
        Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?.into())
    }

    fn first_byte(path: &Path) -> Result<u8> {
        let mut byte = [0];
        File::open(path)?.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() -> Result<()> {
        crate::lab::possible()?;
        let directory = tempfile::tempdir()?;
        let volume = Volume::create(&directory.path().join("disk"), 64 << 20)?;
        let place = |name: &str| volume.directory().join(name);
        let mut synced = block_of(b'1', &place("synced"))?;
        let mut unsynced = block_of(b'1', &place("unsynced"))?;
        synced.write_all(&Block([b'2'; BLOCK]).0)?;
        synced.sync_data()?;
        unsynced.write_all(&Block([b'2'; BLOCK]).0)?;
        fs::write(place("cached"), "2")?;
        volume.cut_power()?;
        synced.rewind()?;
        assert!(synced.write_all(&Block([b'3'; BLOCK]).0).is_err(), "it took a write without power");
        drop((synced, unsynced));
        volume.remount()?;
        assert_eq!((first_byte(&place("synced"))?, first_byte(&place("unsynced"))?), (b'2', b'1'));
        assert!(!place("cached").exists());
        Ok(())
    }

    #[test]
    fn broken_blocks_fail_below_the_file_system() -> Result<()> {
        crate::lab::possible()?;
        let directory = tempfile::tempdir()?;
        let volume = Volume::create(&directory.path().join("disk"), 64 << 20)?;
        let path = volume.directory().join("file");
        let mut file = block_of(b'1', &path)?;
        volume.break_blocks()?;
        // Past the cache it is seen at once, in the cache with the sync.
        assert!(file.write_all(&Block([b'2'; BLOCK]).0).and_then(|()| file.sync_data()).is_err());
        let cached = File::options().write(true).open(&path).and_then(|mut file| {
            file.write_all(b"2")?;
            file.sync_data()
        });
        assert!(cached.is_err());
        drop(file);
        volume.remount()?;
        assert_eq!(first_byte(&path)?, b'1');
        Ok(())
    }
}
