//! A hash of the whole state, by which nodes find out that one of them is wrong.
//!
//! It is the sum of one hash a record, so that it does not matter in which order records are visited
//! nor whether they lie in a buffer or in the database. That is what lets the long part, the database,
//! be read without holding up the writes. Random faults are what it finds; nobody gains by forging it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::engine::Reader;
use super::key::Key;
use super::value::Change;
use super::{Frozen, Head, Store, Table};
use crate::error::StoreError;

/// The state of one moment, held without holding up the writes. The database grows while it is held.
pub struct Pinned {
    /// The keys that the active buffer changes, and the hashes of the records there are now.
    active: Vec<(Key, Option<u64>)>,
    frozen: Option<Arc<Frozen>>,
    reader: Box<dyn Reader>,
    head: Head,
}

impl Store {
    /// A hash of all tables and the [`Head`] as they are now: equal on all nodes that have applied the
    /// same log entries. It reads the whole state; see [`Store::pin`] for doing that elsewhere.
    ///
    /// # Errors
    /// The database failed, or a value does not match its checksum.
    pub fn state_hash(&self) -> Result<u64, StoreError> {
        self.pin()?.hash()
    }

    /// The state as it is now, to be hashed on another thread. What is in the active buffer is hashed here and now.
    ///
    /// # Errors
    /// The database failed.
    pub fn pin(&self) -> Result<Pinned, StoreError> {
        let state = self.read();
        Ok(Pinned {
            active: state
                .active
                .unordered()
                .map(|(key, change)| (key.clone(), hash_of_change(key, change)))
                .collect(),
            frozen: state.frozen.clone(),
            reader: state.engine.reader()?,
            head: state.head.clone(),
        })
    }
}

impl Pinned {
    /// The hash: see [`Store::state_hash`].
    ///
    /// # Errors
    /// The database failed, or a value does not match its checksum.
    pub fn hash(self) -> Result<u64, StoreError> {
        Ok(hash_of(b"head", &self.head.encode()).wrapping_add(self.sum(&|_| true)?))
    }

    /// A hash of the keys, their values and their deadlines; 0 if there are none.
    ///
    /// # Errors
    /// As [`Pinned::hash`].
    pub fn data_hash(self) -> Result<u64, StoreError> {
        self.sum(&|stored| stored[0] != Table::Meta as u8)
    }

    /// The sum of the hashes of the records whose stored keys are `wanted`.
    fn sum(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for record in self.reader.range((Bound::Included(&[1]), Bound::Unbounded))? {
            let (stored, packed) = record?;
            if wanted(stored) {
                sum = sum.wrapping_add(hash_of(stored, packed));
            }
        }
        let mut overlay = |key: &Key, hash: Option<u64>| -> Result<(), StoreError> {
            let stored = key.as_bytes();
            if !wanted(stored) {
                return Ok(());
            }
            if let Some(hidden) = self.reader.get(stored)? {
                sum = sum.wrapping_sub(hash_of(stored, hidden));
            }
            sum = sum.wrapping_add(hash.unwrap_or(0));
            Ok(())
        };
        for (key, hash) in &self.active {
            overlay(key, *hash)?;
        }
        if let Some(frozen) = &self.frozen {
            let newer: BTreeSet<&Key> = self.active.iter().map(|(key, _)| key).collect();
            for (key, change) in frozen.layer.unordered() {
                if !newer.contains(key) {
                    overlay(key, hash_of_change(key, change))?;
                }
            }
        }
        Ok(sum)
    }
}

/// The hash of the record that a change leaves, if it leaves one.
fn hash_of_change(key: &Key, change: Change<'_>) -> Option<u64> {
    change.map(|packed| hash_of(key.as_bytes(), packed.bytes()))
}

/// The hash of a record. The same in every version, because nodes of different versions compare it.
fn hash_of(stored: &[u8], packed: &[u8]) -> u64 {
    absorb(absorb(0x9e37_79b9_7f4a_7c15, stored), packed)
}

/// Folds bytes into a hash, eight at a time, by multiplying to 128 bits and folding the halves.
fn absorb(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = fold(seed ^ bytes.len() as u64, 0xa076_1d64_78bd_642f);
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), 0xe703_7ed1_a0b4_28db);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(hash ^ u64::from_le_bytes(last), 0x8ebc_6af0_9c88_c6e3)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::hash_of;

    #[test]
    fn a_records_hash_never_changes() {
        assert_eq!(hash_of(b"\x01key", b"a value of 20 bytes."), 0x6833_d40f_8224_fc55);
    }

    #[test]
    fn every_bit_counts() {
        let (key, value) = ([7; 20], [9; 33]);
        let hash = hash_of(&key, &value);
        for bit in 0..160 {
            let mut other = key;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash_of(&other, &value), hash);
        }
        for bit in 0..264 {
            let mut other = value;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash_of(&key, &other), hash);
        }
        assert_ne!(hash_of(b"ab", b"c"), hash_of(b"a", b"bc"));
        assert_ne!(hash_of(b"a\0", b""), hash_of(b"a", b""));
    }
}
