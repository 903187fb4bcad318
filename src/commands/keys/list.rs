//! Finding keys one does not know.

use bytes::Bytes;

use crate::commands::cursor::{self, Options};
use crate::commands::{Args, Flags, Group, Read, Spec};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::View;
use crate::types::{random, scan};

/// All keys that match a pattern, in key order.
pub struct Keys {
    db: u8,
    pattern: Bytes,
}

impl Read for Keys {
    const SPEC: Spec = Spec {
        name: "KEYS",
        syntax: "pattern",
        summary: "Find all keys matching the given pattern",
        complexity: "O(N) with N being the number of keys that begin as the pattern does, up to its first \
                     special character.",
        flags: Flags::DANGEROUS,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, pattern: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let filter = scan::Filter { pattern: Some(self.pattern), kind: None };
        let keys = scan::all(view, self.db, &filter)?;
        Ok(Reply::Array(keys.into_iter().map(Reply::Bulk).collect()))
    }
}

/// A page of the keys.
pub struct Scan {
    db: u8,
    cursor: u64,
    count: usize,
    filter: scan::Filter,
}

impl Read for Scan {
    const SPEC: Spec = Spec {
        name: "SCAN",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        summary: "Incrementally iterate the keys space",
        complexity: "O(M) for every call, where M is COUNT. O(N) for a complete iteration, where N is the \
                     number of keys that begin as the pattern does, up to its first special character.",
        since: "2.8.0",
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let cursor = cursor::parse(&args.bytes()?)?;
        let mut kind = None;
        let Options { count, pattern } = Options::parse(args, |args| {
            let is_type = args.take("TYPE");
            if is_type {
                kind = Some(args.bytes()?);
            }
            Ok(is_type)
        })?;
        Ok(Self { db: args.db, cursor, count, filter: scan::Filter { pattern, kind } })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let page = scan::page(view, self.db, self.cursor, &self.filter, self.count)?;
        let cursor = Reply::bulk(page.cursor.to_string());
        Ok(Reply::Array(vec![cursor, Reply::Array(page.keys.into_iter().map(Reply::Bulk).collect())]))
    }
}

/// Some key.
pub struct RandomKey {
    db: u8,
}

impl Read for RandomKey {
    const SPEC: Spec = Spec {
        name: "RANDOMKEY",
        summary: "Return a random key from the keyspace",
        complexity: "O(log N) where N is the number of keys in the database.",
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(random::key(view, self.db, &mut view.chance())?.into())
    }
}
