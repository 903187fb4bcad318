//! MEMORY USAGE: what a key costs.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::View;
use crate::types::{keyspace, size};

/// The bytes a key takes. They are counted, so there is nothing to take samples of.
pub struct Usage {
    db: u8,
    key: Bytes,
}

impl Read for Usage {
    const SPEC: Spec = Spec {
        name: "MEMORY|USAGE",
        syntax: "key [SAMPLES count]",
        summary: "Estimate the memory usage of a key",
        since: "4.0.0",
        keys: Keys::at(2, Access::Look),
        flags: Flags::NO_KEYSPACE_CATEGORY,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        while !args.is_empty() {
            if args.len() == 1 || !args.take("SAMPLES") {
                return Err(text::SYNTAX.into());
            }
            if args.int()? < 0 {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self { db, key })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let Some(record) = keyspace::peek(view, self.db, &self.key)? else { return Ok(Reply::Nil) };
        Ok(Reply::Int(size::stored_bytes(&self.key, &record)?.cast_signed()))
    }
}
