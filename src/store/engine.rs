//! The database under the buffers: what the store asks of one.

use bytes::Bytes;

use super::head::Head;
use crate::error::StoreError;

/// What a checkpoint says about the state it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub head: Head,
    /// Up to which log entry it reaches, and what else belongs to that: the machine's own business.
    pub stamp: Bytes,
}

/// A durable, ordered map of stored keys, with one mark. Two exist: LMDB, and an ordered map in memory
/// with a file, which stands in for it in simulated runs.
pub(super) trait Engine: Send + Sync {
    /// Opens the state of the last commit. It stays as it is while the reader is held.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;

    /// Makes the changes (deletions are `None`) and the mark durable: after a crash there is all of them
    /// or nothing. After an error nothing can be said, and nothing may be tried again.
    fn commit(
        &self,
        changes: &mut dyn Iterator<Item = (&[u8], Option<&[u8]>)>,
        mark: &Mark,
    ) -> Result<(), StoreError>;

    /// Adds records, each behind all that are there, to a database that is being built. They are
    /// durable after the commit that follows.
    fn append(&self, records: &[Record]) -> Result<(), StoreError>;

    /// Its size.
    fn size(&self) -> Result<Size, StoreError>;
}

/// The state of one commit.
pub(super) trait Reader: Send {
    /// What is stored under a key.
    fn get(&self, stored: &[u8]) -> Result<Option<&[u8]>, StoreError>;

    /// What is stored within the bounds, in order. The bounds must not cross.
    fn range<'a>(&'a self, bounds: Bounds<'_>) -> Result<Records<'a>, StoreError>;

    /// The commit's mark; `None` when there has been none.
    fn mark(&self) -> Result<Option<Mark>, StoreError>;
}

/// Between which stored keys.
pub(super) type Bounds<'a> = (std::ops::Bound<&'a [u8]>, std::ops::Bound<&'a [u8]>);

/// Stored keys and what is stored under them.
pub(super) type Records<'a> = Box<dyn Iterator<Item = Result<(&'a [u8], &'a [u8]), StoreError>> + 'a>;

/// A stored key and what is stored under it.
pub(super) struct Record {
    pub stored: super::key::Key,
    pub packed: Bytes,
}

/// How large a database is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Its file's size.
    pub file_bytes: u64,
    /// How much of it is in use.
    pub used_bytes: u64,
}
