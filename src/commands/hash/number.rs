//! Numbers in hashes, counted up and down.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::resp::extended::Extended;
use crate::store::Txn;
use crate::types::{Class, hash, keyspace};

/// Adds an integer.
pub struct HIncrBy {
    db: u8,
    key: Bytes,
    field: Bytes,
    amount: i64,
}

impl Write for HIncrBy {
    const SPEC: Spec = Spec {
        name: "HINCRBY",
        syntax: "key field increment",
        summary: "Increment the integer value of a hash field by the given number",
        since: "2.0.0",
        keys: Keys::at(1, Access::Update),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, field: args.bytes()?, amount: args.int()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut hash = hash::Change::find(tx, self.db, &self.key)?;
        let sum = hash::incremented(hash.hash().get(tx, &self.field)?.as_ref(), self.amount)?;
        let value = Bytes::copy_from_slice(itoa::Buffer::new().format(sum).as_bytes());
        hash.set(tx, &self.field, &value)?;
        hash.finish(tx);
        keyspace::notify(tx, Class::Hash, "hincrby", self.db, &self.key);
        Ok(Reply::Int(sum))
    }
}

/// Adds a floating point number.
pub struct HIncrByFloat {
    db: u8,
    key: Bytes,
    field: Bytes,
    amount: Extended,
}

impl Write for HIncrByFloat {
    const SPEC: Spec = Spec {
        name: "HINCRBYFLOAT",
        syntax: "key field increment",
        summary: "Increment the float value of a hash field by the given amount",
        since: "2.6.0",
        keys: Keys::at(1, Access::Update),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key, field) = (args.db, args.bytes()?, args.bytes()?);
        let amount = Extended::parse(&args.bytes()?).ok_or(text::NOT_A_FLOAT)?;
        if let Extended::Infinite { .. } = amount {
            return Err(text::VALUE_NAN_OR_INFINITY.into());
        }
        Ok(Self { db, key, field, amount })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut hash = hash::Change::find(tx, self.db, &self.key)?;
        let sum = hash::incremented_by_float(hash.hash().get(tx, &self.field)?.as_ref(), self.amount)?;
        hash.set(tx, &self.field, &sum)?;
        hash.finish(tx);
        keyspace::notify(tx, Class::Hash, "hincrbyfloat", self.db, &self.key);
        Ok(Reply::Bulk(sum))
    }
}
