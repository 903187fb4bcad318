//! Strings, read.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::View;
use crate::types::{keyspace, string};

/// The value of a key.
pub struct Get {
    db: u8,
    key: Bytes,
}

impl Read for Get {
    const SPEC: Spec = Spec {
        name: "GET",
        syntax: "key",
        summary: "Get the value of a key",
        keys: Keys::at(1, Access::Read),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(string::get(view, self.db, &self.key)?.into())
    }
}

/// The values of several keys; a key of another type counts as missing.
pub struct MGet {
    db: u8,
    keys: Vec<Bytes>,
}

impl Read for MGet {
    const SPEC: Spec = Spec {
        name: "MGET",
        syntax: "key [key ...]",
        summary: "Get the values of all the given keys",
        complexity: "O(N) where N is the number of keys to retrieve.",
        keys: Keys::from(1, 1, Access::Read),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, keys: args.rest() })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let mut values = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let record = keyspace::get(view, self.db, key)?;
            values.push(string::taken(record).ok().flatten().into());
        }
        Ok(Reply::Array(values))
    }
}

/// The length of a value.
pub struct StrLen {
    db: u8,
    key: Bytes,
}

impl Read for StrLen {
    const SPEC: Spec = Spec {
        name: "STRLEN",
        syntax: "key",
        summary: "Get the length of the value stored in a key",
        since: "2.2.0",
        keys: Keys::at(1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let value = string::get(view, self.db, &self.key)?;
        Ok(Reply::length(value.map_or(0, |value| value.len())))
    }
}

/// A part of a value.
pub struct GetRange(Range);

impl Read for GetRange {
    const SPEC: Spec = Spec { name: "GETRANGE", since: "2.4.0", ..Range::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Range::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.execute(view)
    }
}

/// GETRANGE under its old name.
pub struct Substr(Range);

impl Read for Substr {
    const SPEC: Spec = Spec { name: "SUBSTR", ..Range::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Range::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.execute(view)
    }
}

struct Range {
    db: u8,
    key: Bytes,
    start: i64,
    end: i64,
}

impl Range {
    const SPEC: Spec = Spec {
        syntax: "key start end",
        summary: "Get a substring of the string stored at a key",
        complexity: "O(N) where N is the length of the returned string.",
        keys: Keys::at(1, Access::Read),
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, start: args.int()?, end: args.int()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let value = string::get(view, self.db, &self.key)?.unwrap_or_default();
        Ok(Reply::Bulk(string::range(&value, self.start, self.end)))
    }
}
