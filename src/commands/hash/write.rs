//! Hashes, changed field by field.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::{Class, hash, keyspace};

/// Sets fields, and answers how many of them are new.
pub struct HSet(Fields);

impl Write for HSet {
    const SPEC: Spec = Spec { name: "HSET", summary: "Set the string value of a hash field", ..Fields::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Fields::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        Ok(Reply::length(self.0.set(tx)?))
    }
}

/// Sets fields.
pub struct HMSet(Fields);

impl Write for HMSet {
    const SPEC: Spec =
        Spec { name: "HMSET", summary: "Set multiple hash fields to multiple values", ..Fields::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Fields::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.set(tx)?;
        Ok(Reply::Ok)
    }
}

struct Fields {
    db: u8,
    key: Bytes,
    pairs: Vec<(Bytes, Bytes)>,
}

impl Fields {
    const SPEC: Spec = Spec {
        syntax: "key field value [field value ...]",
        complexity: "O(N) where N is the number of fields being set.",
        since: "2.0.0",
        keys: Keys::at(1, Access::Change),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len().is_multiple_of(2) {
            return Err(args.wrong_number().into());
        }
        let (db, key) = (args.db, args.bytes()?);
        let mut pairs = Vec::with_capacity(args.len() / 2);
        while !args.is_empty() {
            pairs.push((args.bytes()?, args.bytes()?));
        }
        Ok(Self { db, key, pairs })
    }

    /// Sets them, and says how many are new.
    fn set(self, tx: &mut Txn) -> Result<usize> {
        let mut hash = hash::Change::find(tx, self.db, &self.key)?;
        let mut new = 0;
        for (field, value) in &self.pairs {
            new += usize::from(hash.set(tx, field, value)?);
        }
        hash.finish(tx);
        keyspace::notify(tx, Class::Hash, "hset", self.db, &self.key);
        Ok(new)
    }
}

/// Sets a field that does not exist.
pub struct HSetNx {
    db: u8,
    key: Bytes,
    field: Bytes,
    value: Bytes,
}

impl Write for HSetNx {
    const SPEC: Spec = Spec {
        name: "HSETNX",
        syntax: "key field value",
        summary: "Set the value of a hash field, only if the field does not exist",
        since: "2.0.0",
        keys: Keys::at(1, Access::Insert),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, field: args.bytes()?, value: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut hash = hash::Change::find(tx, self.db, &self.key)?;
        if hash.hash().get(tx, &self.field)?.is_some() {
            return Ok(Reply::Int(0));
        }
        hash.set(tx, &self.field, &self.value)?;
        hash.finish(tx);
        keyspace::notify(tx, Class::Hash, "hset", self.db, &self.key);
        Ok(Reply::Int(1))
    }
}

/// Removes fields, and the key with the last of them.
pub struct HDel {
    db: u8,
    key: Bytes,
    fields: Vec<Bytes>,
}

impl Write for HDel {
    const SPEC: Spec = Spec {
        name: "HDEL",
        syntax: "key field [field ...]",
        summary: "Delete one or more hash fields",
        complexity: "O(N) where N is the number of fields to be removed.",
        since: "2.0.0",
        keys: Keys::at(1, Access::Trim),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, fields: args.rest() })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut hash = hash::Change::find(tx, self.db, &self.key)?;
        let mut removed = 0;
        for field in &self.fields {
            removed += usize::from(hash.remove(tx, field)?);
        }
        if removed > 0 {
            let stays = hash.finish(tx);
            keyspace::notify(tx, Class::Hash, "hdel", self.db, &self.key);
            if !stays {
                keyspace::notify(tx, Class::Generic, "del", self.db, &self.key);
            }
        }
        Ok(Reply::length(removed))
    }
}
