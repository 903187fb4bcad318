//! The stored form of keys: what orders the buffers and the database.
//!
//! A stored key is its table's number and the key, so that all tables share one ordered byte space. The
//! database takes no key longer than 511 bytes. A longer one is stored under its first 494 bytes and a
//! 128-bit hash of all of it, and its full text stands in front of the value. Stored keys of exactly
//! 511 bytes are these and no others. The hash is SHA-256, cut, so that no client can make two of its
//! keys meet.
//!
//! The limit is seen in one place only: keys that agree in their first 494 bytes and of which one is
//! longer than 509 come in an order of their own. It is the same in both buffers, in the database and on
//! every node.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};

use bytes::{BufMut, Bytes};
use foldhash::fast::FixedState;
use sha2::{Digest, Sha256};

use super::Table;
use super::value::{Content, Found};
use crate::error::StoreError;

/// The longest key that LMDB takes.
const STORED_MAX: usize = 511;
const HASH_BYTES: usize = 16;
/// How much of a stored key that is too long stays as it is, the table's number included.
const CUT: usize = STORED_MAX - HASH_BYTES;
/// How many bytes a [`Key`] holds without memory of its own: with them, a buffer's slot of key and change
/// is one cache line.
const INLINE: usize = 46;

/// How much of a key is certain to be compared byte by byte: the longest prefix by which keys can be
/// told apart by their place alone.
pub(super) const ORDERED_BYTES: usize = CUT - 1;

/// A stored key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    Short { len: u8, bytes: [u8; INLINE] },
    Long(Box<[u8]>),
}

impl Key {
    /// The stored form of `key` in `table`.
    pub fn new(table: Table, key: &[u8]) -> Self {
        Self::joined(table, key, &[])
    }

    /// The stored form of the key that `first` and `rest` make.
    fn joined(table: Table, first: &[u8], rest: &[u8]) -> Self {
        let len = 1 + first.len() + rest.len();
        if len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[0] = table as u8;
            bytes[1..=first.len()].copy_from_slice(first);
            bytes[1 + first.len()..len].copy_from_slice(rest);
            return Self::Short { len: len as u8, bytes };
        }
        let key = [first, rest].concat();
        let mut bytes = Vec::with_capacity(len.min(STORED_MAX));
        bytes.push(table as u8);
        if len < STORED_MAX {
            bytes.extend_from_slice(&key);
        } else {
            bytes.extend_from_slice(&key[..CUT - 1]);
            bytes.extend_from_slice(&Sha256::digest(&key)[..HASH_BYTES]);
        }
        Self::Long(bytes.into())
    }

    /// The key whose stored bytes these are.
    pub fn from_stored(stored: &[u8]) -> Self {
        if stored.len() <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..stored.len()].copy_from_slice(stored);
            Self::Short { len: stored.len() as u8, bytes }
        } else {
            Self::Long(stored.into())
        }
    }

    /// Whether these are not all of the key.
    pub fn is_cut(&self) -> bool {
        self.as_bytes().len() == STORED_MAX
    }

    /// The stored bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

/// A key of a table, and what a buffer needs to know to look for it.
#[derive(Clone, Debug)]
pub struct Located {
    stored: Key,
    hash: u64,
    /// The key, if its stored form does not hold all of it.
    whole: Option<Box<[u8]>>,
}

impl Located {
    #[inline]
    pub(super) fn new(hasher: &FixedState, table: Table, first: &[u8], rest: &[u8]) -> Self {
        let stored = Key::joined(table, first, rest);
        let hash = hash_of(hasher, &stored);
        let whole = if stored.is_cut() { Some([first, rest].concat().into()) } else { None };
        Self { stored, hash, whole }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.whole.as_deref().unwrap_or_else(|| &self.stored.as_bytes()[1..])
    }

    pub(super) fn stored(&self) -> &Key {
        &self.stored
    }

    /// The hash of it by which the buffers look for it.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// The hash by which a buffer looks for a key.
pub(super) fn hash_of(hasher: &FixedState, stored: &Key) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(stored.as_bytes());
    hasher.finish()
}

/// What is stored for the value that `parts` make.
pub(super) fn pack<'v>(located: &Located, parts: [&'v [u8]; 2]) -> Content<'v> {
    match &located.whole {
        Some(key) => Content::Whole(with_key(key, parts)),
        None => Content::Parts(parts),
    }
}

/// The same for a `key` that the stored form does not hold all of.
pub(super) fn with_key(key: &[u8], parts: [&[u8]; 2]) -> Bytes {
    let mut packed = Vec::with_capacity(4 + key.len() + parts[0].len() + parts[1].len());
    packed.put_u32_le(u32::try_from(key.len()).expect("a key came in one entry, which is far below 4 GiB"));
    packed.extend_from_slice(key);
    parts.iter().for_each(|part| packed.extend_from_slice(part));
    packed.into()
}

/// The value of `located` in what is stored for it.
pub(super) fn value_of<'p>(located: &Located, packed: Found<'p>) -> Result<Found<'p>, StoreError> {
    let Some(key) = &located.whole else { return Ok(packed) };
    let stored = located.stored.as_bytes();
    let (_, found, value) = unpack(stored, packed.bytes())?;
    if *found != **key {
        return Err(StoreError::Corrupt(format!("{} holds another key's value", shown(stored))));
    }
    Ok(packed.after(packed.len() - value.len()))
}

/// The table, the full key and the value of what is stored.
pub(super) fn unpack<'a>(
    stored: &'a [u8],
    packed: &'a [u8],
) -> Result<(Table, &'a [u8], &'a [u8]), StoreError> {
    let broken = || StoreError::Corrupt(format!("{} does not hold a key and a value", shown(stored)));
    let (&table, key) = stored.split_first().ok_or_else(broken)?;
    let table = Table::try_from(table)?;
    if stored.len() < STORED_MAX {
        return Ok((table, key, packed));
    }
    let (len, rest) = packed.split_first_chunk().ok_or_else(broken)?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(broken)?;
    Ok((table, key, value))
}

/// A stored key as an error message names it.
pub(super) fn shown(stored: &[u8]) -> String {
    let (table, key) = stored.split_first().map_or((0, stored), |(table, key)| (*table, key));
    let cut = &key[..key.len().min(128)];
    let more = if cut.len() < key.len() { "..." } else { "" };
    match Table::try_from(table) {
        Ok(table) => format!("\"{}\"{more} in table {table:?}", cut.escape_ascii()),
        Err(_) => format!("\"{}\"{more} in table {table}", cut.escape_ascii()),
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(key: &[u8]) -> Located {
        let (first, rest) = key.split_at(key.len().min(8));
        Located::new(&FixedState::with_seed(7), Table::Elements, first, rest)
    }

    #[test]
    fn every_length_comes_back() {
        for len in [0, 1, 44, 45, 46, 47, 493, 494, 495, 508, 509, 510, 511, 512, 5000] {
            let text = vec![b'k'; len];
            let located = located(&text);
            assert_eq!(located.key(), text);
            assert!(*located.stored() == Key::new(Table::Elements, &text), "{len}");
            let stored = located.stored().as_bytes();
            assert!(stored.len() <= STORED_MAX, "{len}");
            let packed = pack(&located, [b"val", b"ue"]).into_bytes();
            assert_eq!(
                unpack(stored, &packed).expect("what was packed"),
                (Table::Elements, &text[..], &b"value"[..])
            );
            let value = value_of(&located, Found::shared(&packed)).expect("what was packed");
            assert_eq!(value.to_bytes(), "value");
        }
    }

    #[test]
    fn a_short_key_never_looks_like_a_hashed_one() {
        assert_eq!(Key::new(Table::Keys, &[0; 509]).as_bytes().len(), 510);
        assert_eq!(Key::new(Table::Keys, &[0; 510]).as_bytes().len(), 511);
        assert_eq!(Key::new(Table::Keys, &[0; 511]).as_bytes().len(), 511);
        assert!(Key::new(Table::Keys, &[0; 510]) != Key::new(Table::Keys, &[0; 511]));
    }

    #[test]
    fn another_keys_value_is_refused() {
        let (one, other) = ([b'a'; 600], [b'b'; 600]);
        let (one, other) = (located(&one), located(&other));
        let packed = pack(&other, [&[], &[]]).into_bytes();
        assert!(matches!(value_of(&one, Found::shared(&packed)), Err(StoreError::Corrupt(_))));
        assert!(unpack(one.stored().as_bytes(), &[9, 0, 0, 0, 1]).is_err());
    }
}
