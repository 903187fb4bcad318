//! Appending past the system's cache.
//!
//! What a log writes is not read again while it is in memory anyway. The cache would only cost it: a copy into pages that
//! the system has to find first, and the search for them when the file is synced. A disk takes whole blocks, though, from
//! memory that begins at a block. So a write that ends inside a block is padded with zeros, and the next one brings the
//! beginning of that block again.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags};

/// No disk in use has larger blocks.
const BLOCK: usize = 4096;
/// The buffer is given back when a write has made it larger than this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// The way past the cache to a file.
pub(super) struct Direct {
    file: fs::File,
    /// Holds what is written next from where its memory begins a block.
    buffer: Vec<u8>,
    /// Where the last write ended, and what the block that it ended in begins with.
    end: u64,
    tail: Vec<u8>,
}

impl Direct {
    /// Another way to an open file. `None` where the file system has no such way.
    pub fn open(file: &fs::File) -> Option<Self> {
        // By this name it is found even if it was renamed.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = rustix::fs::open(name, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
        Some(Self { file: file.ok()?.into(), buffer: Vec::new(), end: 0, tail: Vec::new() })
    }

    /// Writes `bytes` at `offset`, and zeros behind them up to the end of the block. `cached` is the same file.
    pub fn append(&mut self, cached: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let inside = (offset % BLOCK as u64) as usize;
        if offset != self.end {
            self.tail.resize(inside, 0);
            cached.read_exact_at(&mut self.tail, offset - inside as u64)?;
        }
        let used = inside + bytes.len();
        let whole = used.next_multiple_of(BLOCK);
        let start = self.make_room(whole);
        self.buffer.extend_from_slice(&self.tail);
        self.buffer.extend_from_slice(bytes);
        self.buffer.resize(start + whole, 0);
        self.file.write_all_at(&self.buffer[start..], offset - inside as u64)?;

        self.end = offset + bytes.len() as u64;
        self.tail.clear();
        self.tail.extend_from_slice(&self.buffer[start + used - used % BLOCK..start + used]);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Empties the buffer up to where a block begins in memory, behind which there is room for so much. Answers where that is.
    fn make_room(&mut self, bytes: usize) -> usize {
        self.buffer.clear();
        self.buffer.reserve(BLOCK + bytes);
        let start = self.buffer.as_ptr().align_offset(BLOCK);
        self.buffer.resize(start, 0);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on the disk that cargo builds on: the directory for temporary files may be in memory.
    fn file() -> (tempfile::TempDir, fs::File) {
        let program = std::env::current_exe().expect("this is one");
        let directory =
            tempfile::tempdir_in(program.parent().expect("it is somewhere")).expect("there is room");
        let path = directory.path().join("file");
        let file = fs::File::options().read(true).write(true).create_new(true).open(path).expect("it is new");
        (directory, file)
    }

    fn contents(file: &fs::File) -> Vec<u8> {
        let mut contents = vec![0; file.metadata().expect("it is there").len() as usize];
        file.read_exact_at(&mut contents, 0).expect("as long as it says");
        contents
    }

    #[test]
    fn appends_of_any_size_stand_behind_each_other_and_zeros_behind_them() {
        let (_directory, file) = file();
        // As a file that is used again looks.
        file.write_all_at(&[7; 10 * BLOCK], 0).expect("there is room");
        let mut direct = Direct::open(&file).expect("a disk takes direct writes");
        let mut expected = vec![7; BLOCK + 10];
        for (number, size) in [1, 8, 4_000, 77, 2 * BLOCK, 5, 3 * BLOCK - 1].into_iter().enumerate() {
            let bytes = vec![number as u8 + 10; size];
            direct.append(&file, &bytes, expected.len() as u64).expect("there is room");
            expected.extend(bytes);
            let contents = contents(&file);
            let (used, rest) = contents.split_at(expected.len());
            assert_eq!(used, expected);
            let padding = expected.len().next_multiple_of(BLOCK) - expected.len();
            assert!(rest[..padding].iter().all(|byte| *byte == 0));
            assert!(rest[padding..].iter().all(|byte| *byte == 7));
        }
        // One that begins elsewhere, and one behind something that was written another way.
        direct.append(&file, b"again", 5).expect("there is room");
        file.write_all_at(b"seal", 10).expect("there is room");
        direct.append(&file, b"!", 14).expect("there is room");
        assert_eq!(contents(&file)[..20], *b"\x07\x07\x07\x07\x07againseal!\0\0\0\0\0");
    }

    #[test]
    fn a_file_grows_by_blocks() {
        let (_directory, file) = file();
        let mut direct = Direct::open(&file).expect("a disk takes direct writes");
        direct.append(&file, b"first", 0).expect("there is room");
        direct.append(&file, &[1; BLOCK], 5).expect("there is room");
        assert_eq!(file.metadata().expect("it is there").len(), 2 * BLOCK as u64);
    }

    #[test]
    fn what_has_no_blocks_has_no_way_past_the_cache() {
        let file = fs::File::open("/dev/null").expect("every system has it");
        assert!(Direct::open(&file).is_none());
    }
}
