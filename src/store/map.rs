//! An ordered map as the database, where there is no LMDB: simulated runs.
//!
//! The durable copy is one file in the format of a snapshot, written aside, synced and renamed at each
//! commit. That costs a whole state each time, which simulated states are small enough for, and it goes
//! through [`Disk`], whose crashes the simulator decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::engine::{Bounds, Engine, Mark, Reader, Record, Records, Size};
use super::key::Key;
use super::{lock, snapshot};
use crate::env::Disk;
use crate::error::StoreError;

/// The file's name in the engine's directory.
const FILE: &str = "data.map";

/// The map and where its file is.
pub(super) struct Map {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    contents: Mutex<Arc<Contents>>,
}

/// What one commit left. Readers share it; a commit makes its own copy.
#[derive(Clone, Default)]
struct Contents {
    records: BTreeMap<Key, Bytes>,
    mark: Option<Mark>,
}

impl Map {
    /// Reads the map in the directory `path`, which exists; without a file it is empty.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let file = path.join(FILE);
        let mut contents = Contents::default();
        if disk.exists(&file) {
            let mut reader = snapshot::Reader::open(&**disk, &file)?;
            while let Some(records) = reader.next_block()? {
                contents.records.extend(records.into_iter().map(|record| (record.stored, record.packed)));
            }
            contents.mark = Some(reader.mark().clone());
        }
        Ok(Self { disk: disk.clone(), file, contents: Mutex::new(Arc::new(contents)) })
    }
}

impl Engine for Map {
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(MapReader(lock(&self.contents).clone())))
    }

    fn commit(
        &self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        let mut next = Contents::clone(&lock(&self.contents));
        for (stored, change) in changes {
            match change {
                Some(packed) => {
                    next.records.insert(Key::from_stored(stored), Bytes::copy_from_slice(packed));
                }
                None => {
                    next.records.remove(stored);
                }
            }
        }
        next.mark = Some(mark.clone());
        let next = MapReader(Arc::new(next));
        snapshot::write(&*self.disk, &self.file, mark, &next)?;
        *lock(&self.contents) = next.0;
        Ok(())
    }

    fn append(&self, records: &[Record]) -> Result<(), StoreError> {
        let mut contents = lock(&self.contents);
        let contents = Arc::make_mut(&mut contents);
        contents.records.extend(records.iter().map(|record| (record.stored.clone(), record.packed.clone())));
        Ok(())
    }

    fn size(&self) -> Result<Size, StoreError> {
        let records = &lock(&self.contents).clone().records;
        let used_bytes = records.iter().map(|(key, value)| (key.as_bytes().len() + value.len()) as u64).sum();
        Ok(Size { file_bytes: used_bytes, used_bytes })
    }
}

/// A shared copy of what a commit left.
struct MapReader(Arc<Contents>);

impl Reader for MapReader {
    fn get(&self, stored: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.0.records.get(stored).map(|packed| &packed[..]))
    }

    fn range<'a>(&'a self, bounds: Bounds<'_>) -> Result<Records<'a>, StoreError> {
        let range = self.0.records.range::<[u8], _>(bounds);
        Ok(Box::new(range.map(|(key, packed)| Ok((key.as_bytes(), &packed[..])))))
    }

    fn mark(&self) -> Result<Option<Mark>, StoreError> {
        Ok(self.0.mark.clone())
    }
}
