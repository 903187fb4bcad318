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

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};

use super::Table;
use crate::error::StoreError;

/// The longest key that LMDB takes.
const STORED_MAX: usize = 511;
const HASH_BYTES: usize = 16;
/// How much of a stored key that is too long stays as it is, the table's number included.
const CUT: usize = STORED_MAX - HASH_BYTES;
/// How many bytes a [`Key`] holds without memory of its own: with them, a buffer's slot of key and value
/// is one cache line.
const INLINE: usize = 30;

/// How much of a key is certain to be compared byte by byte: the longest prefix by which keys can be
/// told apart by their place alone.
pub(super) const ORDERED_BYTES: usize = CUT - 1;

/// A stored key.
#[derive(Clone)]
pub(super) enum Key {
    Short { len: u8, bytes: [u8; INLINE] },
    Long(Box<[u8]>),
}

impl Key {
    /// The stored form of `key` in `table`.
    pub fn new(table: Table, key: &[u8]) -> Self {
        let len = key.len() + 1;
        if len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[0] = table as u8;
            bytes[1..len].copy_from_slice(key);
            Self::Short { len: len as u8, bytes }
        } else if len < STORED_MAX {
            let mut bytes = Vec::with_capacity(len);
            bytes.push(table as u8);
            bytes.extend_from_slice(key);
            Self::Long(bytes.into())
        } else {
            let mut bytes = Vec::with_capacity(STORED_MAX);
            bytes.push(table as u8);
            bytes.extend_from_slice(&key[..CUT - 1]);
            bytes.extend_from_slice(&Sha256::digest(key)[..HASH_BYTES]);
            Self::Long(bytes.into())
        }
    }

    /// The stored form of the key that `first` and `rest` make, if it needs no memory of its own.
    pub fn inline(table: Table, first: &[u8], rest: &[u8]) -> Option<Self> {
        let (middle, len) = (1 + first.len(), 1 + first.len() + rest.len());
        let mut bytes = [0; INLINE];
        bytes.get_mut(middle..len)?.copy_from_slice(rest);
        bytes[1..middle].copy_from_slice(first);
        bytes[0] = table as u8;
        Some(Self::Short { len: len as u8, bytes })
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

    /// What follows the table's number.
    pub fn address(&self) -> &[u8] {
        &self.as_bytes()[1..]
    }

    /// The stored bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

/// What is stored beside `stored` for `key` and `value`.
pub(super) fn pack(stored: &Key, key: &[u8], value: Bytes) -> Bytes {
    if stored.as_bytes().len() < STORED_MAX {
        return value;
    }
    let mut packed = Vec::with_capacity(4 + key.len() + value.len());
    packed.put_u32_le(u32::try_from(key.len()).expect("a key came in one entry, which is far below 4 GiB"));
    packed.extend_from_slice(key);
    packed.extend_from_slice(&value);
    packed.into()
}

/// The value that `key` has in what is stored beside `stored`.
pub(super) fn value_of<'p>(
    stored: &Key,
    key: &[u8],
    packed: &'p Bytes,
) -> Result<Cow<'p, Bytes>, StoreError> {
    if stored.as_bytes().len() < STORED_MAX {
        return Ok(Cow::Borrowed(packed));
    }
    let (_, found, value) = unpack(stored.as_bytes(), packed)?;
    if found != key {
        return Err(StoreError::Corrupt(format!("{} holds another key's value", shown(stored.as_bytes()))));
    }
    Ok(Cow::Owned(packed.slice(packed.len() - value.len()..)))
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

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a slice hashes, since a Key is looked up by one.
        self.as_bytes().hash(state);
    }
}

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

    #[test]
    fn every_length_comes_back() {
        for len in [0, 1, 28, 29, 30, 31, 493, 494, 495, 508, 509, 510, 511, 512, 5000] {
            let text = vec![b'k'; len];
            let value = Bytes::from_static(b"value");
            let key = Key::new(Table::Elements, &text);
            assert!(key.as_bytes().len() <= STORED_MAX, "{len}");
            let packed = pack(&key, &text, value.clone());
            assert_eq!(
                unpack(key.as_bytes(), &packed).expect("what was packed"),
                (Table::Elements, &text[..], &value[..])
            );
            assert_eq!(*value_of(&key, &text, &packed).expect("what was packed"), value);
        }
    }

    #[test]
    fn a_key_in_two_parts_is_the_same_key() {
        let text = [b'k'; INLINE];
        for len in 8..INLINE {
            let (first, rest) = text[..len].split_at(8);
            let joined = Key::inline(Table::Keys, first, rest).expect("it fits");
            assert!(joined == Key::new(Table::Keys, &text[..len]), "{len}");
        }
        assert!(Key::inline(Table::Keys, &text[..8], &text[8..]).is_none());
    }

    #[test]
    fn a_short_key_never_looks_like_a_hashed_one() {
        assert_eq!(Key::new(Table::Keys, &[0; 509]).as_bytes().len(), 510);
        assert_eq!(Key::new(Table::Keys, &[0; 510]).as_bytes().len(), 511);
        assert_eq!(Key::new(Table::Keys, &[0; 511]).as_bytes().len(), 511);
        assert!(Key::new(Table::Keys, &[0; 510]) != Key::new(Table::Keys, &[0; 511]));
    }

    #[test]
    fn a_slot_is_a_cache_line() {
        assert_eq!(size_of::<(Key, Option<Bytes>)>(), 64);
    }

    #[test]
    fn another_keys_value_is_refused() {
        let (one, other) = ([b'a'; 600], [b'b'; 600]);
        let key = Key::new(Table::Keys, &one);
        let packed = pack(&key, &other, Bytes::new());
        assert!(matches!(value_of(&key, &one, &packed), Err(StoreError::Corrupt(_))));
        assert!(unpack(key.as_bytes(), &[9, 0, 0, 0, 1]).is_err());
    }
}
