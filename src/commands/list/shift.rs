//! An element from one list to another, or from one end to the other; at once, or when there is one.

use std::time::Duration;

use bytes::Bytes;

use super::{finish_pop, take_end, take_timeout};
use crate::commands::{Access, Args, Blocking, Flags, Group, Keys, Spec, Write};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::list::{Change, End};
use crate::types::{Class, keyspace};

const SHIFTING: Spec =
    Spec { keys: Keys::two(1, Access::Take, Access::Insert), flags: Flags::DENYOOM, ..Spec::of(Group::List) };

const WAITING: Spec = Spec { flags: Flags::DENYOOM.and(Flags::NOSCRIPT).and(Flags::BLOCKING), ..SHIFTING };

/// From either end to either end.
pub struct LMove(Shift);

impl Write for LMove {
    const SPEC: Spec = Spec {
        name: "LMOVE",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        summary: "Pop an element from a list, push it to another list and return it",
        since: "6.2.0",
        ..SHIFTING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Shift::parse(args).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// From the right end to the left.
pub struct RPopLPush(Shift);

impl Write for RPopLPush {
    const SPEC: Spec = Spec {
        name: "RPOPLPUSH",
        syntax: "source destination",
        summary: "Remove the last element in a list, prepend it to another list and return it",
        since: "1.2.0",
        ..SHIFTING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Shift::right_to_left(args).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// [`LMove`], when there is something to move.
pub struct BLMove(Shift, Option<Duration>);

impl Write for BLMove {
    const SPEC: Spec = Spec {
        name: "BLMOVE",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        summary: "Pop an element from a list, push it to another list and return it; or block until one is \
                  available",
        since: "6.2.0",
        ..WAITING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Shift::parse(args)?, take_timeout(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

impl Blocking for BLMove {
    const EMPTY: Reply = Reply::Nil;

    fn timeout(&self) -> Option<Duration> {
        self.1
    }
}

/// [`RPopLPush`], when there is something to move.
pub struct BRPopLPush(Shift, Option<Duration>);

impl Write for BRPopLPush {
    const SPEC: Spec = Spec {
        name: "BRPOPLPUSH",
        syntax: "source destination timeout",
        summary: "Pop an element from a list, push it to another list and return it; or block until one is \
                  available",
        since: "2.2.0",
        ..WAITING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Shift::right_to_left(args)?, take_timeout(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

impl Blocking for BRPopLPush {
    const EMPTY: Reply = Reply::Nil;

    fn timeout(&self) -> Option<Duration> {
        self.1
    }
}

struct Shift {
    db: u8,
    source: Bytes,
    destination: Bytes,
    from: End,
    to: End,
}

impl Shift {
    fn parse(args: &mut Args) -> Result<Self> {
        let (db, source, destination) = (args.db, args.bytes()?, args.bytes()?);
        Ok(Self { db, source, destination, from: take_end(args)?, to: take_end(args)? })
    }

    fn right_to_left(args: &mut Args) -> Result<Self> {
        let (db, source, destination) = (args.db, args.bytes()?, args.bytes()?);
        Ok(Self { db, source, destination, from: End::Right, to: End::Left })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut source = Change::find(tx, self.db, &self.source)?;
        if source.list().is_empty() {
            return Ok(Reply::Nil);
        }
        // A destination of another type is an error before anything moves.
        let destination = (self.source != self.destination)
            .then(|| Change::find(tx, self.db, &self.destination))
            .transpose()?;
        let Some(element) = source.pop(tx, self.from)? else { return Ok(Reply::Nil) };
        let pushed = if self.to == End::Left { "lpush" } else { "rpush" };
        match destination {
            Some(mut destination) => {
                destination.push(tx, self.to, &element)?;
                destination.finish(tx);
            }
            None => source.push(tx, self.to, &element)?,
        }
        keyspace::notify(tx, Class::List, pushed, self.db, &self.destination);
        finish_pop(tx, source, self.from, self.db, &self.source);
        Ok(Reply::Bulk(element))
    }
}
