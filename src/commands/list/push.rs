//! Lists, grown at their ends.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::list::{Change, End};
use crate::types::{Class, keyspace};

const PUSHING: Spec = Spec {
    syntax: "key element [element ...]",
    complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple \
                 arguments.",
    keys: Keys::at(1, Access::Insert),
    flags: Flags::DENYOOM.and(Flags::FAST),
    ..Spec::of(Group::List)
};

/// Adds elements at the left end.
pub struct LPush(Push);

impl Write for LPush {
    const SPEC: Spec =
        Spec { name: "LPUSH", summary: "Prepend one or multiple elements to a list", ..PUSHING };

    fn parse(args: &mut Args) -> Result<Self> {
        Push::parse(args, End::Left, false).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Adds elements at the right end.
pub struct RPush(Push);

impl Write for RPush {
    const SPEC: Spec =
        Spec { name: "RPUSH", summary: "Append one or multiple elements to a list", ..PUSHING };

    fn parse(args: &mut Args) -> Result<Self> {
        Push::parse(args, End::Right, false).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Adds elements at the left end of a list that there is.
pub struct LPushX(Push);

impl Write for LPushX {
    const SPEC: Spec = Spec {
        name: "LPUSHX",
        summary: "Prepend an element to a list, only if the list exists",
        since: "2.2.0",
        ..PUSHING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Push::parse(args, End::Left, true).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Adds elements at the right end of a list that there is.
pub struct RPushX(Push);

impl Write for RPushX {
    const SPEC: Spec = Spec {
        name: "RPUSHX",
        summary: "Append an element to a list, only if the list exists",
        since: "2.2.0",
        ..PUSHING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Push::parse(args, End::Right, true).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

struct Push {
    db: u8,
    key: Bytes,
    elements: Vec<Bytes>,
    end: End,
    must_exist: bool,
}

impl Push {
    fn parse(args: &mut Args, end: End, must_exist: bool) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, elements: args.rest(), end, must_exist })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        if self.must_exist && change.list().is_empty() {
            return Ok(Reply::Int(0));
        }
        for element in &self.elements {
            change.push(tx, self.end, element)?;
        }
        let length = change.list().len();
        change.finish(tx);
        let kind = if self.end == End::Left { "lpush" } else { "rpush" };
        keyspace::notify(tx, Class::List, kind, self.db, &self.key);
        Ok(Reply::Int(length as i64))
    }
}
