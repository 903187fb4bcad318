//! Strings, counted up and down.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::{Class, Expiry, Form, Kind, Place, keyspace, string};

/// What the commands that add have in common.
const ADDING: Spec = Spec {
    keys: Keys::at(1, Access::Update),
    flags: Flags::DENYOOM.and(Flags::FAST),
    ..Spec::of(Group::String)
};

/// Adds one.
pub struct Incr(Addition);

impl Write for Incr {
    const SPEC: Spec = Spec {
        name: "INCR",
        syntax: "key",
        summary: "Increment the integer value of a key by one",
        ..ADDING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Addition { db: args.db, key: args.bytes()?, amount: 1 }))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Takes one off.
pub struct Decr(Addition);

impl Write for Decr {
    const SPEC: Spec = Spec {
        name: "DECR",
        syntax: "key",
        summary: "Decrement the integer value of a key by one",
        ..ADDING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Addition { db: args.db, key: args.bytes()?, amount: -1 }))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Adds an integer.
pub struct IncrBy(Addition);

impl Write for IncrBy {
    const SPEC: Spec = Spec {
        name: "INCRBY",
        syntax: "key increment",
        summary: "Increment the integer value of a key by the given amount",
        ..ADDING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Addition { db: args.db, key: args.bytes()?, amount: args.int()? }))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Takes an integer off.
pub struct DecrBy(Addition);

impl Write for DecrBy {
    const SPEC: Spec = Spec {
        name: "DECRBY",
        syntax: "key decrement",
        summary: "Decrement the integer value of a key by the given number",
        ..ADDING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        let amount = args.int()?.checked_neg().ok_or(text::DECREMENT_OVERFLOW)?;
        Ok(Self(Addition { db, key, amount }))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

struct Addition {
    db: u8,
    key: Bytes,
    amount: i64,
}

impl Addition {
    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let sum = string::incremented(string::of(place.record())?, self.amount)?;
        let value = Bytes::copy_from_slice(itoa::Buffer::new().format(sum).as_bytes());
        string::put_at(tx, place, &value, Expiry::Keep);
        keyspace::notify(tx, Class::String, "incrby", self.db, &self.key);
        Ok(Reply::Int(sum))
    }
}

/// Adds a floating point number.
pub struct IncrByFloat {
    db: u8,
    key: Bytes,
    amount: Bytes,
}

impl Write for IncrByFloat {
    const SPEC: Spec = Spec {
        name: "INCRBYFLOAT",
        syntax: "key increment",
        summary: "Increment the float value of a key by the given amount",
        since: "2.6.0",
        ..ADDING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, amount: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let sum = string::incremented_by_float(string::of(place.record())?, &self.amount)?;
        place.put(tx, Kind::String, Form::Computed, &sum, Expiry::Keep);
        keyspace::notify(tx, Class::String, "incrbyfloat", self.db, &self.key);
        Ok(Reply::Bulk(sum))
    }
}
