//! Deleting keys, one by one or all at once.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::{DATABASES, keyspace};

/// Deletes keys.
pub struct Del {
    db: u8,
    keys: Vec<Bytes>,
}

impl Write for Del {
    const SPEC: Spec = Spec {
        name: "DEL",
        syntax: "key [key ...]",
        summary: "Delete a key",
        complexity: "O(N) where N is the number of keys that will be removed.",
        keys: Keys::from(1, 1, Access::Remove),
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, keys: args.rest() })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut deleted = 0;
        for key in &self.keys {
            deleted += usize::from(keyspace::delete(tx, self.db, key)?);
        }
        Ok(Reply::length(deleted))
    }
}

/// The same as DEL, whose cost does not depend on the size of the values either.
pub struct Unlink(Del);

impl Write for Unlink {
    const SPEC: Spec = Spec {
        name: "UNLINK",
        syntax: "key [key ...]",
        summary: "Delete a key, leaving the work on large values for later",
        complexity: "O(N) where N is the number of keys that will be removed.",
        since: "4.0.0",
        keys: Keys::from(1, 1, Access::Remove),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Del::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Empties this database.
pub struct FlushDb {
    db: u8,
}

impl Write for FlushDb {
    const SPEC: Spec = Spec {
        name: "FLUSHDB",
        syntax: "[ASYNC | SYNC]",
        summary: "Remove all keys from the current database",
        flags: Flags::DANGEROUS,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        parse_flush_mode(args)?;
        Ok(Self { db: args.db })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        keyspace::flush(tx, self.db);
        Ok(Reply::Ok)
    }
}

/// Empties all databases.
pub struct FlushAll;

impl Write for FlushAll {
    const SPEC: Spec = Spec {
        name: "FLUSHALL",
        syntax: "[ASYNC | SYNC]",
        summary: "Remove all keys from all databases",
        flags: Flags::DANGEROUS,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        parse_flush_mode(args)?;
        Ok(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        (0..DATABASES).for_each(|db| keyspace::flush(tx, db));
        Ok(Reply::Ok)
    }
}

/// Takes `ASYNC` or `SYNC`, which come to the same here: the database is empty at once, and what it
/// held is swept later.
fn parse_flush_mode(args: &mut Args) -> Result<()> {
    if args.is_empty() || args.take("ASYNC") || args.take("SYNC") {
        args.end()
    } else {
        Err(text::SYNTAX.into())
    }
}
