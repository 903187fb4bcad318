//! Hashes, read field by field.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::View;
use crate::types::hash;

/// The value of a field.
pub struct HGet {
    db: u8,
    key: Bytes,
    field: Bytes,
}

impl Read for HGet {
    const SPEC: Spec = Spec {
        name: "HGET",
        syntax: "key field",
        summary: "Get the value of a hash field",
        since: "2.0.0",
        keys: Keys::at(1, Access::Read),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, field: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(hash::get(view, self.db, &self.key)?.get(view, &self.field)?.into())
    }
}

/// The values of several fields.
pub struct HMGet {
    db: u8,
    key: Bytes,
    fields: Vec<Bytes>,
}

impl Read for HMGet {
    const SPEC: Spec = Spec {
        name: "HMGET",
        syntax: "key field [field ...]",
        summary: "Get the values of all the given hash fields",
        complexity: "O(N) where N is the number of fields being requested.",
        since: "2.0.0",
        keys: Keys::at(1, Access::Read),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, fields: args.rest() })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let hash = hash::get(view, self.db, &self.key)?;
        let mut values = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            values.push(hash.get(view, field)?.into());
        }
        Ok(Reply::Array(values))
    }
}

/// Whether there is such a field.
pub struct HExists {
    db: u8,
    key: Bytes,
    field: Bytes,
}

impl Read for HExists {
    const SPEC: Spec = Spec {
        name: "HEXISTS",
        syntax: "key field",
        summary: "Determine if a hash field exists",
        since: "2.0.0",
        keys: Keys::at(1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, field: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let value = hash::get(view, self.db, &self.key)?.get(view, &self.field)?;
        Ok(Reply::Int(i64::from(value.is_some())))
    }
}

/// The length of a value.
pub struct HStrLen {
    db: u8,
    key: Bytes,
    field: Bytes,
}

impl Read for HStrLen {
    const SPEC: Spec = Spec {
        name: "HSTRLEN",
        syntax: "key field",
        summary: "Get the length of the value of a hash field",
        since: "3.2.0",
        keys: Keys::at(1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, field: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let value = hash::get(view, self.db, &self.key)?.get(view, &self.field)?;
        Ok(Reply::length(value.map_or(0, |value| value.len())))
    }
}

/// How many fields there are.
pub struct HLen {
    db: u8,
    key: Bytes,
}

impl Read for HLen {
    const SPEC: Spec = Spec {
        name: "HLEN",
        syntax: "key",
        summary: "Get the number of fields in a hash",
        since: "2.0.0",
        keys: Keys::at(1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(Reply::Int(hash::get(view, self.db, &self.key)?.len().cast_signed()))
    }
}
