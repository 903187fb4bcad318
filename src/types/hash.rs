//! What can be done with a hash: fields, and a value to each.
//!
//! The fields of a small hash lie in its key's record in the order in which they came, those of a large one
//! [apart](super::collection), in the order of their bytes.
//!
//! # Format
//! In a record: each field and its value, as [`collection::pack`] has them. Apart: the field is the element's name
//! and the value its content.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::collection::{self, Apart, Body, INLINE_BYTES_MAX};
use super::keyspace::{self, Expiry, Place};
use super::record::{Form, Kind, Record};
use super::scan::Filter;
use super::{random, string};
use crate::error::{ClientError, Failure, StoreError, text};
use crate::resp::extended::Extended;
use crate::resp::number;
use crate::store::{Chance, Txn, View};

/// The most fields, and the longest field or value, that Redis keeps in a listpack: the defaults of
/// `hash-max-listpack-entries` and `hash-max-listpack-value`.
const LISTPACK_FIELDS_MAX: u64 = 512;
const LISTPACK_BYTES_MAX: usize = 64;

/// A hash, as it was found. Without a key it has no fields.
#[derive(Clone, Debug)]
pub enum Hash {
    /// A few fields, in the order in which they came.
    Small(Vec<(Bytes, Bytes)>),
    Large(Apart),
}

/// The hash at a key.
///
/// # Errors
/// "wrong kind of value".
pub fn get(view: &View, db: u8, key: &[u8]) -> Result<Hash, Failure> {
    of(keyspace::get(view, db, key)?.as_ref())
}

/// The hash in a record.
///
/// # Errors
/// "wrong kind of value".
pub fn of(record: Option<&Record>) -> Result<Hash, Failure> {
    let Some(record) = record else { return Ok(Hash::Small(Vec::new())) };
    if record.header.kind != Kind::Hash {
        return Err(text::WRONG_TYPE.into());
    }
    Ok(match Body::decode(&record.value)? {
        Body::Inline(elements) => Hash::Small(decode(&elements)?),
        Body::Apart(apart) => Hash::Large(apart),
    })
}

impl Hash {
    /// How many fields it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Small(pairs) => pairs.len() as u64,
            Self::Large(apart) => apart.count,
        }
    }

    /// Whether it has no fields, that is, whether there is no such key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    pub fn get(&self, view: &View, field: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Small(pairs) => Ok(place(pairs, field).map(|place| pairs[place].1.clone())),
            Self::Large(apart) => apart.get(view, field),
        }
    }

    /// All fields and their values.
    pub fn pairs(&self, view: &View) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        match self {
            Self::Small(pairs) => Ok(pairs.clone()),
            Self::Large(apart) => {
                let mut pairs = Vec::new();
                apart.walk(view, None, &mut |field, value| {
                    pairs.push((Bytes::copy_from_slice(field), Bytes::copy_from_slice(value)));
                    ControlFlow::Continue(())
                })?;
                Ok(pairs)
            }
        }
    }
}

/// A page of a hash, as HSCAN has it.
#[derive(Debug, Default)]
pub struct Page {
    pub pairs: Vec<(Bytes, Bytes)>,
    /// Where the next page begins; 0 if there is none.
    pub cursor: u64,
}

impl Hash {
    /// Those among the next `count` fields after the cursor that match a pattern. A small hash is one page.
    pub fn page(
        &self,
        view: &View,
        cursor: u64,
        count: usize,
        pattern: Option<&Bytes>,
    ) -> Result<Page, StoreError> {
        let filter = Filter { pattern: pattern.cloned(), kind: None };
        let mut page = Page::default();
        match self {
            Self::Small(pairs) => {
                page.pairs = pairs.iter().filter(|(field, _)| filter.matches(field)).cloned().collect();
            }
            Self::Large(apart) => {
                page.cursor = apart.page(view, cursor, count, &mut |field, value| {
                    if filter.matches(field) {
                        page.pairs.push((Bytes::copy_from_slice(field), Bytes::copy_from_slice(value)));
                    }
                })?;
            }
        }
        Ok(page)
    }

    /// `count` different fields and their values, by chance; all, if there are not more.
    pub fn distinct(
        &self,
        view: &View,
        count: u64,
        chance: &mut Chance,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        match self {
            Self::Small(pairs) => Ok(random::places(pairs.len() as u64, count, chance)
                .into_iter()
                .map(|place| pairs[place as usize].clone())
                .collect()),
            Self::Large(apart) => random::distinct(view, apart, count, chance),
        }
    }

    /// `count` fields and their values, each drawn anew, of a hash that has any.
    ///
    /// # Errors
    /// They would be larger than a string may be.
    pub fn repeated(
        &self,
        view: &View,
        count: u64,
        chance: &mut Chance,
    ) -> Result<Vec<(Bytes, Bytes)>, Failure> {
        let drawn = match self {
            Self::Small(pairs) => {
                (0..count).map(|_| pairs[chance.below(pairs.len() as u64) as usize].clone()).collect()
            }
            Self::Large(apart) => random::repeated(view, apart, count, chance)?,
        };
        // They share their bytes, but the reply will not.
        let bytes: usize = drawn.iter().map(|(field, value)| field.len() + value.len()).sum();
        if bytes > string::BYTES_MAX { Err(text::VALUE_OUT_OF_RANGE.into()) } else { Ok(drawn) }
    }
}

/// A hash that is being changed: nothing is seen of it before [`Change::finish`].
pub struct Change<'k> {
    place: Place<'k>,
    hash: Hash,
    /// The encoding Redis would use. It never goes back to the compact one.
    form: Form,
}

impl<'k> Change<'k> {
    /// Looks a hash up, to change it.
    ///
    /// # Errors
    /// "wrong kind of value".
    pub fn find(view: &View, db: u8, key: &'k [u8]) -> Result<Self, Failure> {
        let place = Place::find(view, db, key)?;
        let hash = of(place.record())?;
        let form = place.record().map_or(Form::Whole, |record| record.header.form);
        Ok(Self { place, hash, form })
    }

    /// The hash with what was changed.
    #[must_use]
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Sets a field. Says whether it is new.
    pub fn set(&mut self, tx: &mut Txn, field: &Bytes, value: &Bytes) -> Result<bool, StoreError> {
        let is_new = match &mut self.hash {
            Hash::Small(pairs) => match place(pairs, field) {
                Some(place) => {
                    pairs[place].1 = value.clone();
                    false
                }
                None => {
                    pairs.push((field.clone(), value.clone()));
                    true
                }
            },
            Hash::Large(apart) => apart.put(tx, field, value)?,
        };
        self.move_apart(tx)?;
        let grown =
            field.len().max(value.len()) > LISTPACK_BYTES_MAX || self.hash.len() > LISTPACK_FIELDS_MAX;
        if grown {
            self.form = Form::Grown;
        }
        Ok(is_new)
    }

    /// Removes a field, and says whether it was there.
    pub fn remove(&mut self, tx: &mut Txn, field: &[u8]) -> Result<bool, StoreError> {
        match &mut self.hash {
            Hash::Small(pairs) => Ok(place(pairs, field).map(|place| pairs.remove(place)).is_some()),
            Hash::Large(apart) => apart.remove(tx, field),
        }
    }

    /// Writes the hash, or removes the key of one that has no fields left. Says whether there is one.
    pub fn finish(self, tx: &mut Txn) -> bool {
        if self.hash.is_empty() {
            self.place.remove(tx);
            return false;
        }
        let body = match self.hash {
            Hash::Small(pairs) => Body::Inline(collection::pack(parts(&pairs))),
            Hash::Large(apart) => Body::Apart(apart),
        };
        self.place.put(tx, Kind::Hash, self.form, &body.encode(), Expiry::Keep);
        true
    }

    /// Moves the fields out of the record if they have become too many for it.
    fn move_apart(&mut self, tx: &mut Txn) -> Result<(), StoreError> {
        if let Hash::Small(pairs) = &self.hash
            && collection::packed_bytes(parts(pairs)) > INLINE_BYTES_MAX
        {
            let mut apart = Apart::create(tx);
            for (field, value) in pairs {
                apart.put(tx, field, value)?;
            }
            self.hash = Hash::Large(apart);
        }
        Ok(())
    }
}

/// The number after adding `by` to the one in a field's value, none counting as zero.
///
/// # Errors
/// "not an integer", "would overflow".
pub fn incremented(value: Option<&Bytes>, by: i64) -> Result<i64, ClientError> {
    let old = match value {
        Some(value) => number::parse_int(value).ok_or(text::HASH_VALUE_NOT_AN_INTEGER)?,
        None => 0,
    };
    old.checked_add(by).ok_or(text::OVERFLOW)
}

/// The number after adding `by` to the one in a field's value, none counting as zero, as text: to the digit what
/// Redis answers.
///
/// # Errors
/// "not a float", "would produce NaN or Infinity".
pub fn incremented_by_float(value: Option<&Bytes>, by: Extended) -> Result<Bytes, ClientError> {
    let old = Extended::parse(value.map_or(&b"0"[..], |value| value)).ok_or(text::HASH_VALUE_NOT_A_FLOAT)?;
    Ok(old.checked_add(by).ok_or(text::NAN_OR_INFINITY)?.to_text().into())
}

/// The encoding Redis would use for it.
#[must_use]
pub fn encoding(record: &Record) -> &'static str {
    if record.header.form == Form::Grown { "hashtable" } else { "listpack" }
}

fn place(pairs: &[(Bytes, Bytes)], field: &[u8]) -> Option<usize> {
    pairs.iter().position(|(known, _)| known == field)
}

fn parts(pairs: &[(Bytes, Bytes)]) -> impl Iterator<Item = &Bytes> + Clone {
    pairs.iter().flat_map(|(field, value)| [field, value])
}

fn decode(packed: &Bytes) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut parts = collection::unpack(packed)?.into_iter();
    let mut pairs = Vec::with_capacity(parts.len() / 2);
    while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
        pairs.push((field, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_bytes_decode() {
        let packed = Bytes::from_static(b"\0\0\0\x01f\0\0\0\x02v1\0\0\0\0\0\0\0\0");
        let pairs = vec![(Bytes::from("f"), Bytes::from("v1")), (Bytes::new(), Bytes::new())];
        assert_eq!(decode(&packed).expect("as it was written"), pairs);
        assert_eq!(collection::pack(parts(&pairs)), packed);
    }

    #[test]
    fn numbers_are_added_as_in_redis() {
        let value = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(incremented(None, 5), Ok(5));
        assert_eq!(incremented(Some(&value("9223372036854775807")), 1), Err(text::OVERFLOW));
        assert_eq!(incremented(Some(&value(" 1")), 1), Err(text::HASH_VALUE_NOT_AN_INTEGER));
        let by = |text: &str| Extended::parse(text.as_bytes()).expect("a number");
        assert_eq!(incremented_by_float(Some(&value("3.0")), by("1.1")).expect("a sum"), "4.1");
        assert_eq!(incremented_by_float(None, by("1e2")).expect("a sum"), "100");
        assert_eq!(incremented_by_float(Some(&value("x")), by("1")), Err(text::HASH_VALUE_NOT_A_FLOAT));
        assert_eq!(incremented_by_float(Some(&value("inf")), by("1")), Err(text::NAN_OR_INFINITY));
    }
}
