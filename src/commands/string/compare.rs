//! Strings that are changed only if they hold a certain value: a lock that its holder releases, a value that is
//! replaced by who has seen it. SET has the same conditions. They came with Redis 8.4, DELIFEQ with Valkey 9.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec, Write};
use crate::error::{ClientError, Result, text};
use crate::mutants::{Mutant, planted};
use crate::resp::Reply;
use crate::store::{Txn, View};
use crate::types::{Class, Place, keyspace, string};

/// What a value must be, or must not be.
pub(super) enum Comparison {
    Equal(Bytes),
    NotEqual(Bytes),
    DigestEqual(Bytes),
    DigestNotEqual(Bytes),
}

impl Comparison {
    /// Takes a comparison off the arguments, if the next is one.
    pub fn take(args: &mut Args) -> Result<Option<Self>> {
        Ok(Some(if args.take("IFEQ") {
            Self::Equal(args.bytes()?)
        } else if args.take("IFNE") {
            Self::NotEqual(args.bytes()?)
        } else if args.take("IFDEQ") {
            Self::DigestEqual(args.bytes()?)
        } else if args.take("IFDNE") {
            Self::DigestNotEqual(args.bytes()?)
        } else {
            return Ok(None);
        }))
    }

    /// Whether a key with this value, or without one, is as it must be. No value differs from any.
    ///
    /// # Errors
    /// What should be a digest is none.
    pub fn holds(&self, value: Option<&Bytes>) -> Result<bool, ClientError> {
        let Some(value) = value else {
            return Ok(matches!(self, Self::NotEqual(_) | Self::DigestNotEqual(_)));
        };
        Ok(match self {
            Self::Equal(wanted) => value == wanted || planted(Mutant::ComparisonBlind),
            Self::NotEqual(unwanted) => value != unwanted,
            Self::DigestEqual(wanted) => has_digest(value, wanted)?,
            Self::DigestNotEqual(unwanted) => !has_digest(value, unwanted)?,
        })
    }
}

fn has_digest(value: &Bytes, digest: &Bytes) -> Result<bool, ClientError> {
    let known = string::digest(value);
    if digest.len() != known.len() || !digest.iter().all(u8::is_ascii_hexdigit) {
        return Err(text::INVALID_DIGEST);
    }
    Ok(digest.eq_ignore_ascii_case(known.as_bytes()))
}

/// Deletes a key of any type, or one whose value compares as it must.
pub struct DelEx {
    db: u8,
    key: Bytes,
    condition: Option<Comparison>,
}

impl Write for DelEx {
    const SPEC: Spec = Spec {
        name: "DELEX",
        syntax: "key [IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]",
        summary: "Conditionally removes the specified key based on value or digest comparison.",
        complexity: "O(1) for IFEQ/IFNE, O(N) for IFDEQ/IFDNE where N is the length of the string value.",
        since: "8.4.0",
        keys: Keys::at(1, Access::Take),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if ![1, 3].contains(&args.len()) {
            return Err(args.wrong_number().into());
        }
        let (db, key) = (args.db, args.bytes()?);
        let condition = Comparison::take(args)?;
        if !args.is_empty() {
            return Err(text::INVALID_CONDITION.into());
        }
        Ok(Self { db, key, condition })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let wanted = match &self.condition {
            Some(comparison) if place.exists() => {
                comparison.holds(string::of(place.record()).map_err(|_| text::CONDITION_NEEDS_STRING)?)?
            }
            _ => true,
        };
        delete_if(wanted, tx, place, self.db, &self.key)
    }
}

/// Deletes a key that has this value.
pub struct DelIfEq {
    db: u8,
    key: Bytes,
    value: Bytes,
}

impl Write for DelIfEq {
    const SPEC: Spec = Spec {
        name: "DELIFEQ",
        syntax: "key value",
        summary: "Delete key if value matches string.",
        since: "9.0.0",
        keys: Keys::at(1, Access::Take),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, value: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let wanted = string::of(place.record())? == Some(&self.value);
        delete_if(wanted, tx, place, self.db, &self.key)
    }
}

/// Deletes the key at a place, if there is one and it is wanted, and answers how many were deleted.
fn delete_if(wanted: bool, tx: &mut Txn, place: Place, db: u8, key: &Bytes) -> Result<Reply> {
    let deleted = wanted && place.remove(tx);
    if deleted {
        keyspace::notify(tx, Class::Generic, "del", db, key);
    }
    Ok(Reply::Int(i64::from(deleted)))
}

/// The digest that IFDEQ and IFDNE compare.
pub struct Digest {
    db: u8,
    key: Bytes,
}

impl Read for Digest {
    const SPEC: Spec = Spec {
        name: "DIGEST",
        syntax: "key",
        summary: "Get the XXH3 hash of a string value.",
        complexity: "O(N) where N is the length of the string value.",
        since: "8.4.0",
        keys: Keys::at(1, Access::Read),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let value = string::get(view, self.db, &self.key)?;
        Ok(value.map_or(Reply::Nil, |value| Reply::bulk(string::digest(&value))))
    }
}
