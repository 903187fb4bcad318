//! How much room a key takes.

use super::collection::Body;
use super::keyspace::GENERATION_BYTES;
use super::record::{HEADER_BYTES, Kind, Record};
use crate::error::StoreError;

/// What the database needs for an entry beside its key and value: the table's number, a checksum, and its place in
/// a page.
const ENTRY_BYTES: u64 = 16;

/// The bytes that a key takes in the database with all that belongs to it, without what its pages leave free.
pub fn stored_bytes(key: &[u8], record: &Record) -> Result<u64, StoreError> {
    let address = (GENERATION_BYTES + key.len()) as u64;
    let mut bytes = ENTRY_BYTES + address + (HEADER_BYTES + record.value.len()) as u64;
    if record.header.deadline.is_some() {
        bytes += ENTRY_BYTES + size_of::<u64>() as u64 + address;
    }
    if record.header.kind != Kind::String
        && let Body::Apart(apart) = Body::decode(&record.value)?
    {
        bytes += apart.bytes + apart.count * (ENTRY_BYTES + GENERATION_BYTES as u64);
    }
    Ok(bytes)
}
