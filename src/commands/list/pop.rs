//! Lists, shortened at their ends, at once or when there is something to take.

use std::time::Duration;

use bytes::Bytes;

use super::{finish_pop, take_timeout};
use crate::commands::{Access, Args, Blocking, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::list::{Change, End};

const POPPING: Spec = Spec {
    syntax: "key [count]",
    complexity: "O(N) where N is the number of elements returned",
    keys: Keys::at(1, Access::Take),
    flags: Flags::FAST,
    ..Spec::of(Group::List)
};

/// Takes elements from the left end.
pub struct LPop(Pop);

impl Write for LPop {
    const SPEC: Spec =
        Spec { name: "LPOP", summary: "Remove and get the first elements in a list", ..POPPING };

    fn parse(args: &mut Args) -> Result<Self> {
        Pop::parse(args, End::Left).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// Takes elements from the right end.
pub struct RPop(Pop);

impl Write for RPop {
    const SPEC: Spec =
        Spec { name: "RPOP", summary: "Remove and get the last elements in a list", ..POPPING };

    fn parse(args: &mut Args) -> Result<Self> {
        Pop::parse(args, End::Right).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

struct Pop {
    db: u8,
    key: Bytes,
    count: Option<u64>,
    end: End,
}

impl Pop {
    fn parse(args: &mut Args, end: End) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        if args.len() > 1 {
            return Err(args.wrong_number().into());
        }
        let count = match args.peek() {
            Some(_) => {
                let count = args.int().map_err(|_| text::OUT_OF_RANGE)?;
                Some(u64::try_from(count).map_err(|_| text::OUT_OF_RANGE)?)
            }
            None => None,
        };
        Ok(Self { db, key, count, end })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        let length = change.list().len();
        let Some(count) = self.count else {
            let element = change.pop(tx, self.end)?;
            if element.is_some() {
                finish_pop(tx, change, self.end, self.db, &self.key);
            }
            return Ok(element.into());
        };
        if length == 0 {
            return Ok(Reply::NilArray);
        }
        let mut taken = Vec::new();
        for _ in 0..count.min(length) {
            taken.extend(change.pop(tx, self.end)?.map(Reply::Bulk));
        }
        if !taken.is_empty() {
            finish_pop(tx, change, self.end, self.db, &self.key);
        }
        Ok(Reply::Array(taken))
    }
}

const WAITING: Spec = Spec {
    syntax: "key [key ...] timeout",
    complexity: "O(N) where N is the number of provided keys.",
    since: "2.0.0",
    keys: Keys { last: -2, ..Keys::from(1, 1, Access::Take) },
    flags: Flags::NOSCRIPT.and(Flags::BLOCKING),
    ..Spec::of(Group::List)
};

/// Takes an element from the left end of the first list that has one.
pub struct BLPop(FirstPop);

impl Write for BLPop {
    const SPEC: Spec = Spec {
        name: "BLPOP",
        summary: "Remove and get the first element in a list, or block until one is available",
        ..WAITING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        FirstPop::parse(args, End::Left).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

impl Blocking for BLPop {
    const EMPTY: Reply = Reply::NilArray;

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }
}

/// Takes an element from the right end of the first list that has one.
pub struct BRPop(FirstPop);

impl Write for BRPop {
    const SPEC: Spec = Spec {
        name: "BRPOP",
        summary: "Remove and get the last element in a list, or block until one is available",
        ..WAITING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        FirstPop::parse(args, End::Right).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

impl Blocking for BRPop {
    const EMPTY: Reply = Reply::NilArray;

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }
}

struct FirstPop {
    db: u8,
    keys: Vec<Bytes>,
    timeout: Option<Duration>,
    end: End,
}

impl FirstPop {
    fn parse(args: &mut Args, end: End) -> Result<Self> {
        let keys = (1..args.len()).map(|_| args.bytes()).collect::<Result<_>>()?;
        Ok(Self { db: args.db, keys, timeout: take_timeout(args)?, end })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        for key in &self.keys {
            let mut change = Change::find(tx, self.db, key)?;
            if let Some(element) = change.pop(tx, self.end)? {
                finish_pop(tx, change, self.end, self.db, key);
                return Ok(Reply::Array(vec![Reply::Bulk(key.clone()), Reply::Bulk(element)]));
            }
        }
        Ok(Reply::NilArray)
    }
}
