//! Strings, changed in part.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::{Class, Expiry, Place, keyspace, string};

/// Writes behind a value.
pub struct Append {
    db: u8,
    key: Bytes,
    piece: Bytes,
}

impl Write for Append {
    const SPEC: Spec = Spec {
        name: "APPEND",
        syntax: "key value",
        summary: "Append a value to a key",
        complexity: "O(N) where N is the length of the resulting string.",
        since: "2.0.0",
        keys: Keys::at(1, Access::Insert),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, piece: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let length = match string::of(place.record())? {
            None => {
                let length = self.piece.len();
                string::put_at(tx, place, &self.piece, Expiry::None);
                length
            }
            Some(value) => {
                let whole = string::appended(value, &self.piece)?;
                let length = whole.len();
                string::put_changed(tx, place, &whole);
                length
            }
        };
        keyspace::notify(tx, Class::String, "append", self.db, &self.key);
        Ok(Reply::length(length))
    }
}

/// Writes over a part of a value.
pub struct SetRange {
    db: u8,
    key: Bytes,
    offset: usize,
    piece: Bytes,
}

impl Write for SetRange {
    const SPEC: Spec = Spec {
        name: "SETRANGE",
        syntax: "key offset value",
        summary: "Overwrite part of a string at key starting at the specified offset",
        complexity: "O(N) where N is the length of the resulting string.",
        since: "2.2.0",
        keys: Keys::at(1, Access::Change),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        let offset = usize::try_from(args.int()?).map_err(|_| text::OFFSET_OUT_OF_RANGE)?;
        Ok(Self { db, key, offset, piece: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let value = string::of(place.record())?.cloned().unwrap_or_default();
        if self.piece.is_empty() {
            return Ok(Reply::length(value.len()));
        }
        let whole = string::overwritten(&value, self.offset, &self.piece)?;
        let length = whole.len();
        string::put_changed(tx, place, &whole);
        keyspace::notify(tx, Class::String, "setrange", self.db, &self.key);
        Ok(Reply::length(length))
    }
}
