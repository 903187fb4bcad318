//! Snapshots: a checkpoint as one file, for a follower that is too far behind, and as the backup.
//!
//! After a checkpoint, a read transaction of the database *is* a consistent snapshot with its stamp.
//! It is copied to a file at the disk's speed, so that the reader is short, and sent from there.
//!
//! # The format, version 1
//!
//! All numbers are little endian; every checksum is a crc32c.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | header | 8 | `QUORATE` and a zero |
//! | | 4 | version, 1 |
//! | | 4, 4 | length of the head, length of the stamp |
//! | | | the head (see [`Head::encode`]), the stamp |
//! | | 4 | checksum of the header up to here |
//! | block, repeated | 1 | 1 |
//! | | 4 | length of the records |
//! | | 4 | checksum of the records |
//! | | | the records: whole ones, at least one |
//! | trailer | 1 | 2 |
//! | | 8, 8 | number of blocks, number of records |
//! | | 4 | checksum of the file up to the trailer |
//! | | 4 | checksum of the trailer up to here |
//!
//! | record | bytes | what |
//! | --- | --- | --- |
//! | | 1 | table |
//! | | 4, 4 | length of the key, length of the value |
//! | | | the key, the value |
//!
//! Records come in the store's order and with their full keys, so that a file does not depend on the
//! limits of one database. The file ends with the trailer.

use std::ops::Bound;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use crc32c::{crc32c, crc32c_append};

use super::engine::{self, Mark, Record};
use super::key::{self, Key};
use super::{Head, Store, Table};
use crate::env::{Disk, File};
use crate::error::StoreError;
use crate::mutants::{Mutant, planted};

const MAGIC: &[u8; 8] = b"QUORATE\0";
const VERSION: u32 = 1;
const BLOCK: u8 = 1;
const TRAILER: u8 = 2;
const FIXED_HEADER_BYTES: usize = 20;
const BLOCK_HEADER_BYTES: usize = 9;
const RECORD_HEADER_BYTES: usize = 9;
const TRAILER_BYTES: usize = 25;
/// A block is closed when it holds this much.
const BLOCK_BYTES: usize = 256 << 10;

/// What is in a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The stamp of the checkpoint that was copied.
    pub stamp: Bytes,
    pub head: Head,
    pub records: u64,
    /// The file's size.
    pub bytes: u64,
}

impl Store {
    /// Copies the last durable checkpoint to the file `path`, which appears when it is whole and
    /// durable. Writes and checkpoints go on meanwhile.
    ///
    /// # Errors
    /// There has been no checkpoint, a value does not match its checksum, or the file cannot be written:
    /// the state itself is not harmed by the latter.
    pub fn snapshot_to(&self, path: &Path) -> Result<SnapshotInfo, StoreError> {
        let engine = self.read().engine.clone();
        let reader = engine.reader()?;
        let mark = reader.mark()?;
        let mark = mark.ok_or_else(|| StoreError::Database("there is no checkpoint to copy yet".into()))?;
        write(&*self.env.disk, path, &mark, &*reader)
    }
}

/// Reads the whole file of a snapshot and says what is in it, if all its checksums are right.
///
/// # Errors
/// It is not a whole snapshot, or cannot be read.
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<SnapshotInfo, StoreError> {
    let mut reader = Reader::open(disk, path)?;
    while reader.next_block()?.is_some() {}
    let Mark { head, stamp } = reader.mark;
    Ok(SnapshotInfo { stamp, head, records: reader.records, bytes: reader.offset })
}

/// Writes what `source` reads to the file `path`: aside first, so that `path` is always a whole one.
pub(super) fn write(
    disk: &dyn Disk,
    path: &Path,
    mark: &Mark,
    source: &dyn engine::Reader,
) -> Result<SnapshotInfo, StoreError> {
    let aside = path.with_added_extension("new");
    if disk.exists(&aside) {
        disk.remove(&aside)?;
    }
    let mut writer = Writer::create(disk, &aside, mark)?;
    for record in source.range((Bound::Included(&[1]), Bound::Unbounded))? {
        let (stored, packed) = record?;
        let (table, key, value) = key::unpack(stored, packed)?;
        writer.push(table, key, value)?;
    }
    let (records, bytes) = writer.finish()?;
    disk.rename(&aside, path)?;
    if !planted(Mutant::DirectoryNotSynced) {
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(SnapshotInfo { stamp: mark.stamp.clone(), head: mark.head.clone(), records, bytes })
}

/// Writes a file.
struct Writer {
    file: Box<dyn File>,
    /// How much is written, and its checksum.
    offset: u64,
    crc: u32,
    /// The block that is being filled, with room for its header in front.
    block: Vec<u8>,
    blocks: u64,
    records: u64,
}

impl Writer {
    fn create(disk: &dyn Disk, path: &Path, mark: &Mark) -> Result<Self, StoreError> {
        let head = mark.head.encode();
        let mut header = MAGIC.to_vec();
        header.put_u32_le(VERSION);
        header.put_u32_le(length(&head));
        header.put_u32_le(length(&mark.stamp));
        header.extend_from_slice(&head);
        header.extend_from_slice(&mark.stamp);
        header.put_u32_le(crc32c(&header));
        let file = disk.create(path)?;
        let block = vec![0; BLOCK_HEADER_BYTES];
        let mut writer = Self { file, offset: 0, crc: 0, block, blocks: 0, records: 0 };
        writer.write(&header)?;
        Ok(writer)
    }

    fn push(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.block.put_u8(table as u8);
        self.block.put_u32_le(length(key));
        self.block.put_u32_le(length(value));
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    /// Completes the file and makes it durable; returns its records and bytes.
    fn finish(mut self) -> Result<(u64, u64), StoreError> {
        if self.block.len() > BLOCK_HEADER_BYTES {
            self.close_block()?;
        }
        let mut trailer = vec![TRAILER];
        trailer.put_u64_le(self.blocks);
        trailer.put_u64_le(self.records);
        trailer.put_u32_le(self.crc);
        trailer.put_u32_le(crc32c(&trailer));
        self.write(&trailer)?;
        self.file.sync()?;
        Ok((self.records, self.offset))
    }

    fn close_block(&mut self) -> Result<(), StoreError> {
        let mut block = std::mem::take(&mut self.block);
        let (mut header, records) = block.split_at_mut(BLOCK_HEADER_BYTES);
        header.put_u8(BLOCK);
        header.put_u32_le(length(records));
        header.put_u32_le(crc32c(records));
        self.write(&block)?;
        self.blocks += 1;
        block.truncate(BLOCK_HEADER_BYTES);
        self.block = block;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        self.crc = crc32c_append(self.crc, bytes);
        Ok(())
    }
}

/// Reads a file, front to back, and believes nothing in it that a checksum does not cover.
pub(super) struct Reader {
    file: Box<dyn File>,
    len: u64,
    offset: u64,
    crc: u32,
    mark: Mark,
    blocks: u64,
    records: u64,
}

impl Reader {
    /// Opens the file and reads its header.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path)?;
        let len = file.len()?;
        let mark = Mark { head: Head::default(), stamp: Bytes::new() };
        let mut reader = Self { file, len, offset: 0, crc: 0, mark, blocks: 0, records: 0 };

        let fixed = reader.read(FIXED_HEADER_BYTES as u64)?;
        let (magic, mut numbers) = fixed.split_at(MAGIC.len());
        let version = numbers.get_u32_le();
        if magic != MAGIC {
            return Err(broken("it is not one"));
        }
        if version != VERSION {
            return Err(broken(&format!("its version is {version}, and this program reads {VERSION}")));
        }
        let (head_len, stamp_len) = (numbers.get_u32_le(), numbers.get_u32_le());
        let rest = reader.read(u64::from(head_len) + u64::from(stamp_len))?;
        reader.check_crc_so_far("the header's checksum is wrong")?;
        let (head, stamp) = rest.split_at(head_len as usize);
        reader.mark = Mark { head: Head::decode(head)?, stamp: Bytes::copy_from_slice(stamp) };
        Ok(reader)
    }

    /// What the header says.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The next block's records; `None` when all of the file was read and was right.
    pub fn next_block(&mut self) -> Result<Option<Vec<Record>>, StoreError> {
        let crc_before = self.crc;
        let kind = self.read(1)?[0];
        if kind == TRAILER {
            return self.read_trailer(crc_before).map(|()| None);
        }
        if kind != BLOCK {
            return Err(broken("there is something unknown between two blocks"));
        }
        let header = self.read(BLOCK_HEADER_BYTES as u64 - 1)?;
        let (len, crc) = (&mut &header[..4], &mut &header[4..]);
        let block = Bytes::from(self.read(u64::from(len.get_u32_le()))?);
        if crc32c(&block) != crc.get_u32_le() {
            return Err(broken("a block's checksum is wrong"));
        }
        let records = records_of(block).ok_or_else(|| broken("a block does not hold whole records"))?;
        self.blocks += 1;
        self.records += records.len() as u64;
        Ok(Some(records))
    }

    /// Reads the trailer behind its first byte. `crc` is the checksum of all before that.
    fn read_trailer(&mut self, crc: u32) -> Result<(), StoreError> {
        let rest = self.read(TRAILER_BYTES as u64 - 1)?;
        let (counted, own_crc) = rest.split_at(TRAILER_BYTES - 5);
        let own_crc = (&mut &*own_crc).get_u32_le();
        let mut counted_numbers = counted;
        let blocks = counted_numbers.get_u64_le();
        let records = counted_numbers.get_u64_le();
        let whole = own_crc == crc32c_append(crc32c(&[TRAILER]), counted)
            && (blocks, records) == (self.blocks, self.records)
            && counted_numbers.get_u32_le() == crc
            && self.offset == self.len;
        if whole { Ok(()) } else { Err(broken("its end does not fit what is before it")) }
    }

    /// The next four bytes must be the checksum of all before them.
    fn check_crc_so_far(&mut self, otherwise: &str) -> Result<(), StoreError> {
        let crc = self.crc;
        let found = (&mut &*self.read(4)?).get_u32_le();
        if found == crc { Ok(()) } else { Err(broken(otherwise)) }
    }

    fn read(&mut self, bytes: u64) -> Result<Vec<u8>, StoreError> {
        // Before memory is taken for it: the length may be nonsense.
        if bytes > self.len - self.offset {
            return Err(broken("it ends too early"));
        }
        let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| broken("a part of it is too large"))?];
        self.file.read_at(&mut buffer, self.offset)?;
        self.offset += bytes;
        self.crc = crc32c_append(self.crc, &buffer);
        Ok(buffer)
    }
}

/// A file with this head and these records in one block, all its lengths and checksums right: so that a fuzzer reaches
/// what is behind them.
#[cfg(any(test, feature = "fuzz"))]
pub fn file_of(head: &[u8], records: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.put_u32_le(VERSION);
    file.put_u32_le(length(head));
    file.put_u32_le(0);
    file.put_slice(head);
    file.put_u32_le(crc32c(&file));
    file.put_u8(BLOCK);
    file.put_u32_le(length(records));
    file.put_u32_le(crc32c(records));
    file.put_slice(records);
    let mut trailer = vec![TRAILER];
    trailer.put_u64_le(1);
    trailer.put_u64_le(records_of(Bytes::copy_from_slice(records)).map_or(0, |records| records.len() as u64));
    trailer.put_u32_le(crc32c(&file));
    trailer.put_u32_le(crc32c(&trailer));
    file.put_slice(&trailer);
    file
}

fn records_of(mut block: Bytes) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !block.is_empty() {
        if block.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let table = Table::try_from(block.get_u8()).ok()?;
        let (key_len, value_len) = (block.get_u32_le() as usize, block.get_u32_le() as usize);
        if block.len() < key_len.checked_add(value_len)? {
            return None;
        }
        let (key, value) = (block.split_to(key_len), block.split_to(value_len));
        let stored = Key::new(table, &key);
        let packed = if stored.is_cut() { key::with_key(&key, [&value, &[]]) } else { value };
        records.push(Record { stored, packed });
    }
    (!records.is_empty()).then_some(records)
}

/// A length as the format holds it.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("what came in one entry, and a block of it, is far below 4 GiB")
}

fn broken(why: &str) -> StoreError {
    StoreError::Corrupt(format!("the snapshot cannot be used: {why}"))
}
