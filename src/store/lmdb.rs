//! LMDB as the database.
//!
//! Its own durability, and no flag that weakens it: a commit returns after the data and then the page
//! that names it are on the disk. We never use `MDB_NOSYNC` (a power cut may corrupt the file) nor
//! `MDB_WRITEMAP` (a full disk kills the process). LMDB has almost no checksums, so that a flipped bit
//! mostly comes back as silent wrong data: we put a crc32c of key and value in front of each value and
//! check it on each read.
//!
//! A read transaction that is held for long keeps LMDB from using freed pages again, and the file
//! grows. Ours do no harm: the store keeps readers of the last commit only, from which LMDB frees
//! nothing anyway, and copying a snapshot runs at the disk's speed.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use heed::types::Bytes as Slice;
use heed::{Database, Env, EnvOpenOptions, PutFlags, RoTxn, WithoutTls};

use super::engine::{Bounds, Engine, Mark, Reader, Record, Records, Size};
use super::head::Head;
use super::key::shown;
use crate::error::StoreError;

/// Our own records lie under the number 0, which is no table's.
const FORMAT: &[u8] = b"\0format";
const HEAD: &[u8] = b"\0head";
const STAMP: &[u8] = b"\0stamp";
/// What is said under [`FORMAT`].
const FORMAT_VERSION: &[u8] = b"1";

/// More than there can be threads with a reader.
const READERS_MAX: u32 = 4096;
const CRC_BYTES: usize = 4;
/// LMDB's file in the environment's directory.
const DATA: &str = "data.mdb";
/// About how much of a commit goes to the disk together.
const BYTES_AT_ONCE: usize = 2 << 20;

/// An open LMDB environment; all is in its unnamed database.
pub(super) struct Lmdb {
    env: Env<WithoutTls>,
    /// The file that it writes.
    data: File,
    records: Database<Slice, Slice>,
}

impl Lmdb {
    /// Opens the environment in the directory `path`, which exists, and creates it if there is none.
    pub fn open(path: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_readers(READERS_MAX);
        #[expect(
            unsafe_code,
            reason = "the file is mapped, so nobody else may write or cut it: it lies in a data directory \
                      that this process has locked, and only this engine touches it"
        )]
        let env = unsafe { options.open(path) }.map_err(failed)?;
        let mut txn = env.write_txn().map_err(failed)?;
        let records: Database<Slice, Slice> = env.create_database(&mut txn, None).map_err(failed)?;
        match get(records, &txn, FORMAT)? {
            None if records.is_empty(&txn).map_err(failed)? => {
                put(records, &mut txn, FORMAT, FORMAT_VERSION)?;
            }
            Some(FORMAT_VERSION) => {}
            other => {
                let format = other.unwrap_or_default().escape_ascii();
                return Err(StoreError::Corrupt(format!(
                    "the database is of the unknown format \"{format}\""
                )));
            }
        }
        txn.commit().map_err(failed)?;
        #[expect(clippy::disallowed_methods, reason = "LMDB opens the same file beside the disk, too")]
        let data = File::open(path.join(DATA)).map_err(StoreError::Io)?;
        Ok(Self { env, data, records })
    }
}

impl Engine for Lmdb {
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        let txn = self.env.clone().static_read_txn().map_err(failed)?;
        Ok(Box::new(LmdbReader { txn, records: self.records }))
    }

    fn commit(
        &self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        let mut txn = self.env.write_txn().map_err(failed)?;
        let stat = self.records.stat(&txn).map_err(failed)?;
        // In a large state each change is in a page of its own, and in a small one they share them all.
        let page_share =
            stat.page_size as usize * stat.leaf_pages / stat.leaf_pages.max(changes.size_hint().0).max(1);
        let mut dirty_bytes = 0;
        for (stored, change) in changes {
            // Pages that LMDB has written would wait in memory for the commit's end, and then keep the disk from the log,
            // which others wait for. They go little by little; nothing refers to them yet.
            dirty_bytes += page_share.max(change.map_or(0, <[u8]>::len));
            if dirty_bytes >= BYTES_AT_ONCE {
                dirty_bytes = 0;
                self.data.sync_data().map_err(StoreError::Io)?;
            }
            match change {
                Some(packed) => put(self.records, &mut txn, stored, packed)?,
                None => {
                    self.records.delete(&mut txn, stored).map_err(failed)?;
                }
            }
        }
        put(self.records, &mut txn, HEAD, &mark.head.encode())?;
        put(self.records, &mut txn, STAMP, &mark.stamp)?;
        txn.commit().map_err(failed)
    }

    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut txn = self.env.write_txn().map_err(failed)?;
        let mut value = Vec::new();
        for Record { stored, packed } in records {
            let stored = stored.as_bytes();
            value.clear();
            value.extend_from_slice(&checksum(stored, packed).to_le_bytes());
            value.extend_from_slice(packed);
            let appended = self.records.put_with_flags(&mut txn, PutFlags::APPEND, stored, &value);
            appended.map_err(failed)?;
        }
        txn.commit().map_err(failed)
    }

    fn size(&self) -> Result<Size, StoreError> {
        let txn = self.env.read_txn().map_err(failed)?;
        let stat = self.records.stat(&txn).map_err(failed)?;
        let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        Ok(Size {
            file_bytes: self.env.real_disk_size().map_err(failed)?,
            used_bytes: pages as u64 * u64::from(stat.page_size),
        })
    }
}

/// A read transaction.
struct LmdbReader {
    txn: RoTxn<'static, WithoutTls>,
    records: Database<Slice, Slice>,
}

impl Reader for LmdbReader {
    fn get(&self, stored: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        get(self.records, &self.txn, stored)
    }

    fn range<'a>(&'a self, bounds: Bounds<'_>) -> Result<Records<'a>, StoreError> {
        let range = self.records.range(&self.txn, &bounds).map_err(failed)?;
        Ok(Box::new(range.map(|record| {
            let (stored, value) = record.map_err(failed)?;
            Ok((stored, checked(stored, value)?))
        })))
    }

    fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let head = get(self.records, &self.txn, HEAD)?;
        let stamp = get(self.records, &self.txn, STAMP)?;
        match (head, stamp) {
            (Some(head), Some(stamp)) => {
                Ok(Some(Mark { head: Head::decode(head)?, stamp: Bytes::copy_from_slice(stamp) }))
            }
            (None, None) => Ok(None),
            _ => Err(StoreError::Corrupt("the database holds half of a mark".into())),
        }
    }
}

fn get<'a>(
    records: Database<Slice, Slice>,
    txn: &'a RoTxn<'_>,
    stored: &[u8],
) -> Result<Option<&'a [u8]>, StoreError> {
    let value = records.get(txn, stored).map_err(failed)?;
    value.map(|value| checked(stored, value)).transpose()
}

fn put(
    records: Database<Slice, Slice>,
    txn: &mut heed::RwTxn<'_>,
    stored: &[u8],
    packed: &[u8],
) -> Result<(), StoreError> {
    let crc = checksum(stored, packed).to_le_bytes();
    records
        .put_reserved(txn, stored, CRC_BYTES + packed.len(), |space| {
            std::io::Write::write_all(space, &crc)?;
            std::io::Write::write_all(space, packed)
        })
        .map_err(failed)
}

/// The value without its checksum, which must be right.
fn checked<'a>(stored: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match value.split_first_chunk::<CRC_BYTES>() {
        Some((crc, packed)) if u32::from_le_bytes(*crc) == checksum(stored, packed) => Ok(packed),
        _ => Err(StoreError::Corrupt(format!("the value of {} does not match its checksum", shown(stored)))),
    }
}

/// Over the key too: a value that turns up under another key is as wrong as a changed one.
fn checksum(stored: &[u8], packed: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(stored), packed)
}

fn failed(error: heed::Error) -> StoreError {
    match error {
        heed::Error::Io(error) => StoreError::Io(error),
        other => StoreError::Database(other.to_string()),
    }
}
