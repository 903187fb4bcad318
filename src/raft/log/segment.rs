//! Segment files: what they are called, how one begins, and where they come from and go.
//!
//! A segment is `<sequence>.log`, sixteen hexadecimal digits. Its first block is the header and is never
//! written again during the segment's life; records follow ([`super::record`]).
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `QUORWAL` and a zero |
//! | 4 | format version, 1 |
//! | 4 | crc32c of the next 16 |
//! | 8 | sequence |
//! | 8 | salt, random |
//! | | zeros, to 4096 |
//!
//! A segment gets its name only when its header and its length are durable, so a named segment with a bad
//! header is damage, never a crash. It is made ahead of its need, by a worker of its own, and only once the
//! segment before it holds a durable batch: see [`super::recovery`] for what follows from that.
//!
//! An overwrite of blocks that exist needs no journal commit, so its sync is half as long: new segments are
//! filled with real zeros, and purged ones are kept as `<sequence>.spare` and used again as they are. What
//! they still hold cannot be mistaken for live records.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::record::Life;
use crate::env::{Disk, Env, File, Rng};

/// Where the records begin. A block of its own, so that writing records never rewrites the header.
pub(super) const HEADER_BYTES: u64 = 4096;
const HEADER_USED_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"QUORWAL\0";
const VERSION: u32 = 1;
/// A new segment is filled and synced in pieces, so that the log's own syncs get in between.
const FILL_BYTES: u64 = 4 << 20;

/// An open segment.
pub(super) struct Segment {
    pub life: Life,
    pub path: PathBuf,
    pub file: Box<dyn File>,
}

impl Segment {
    /// Opens the segment at `path`.
    pub(super) fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, OpenError> {
        let mut header = [0; HEADER_USED_BYTES];
        let read = disk.open(&path).and_then(|file| {
            let whole = file.len()? >= HEADER_BYTES;
            if whole {
                file.read_at(&mut header, 0)?;
            }
            Ok((file, whole))
        });
        let (file, whole) = match read {
            Ok(read) => read,
            Err(error) => return Err(OpenError::Io { path, error }),
        };
        let named = path.file_name().and_then(|name| segment_sequence(name.to_str()?));
        let refuse = |reason: String| Err(OpenError::Corrupt { path: path.clone(), offset: 0, reason });
        match decode_header(&header) {
            _ if !whole => refuse("the file ends inside the header".to_owned()),
            Err(reason) => refuse(reason),
            Ok(life) if named != Some(life.sequence) => {
                refuse(format!("the header is that of segment {:016x}", life.sequence))
            }
            Ok(life) => Ok(Self { life, path, file }),
        }
    }

    /// As [`Segment::life`]'s sequence, in the width that an index slot has for it.
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.life.sequence).expect("a log of 2^32 segments outlives its disk")
    }

    /// Says which file and what for in an error.
    pub(super) fn failed(&self, what: &str) -> impl Fn(io::Error) -> io::Error {
        failed(&self.path, what)
    }
}

fn failed(path: &Path, what: &str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

/// The sequence in a segment's file name.
pub(super) fn segment_sequence(name: &str) -> Option<u64> {
    sequence(name.strip_suffix(".log")?)
}

/// The sequence of the segment that a spare once was, or was to become.
pub(super) fn spare_sequence(name: &str) -> Option<u64> {
    sequence(name.strip_suffix(".spare")?)
}

fn sequence(digits: &str) -> Option<u64> {
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

fn encode_header(life: Life) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&life.sequence.to_le_bytes());
    header[24..32].copy_from_slice(&life.salt.to_le_bytes());
    let checksum = crc32c::crc32c(&header[16..32]);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn decode_header(header: &[u8; HEADER_USED_BYTES]) -> Result<Life, String> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if header[..8] != MAGIC {
        return Err("the header's magic bytes are wrong".to_owned());
    }
    if word(8) != VERSION {
        return Err(format!("format version {}, and this program reads version {VERSION}", word(8)));
    }
    if word(12) != crc32c::crc32c(&header[16..]) {
        return Err("the header's checksum does not match".to_owned());
    }
    Ok(Life { sequence: long(16), salt: long(24) })
}

/// The files that are not in use: makes segments, and takes them back.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
    dir: PathBuf,
    segment_bytes: u64,
    recycle_max: usize,
    next_sequence: u64,
    /// Made, but not in use yet.
    pub prepared: Option<Segment>,
    spares: VecDeque<PathBuf>,
}

impl Files {
    /// Takes over the directory's spares. One that is not older than every segment was being filled.
    pub(super) fn new(
        env: &Env,
        options: &super::Options,
        next_sequence: u64,
        spares: Vec<(u64, PathBuf)>,
    ) -> io::Result<Self> {
        let mut files = Self {
            disk: Arc::clone(&env.disk),
            rng: Arc::clone(&env.rng),
            dir: options.dir.clone(),
            segment_bytes: options.segment_bytes,
            recycle_max: options.recycle_max,
            next_sequence,
            prepared: None,
            spares: VecDeque::new(),
        };
        for (sequence, path) in spares {
            let bytes = files.disk.open(&path).and_then(|file| file.len());
            let bytes = bytes.map_err(failed(&path, "opening"))?;
            files.keep_or_remove(path, sequence < next_sequence && bytes == files.segment_bytes)?;
        }
        Ok(files)
    }

    /// The next segment to write to. Made here and now if nobody prepared it.
    pub(super) fn next(&mut self) -> io::Result<Segment> {
        self.prepare()?;
        Ok(self.prepared.take().expect("just prepared"))
    }

    /// Makes the next segment unless there is one.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        if self.prepared.is_none() {
            self.prepared = Some(self.make()?);
        }
        Ok(())
    }

    fn make(&mut self) -> io::Result<Segment> {
        let life = Life { sequence: self.next_sequence, salt: self.rng.next_u64() };
        let path = self.dir.join(format!("{:016x}.log", life.sequence));
        let blocks = match self.spares.pop_front() {
            Some(spare) => spare,
            None => self.fill(life.sequence)?,
        };
        let write = || {
            let file = self.disk.open(&blocks)?;
            file.write_at(&encode_header(life), 0)?;
            file.sync()?;
            drop(file);
            self.disk.rename(&blocks, &path)?;
            self.disk.sync_dir(&self.dir)?;
            self.disk.open(&path)
        };
        let file = write().map_err(failed(&path, "making"))?;
        self.next_sequence += 1;
        Ok(Segment { life, path, file })
    }

    fn fill(&self, sequence: u64) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{sequence:016x}.spare"));
        let fill = || {
            let file = self.disk.create(&path)?;
            let zeros = vec![0; FILL_BYTES.min(self.segment_bytes) as usize];
            let mut filled = 0;
            while filled < self.segment_bytes {
                let piece = (self.segment_bytes - filled).min(FILL_BYTES);
                file.append_at(&zeros[..piece as usize], filled)?;
                file.sync()?;
                filled += piece;
            }
            Ok(())
        };
        fill().map(|()| path.clone()).map_err(|error| {
            // It is no use to anybody, and the disk may be full.
            drop(self.disk.remove(&path));
            failed(&path, "filling")(error)
        })
    }

    /// Takes back a segment that nothing durable refers to any more.
    ///
    /// Callers do this in order of sequence. The directory is synced each time, so that what a crash leaves
    /// never has a gap.
    pub(super) fn retire(&mut self, segment: &Segment) -> io::Result<()> {
        let spare = segment.path.with_extension("spare");
        let retire = || {
            self.disk.rename(&segment.path, &spare)?;
            self.disk.sync_dir(&self.dir)?;
            segment.file.len()
        };
        let bytes = retire().map_err(segment.failed("retiring"))?;
        // A huge entry may have grown it.
        self.keep_or_remove(spare, bytes == self.segment_bytes)
    }

    fn keep_or_remove(&mut self, spare: PathBuf, is_good: bool) -> io::Result<()> {
        if is_good && self.spares.len() < self.recycle_max {
            self.spares.push_back(spare);
            return Ok(());
        }
        self.disk
            .remove(&spare)
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(failed(&spare, "removing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; HEADER_USED_BYTES] {
        let block = encode_header(Life { sequence: 0x0102, salt: 0x0304 });
        *block.first_chunk().expect("a header is a whole block")
    }

    #[test]
    fn headers_are_read_as_written_and_every_flip_is_seen() {
        assert_eq!(decode_header(&header()), Ok(Life { sequence: 0x0102, salt: 0x0304 }));
        for at in 0..HEADER_USED_BYTES {
            let mut flipped = header();
            flipped[at] ^= 0x10;
            assert!(decode_header(&flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn version_1_bytes() {
        let expected: &[u8] = &[
            b'Q', b'U', b'O', b'R', b'W', b'A', b'L', 0, 1, 0, 0, 0, 0, 0, 0, 0, // magic, version, crc
            2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, // sequence, salt
        ];
        assert_eq!(header()[..12], expected[..12]);
        assert_eq!(header()[16..], expected[16..]);
    }

    #[test]
    fn names() {
        assert_eq!(segment_sequence("00000000000000ff.log"), Some(255));
        assert_eq!(spare_sequence("00000000000000ff.spare"), Some(255));
        for other in ["ff.log", "00000000000000ff.spare", "00000000000000fg.log", "lost+found"] {
            assert_eq!(segment_sequence(other), None, "{other}");
        }
    }
}
