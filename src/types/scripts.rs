//! The scripts that are known: what EVALSHA finds.
//!
//! They are part of the state, so that a name means the same on every node, after a change of leaders, and after a
//! restart. Those that were loaded stay until they are flushed; of those that were only evaluated, the latest
//! are kept, and forgotten in the order in which they came.
//!
//! # In `Table::Meta`
//!
//! | key | value |
//! | --- | --- |
//! | `script:` and 20 bytes, the text's SHA-1 | version, 1; 1 if it was loaded, else 0; its number, 8 bytes; the text |
//! | `script-age:` and 8 bytes big-endian, the number of one that was only evaluated | the 20 bytes |
//! | `scripts` | version, 1; 8 bytes each: the next number; how many were evaluated, and their bytes; how many were loaded, and theirs |
//!
//! Numbers in values are little-endian.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::StoreError;
use crate::store::{Table, Txn, View};

/// How many scripts are kept that were only evaluated, and how many bytes of them.
const EVALUATED_MAX: u64 = 500;
const EVALUATED_BYTES_MAX: u64 = 16 << 20;
/// How many bytes of loaded scripts there may be.
const LOADED_BYTES_MAX: u64 = 64 << 20;
/// What a script counts beside its text.
const SCRIPT_BYTES: u64 = 1024;

const VERSION: u8 = 1;
const SCRIPTS: &[u8] = b"scripts";
const SCRIPT: &[u8] = b"script:";
const AGE: &[u8] = b"script-age:";

/// The SHA-1 of a script's text.
pub type Digest = [u8; 20];

/// There is no room for another loaded script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The text of a script.
///
/// # Errors
/// The store failed.
pub fn get(view: &View, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
    Ok(find(view, digest)?.map(|found| found.text))
}

/// Keeps a script for as long as nobody flushes.
///
/// # Errors
/// The store failed; `Full` inside.
pub fn load(tx: &mut Txn, digest: &Digest, text: &Bytes) -> Result<Result<(), Full>, StoreError> {
    let found = find(tx, digest)?;
    if found.as_ref().is_some_and(|found| found.loaded) {
        return Ok(Ok(()));
    }
    let mut counts = Counts::read(tx)?;
    if counts.loaded_bytes + size(text) > LOADED_BYTES_MAX {
        return Ok(Err(Full));
    }
    if let Some(found) = found {
        counts.forget(tx, &found);
    }
    counts.loaded += 1;
    counts.loaded_bytes += size(text);
    counts.put(tx, digest, true, text);
    counts.write(tx);
    Ok(Ok(()))
}

/// Keeps a script that was evaluated, and forgets the oldest of these if they are too many.
///
/// # Errors
/// The store failed.
pub fn remember(tx: &mut Txn, digest: &Digest, text: &Bytes) -> Result<(), StoreError> {
    if find(tx, digest)?.is_some() {
        return Ok(());
    }
    let mut counts = Counts::read(tx)?;
    counts.evaluated += 1;
    counts.evaluated_bytes += size(text);
    while counts.evaluated > EVALUATED_MAX || counts.evaluated_bytes > EVALUATED_BYTES_MAX {
        let Some(oldest) = oldest(tx)? else { break };
        let found = find(tx, &oldest)?.ok_or_else(corrupt)?;
        counts.forget(tx, &found);
        tx.delete(Table::Meta, &key(&oldest));
    }
    let number = counts.put(tx, digest, false, text);
    tx.put(Table::Meta, &age_key(number), digest);
    counts.write(tx);
    Ok(())
}

/// How many are known, and how many bytes they count.
///
/// # Errors
/// The store failed.
pub fn totals(view: &View) -> Result<(u64, u64), StoreError> {
    let counts = Counts::read(view)?;
    Ok((counts.loaded + counts.evaluated, counts.loaded_bytes + counts.evaluated_bytes))
}

/// Forgets all scripts.
///
/// # Errors
/// The store failed.
pub fn flush(tx: &mut Txn) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    for prefix in [SCRIPT, AGE] {
        tx.scan_prefix(Table::Meta, prefix, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    for key in keys {
        tx.delete(Table::Meta, &key);
    }
    let next = Counts::read(tx)?.next;
    if next > 0 {
        Counts { next, ..Counts::default() }.write(tx);
    }
    Ok(())
}

/// A script as it is stored.
struct Found {
    loaded: bool,
    number: u64,
    text: Bytes,
}

fn find(view: &View, digest: &Digest) -> Result<Option<Found>, StoreError> {
    view.get(Table::Meta, &key(digest))?.map(|stored| decode(&stored).ok_or_else(corrupt)).transpose()
}

fn decode(stored: &Bytes) -> Option<Found> {
    let (&[version, loaded], rest) = stored.split_first_chunk()?;
    let (number, text) = rest.split_first_chunk()?;
    if version != VERSION || loaded > 1 {
        return None;
    }
    let text = stored.slice(stored.len() - text.len()..);
    Some(Found { loaded: loaded == 1, number: u64::from_le_bytes(*number), text })
}

fn oldest(view: &View) -> Result<Option<Digest>, StoreError> {
    let mut oldest = None;
    view.scan_prefix(Table::Meta, AGE, &mut |_, digest| {
        oldest = Some(digest.try_into().map_err(|_| corrupt()));
        ControlFlow::Break(())
    })?;
    oldest.transpose()
}

/// How many scripts there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    next: u64,
    evaluated: u64,
    evaluated_bytes: u64,
    loaded: u64,
    loaded_bytes: u64,
}

impl Counts {
    fn read(view: &View) -> Result<Self, StoreError> {
        let Some(stored) = view.get(Table::Meta, SCRIPTS)? else { return Ok(Self::default()) };
        let decoded = || {
            let (&version, numbers) = stored.split_first()?;
            let [next, evaluated, evaluated_bytes, loaded, loaded_bytes] = numbers.as_chunks().0 else {
                return None;
            };
            let [next, evaluated, evaluated_bytes, loaded, loaded_bytes] =
                [next, evaluated, evaluated_bytes, loaded, loaded_bytes]
                    .map(|bytes| u64::from_le_bytes(*bytes));
            (version == VERSION).then_some(Self { next, evaluated, evaluated_bytes, loaded, loaded_bytes })
        };
        decoded().ok_or_else(corrupt)
    }

    fn write(self, tx: &mut Txn) {
        let mut stored = BytesMut::with_capacity(41);
        stored.put_u8(VERSION);
        for number in [self.next, self.evaluated, self.evaluated_bytes, self.loaded, self.loaded_bytes] {
            stored.put_u64_le(number);
        }
        tx.put(Table::Meta, SCRIPTS, &stored);
    }

    /// Stores a script under the next number, and answers that.
    fn put(&mut self, tx: &mut Txn, digest: &Digest, loaded: bool, text: &[u8]) -> u64 {
        let number = self.next;
        self.next += 1;
        let mut stored = BytesMut::with_capacity(10 + text.len());
        stored.put_slice(&[VERSION, u8::from(loaded)]);
        stored.put_u64_le(number);
        stored.put_slice(text);
        tx.put(Table::Meta, &key(digest), &stored);
        number
    }

    /// Takes a script off the books that was only evaluated.
    fn forget(&mut self, tx: &mut Txn, found: &Found) {
        self.evaluated -= 1;
        self.evaluated_bytes -= size(&found.text);
        tx.delete(Table::Meta, &age_key(found.number));
    }
}

fn key(digest: &Digest) -> Vec<u8> {
    [SCRIPT, digest].concat()
}

fn age_key(number: u64) -> Vec<u8> {
    [AGE, &number.to_be_bytes()].concat()
}

fn size(text: &[u8]) -> u64 {
    text.len() as u64 + SCRIPT_BYTES
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("what is kept about scripts cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::{begin, with_store};

    fn digest(number: u64) -> Digest {
        let mut digest = [0; 20];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn known(view: &View, number: u64) -> bool {
        get(view, &digest(number)).expect("the simulated disk works").is_some()
    }

    #[test]
    fn the_stored_form_never_changes() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            let (one, other) = (digest(1), digest(2));
            remember(&mut tx, &one, &Bytes::from_static(b"a")).expect("the simulated disk works");
            let full = load(&mut tx, &other, &Bytes::from_static(b"bc")).expect("the simulated disk works");
            assert_eq!(full, Ok(()));
            let stored = |key: &[u8]| tx.get(Table::Meta, key).expect("the simulated disk works");
            let mut script = [&b"script:"[..], &one].concat();
            assert_eq!(stored(&script).expect("it is there"), &b"\x01\x00\0\0\0\0\0\0\0\0a"[..]);
            script.truncate(7);
            script.extend_from_slice(&other);
            assert_eq!(stored(&script).expect("it is there"), &b"\x01\x01\x01\0\0\0\0\0\0\0bc"[..]);
            assert_eq!(stored(b"script-age:\0\0\0\0\0\0\0\0").expect("it is there"), &one[..]);
            let counts = b"\x01\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x04\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x04\0\0\0\0\0\0";
            assert_eq!(stored(b"scripts").expect("it is there"), &counts[..]);
        });
    }

    #[test]
    fn the_oldest_evaluated_scripts_are_forgotten_and_loaded_ones_are_not() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            let text = Bytes::from_static(b"return 1");
            remember(&mut tx, &digest(0), &text).expect("the simulated disk works");
            let loaded = load(&mut tx, &digest(0), &text).expect("the simulated disk works");
            assert_eq!(loaded, Ok(()));
            for number in 1..=EVALUATED_MAX + 2 {
                remember(&mut tx, &digest(number), &text).expect("the simulated disk works");
            }
            assert!(known(&tx, 0) && !known(&tx, 1) && !known(&tx, 2) && known(&tx, 3));
            let large = Bytes::from(vec![0; EVALUATED_BYTES_MAX as usize - 2048]);
            remember(&mut tx, &digest(9999), &large).expect("the simulated disk works");
            assert!(known(&tx, 0) && known(&tx, 9999) && !known(&tx, EVALUATED_MAX + 1));
            flush(&mut tx).expect("the simulated disk works");
            assert!(!known(&tx, 0) && !known(&tx, 9999));
            let counts = Counts::read(&tx).expect("it is there");
            assert_eq!(counts, Counts { next: counts.next, ..Counts::default() });
        });
    }

    #[test]
    fn loaded_scripts_are_bounded() {
        with_store(|store| {
            let mut tx = begin(store, 1);
            let large = Bytes::from(vec![0; 30 << 20]);
            let mut load = |number| load(&mut tx, &digest(number), &large).expect("the simulated disk works");
            assert_eq!([load(1), load(2), load(3), load(2)], [Ok(()), Ok(()), Err(Full), Ok(())]);
        });
    }
}
