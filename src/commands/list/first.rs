//! Elements from an end of the first of several lists that has any: at once, or when one has.

use std::time::Duration;

use bytes::Bytes;

use super::{finish_pop, take_end, take_timeout};
use crate::commands::{Access, Args, Blocking, Flags, Group, Keys, Spec, Write};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::list::{Change, End};

const COMPLEXITY: &str =
    "O(N+M) where N is the number of provided keys and M is the number of elements returned.";

/// At once.
pub struct LMPop(Take);

impl Write for LMPop {
    const SPEC: Spec = Spec {
        name: "LMPOP",
        syntax: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        summary: "Pop elements from a list",
        complexity: COMPLEXITY,
        since: "7.0.0",
        keys: Keys::counted(1, Access::Take),
        flags: Flags::MOVABLE_KEYS,
        ..Spec::of(Group::List)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Take::parse(args).map(Self)
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx)
    }
}

/// [`LMPop`], when there is something to take.
pub struct BLMPop(Option<Duration>, Take);

impl Write for BLMPop {
    const SPEC: Spec = Spec {
        name: "BLMPOP",
        syntax: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        summary: "Pop elements from a list, or block until one is available",
        keys: Keys::counted(2, Access::Take),
        flags: Flags::MOVABLE_KEYS.and(Flags::BLOCKING),
        ..LMPop::SPEC
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(take_timeout(args)?, Take::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.1.execute(tx)
    }
}

impl Blocking for BLMPop {
    const EMPTY: Reply = Reply::NilArray;

    fn timeout(&self) -> Option<Duration> {
        self.0
    }
}

struct Take {
    db: u8,
    keys: Vec<Bytes>,
    end: End,
    count: u64,
}

impl Take {
    fn parse(args: &mut Args) -> Result<Self> {
        const NO_KEYS: ClientError = ClientError::fixed("ERR numkeys should be greater than 0");
        const NO_COUNT: ClientError = ClientError::fixed("ERR count should be greater than 0");
        let number = positive(args, NO_KEYS)?;
        // An end has to follow them.
        if number >= args.len() as u64 {
            return Err(text::SYNTAX.into());
        }
        let keys = (0..number).map(|_| args.bytes()).collect::<Result<_>>()?;
        let end = take_end(args)?;
        let mut count = None;
        while !args.is_empty() {
            if count.is_some() || args.len() == 1 || !args.take("COUNT") {
                return Err(text::SYNTAX.into());
            }
            count = Some(positive(args, NO_COUNT)?);
        }
        Ok(Self { db: args.db, keys, end, count: count.unwrap_or(1) })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        for key in &self.keys {
            let mut change = Change::find(tx, self.db, key)?;
            let count = self.count.min(change.list().len());
            if count == 0 {
                continue;
            }
            let mut taken = Vec::new();
            for _ in 0..count {
                taken.extend(change.pop(tx, self.end)?.map(Reply::Bulk));
            }
            finish_pop(tx, change, self.end, self.db, key);
            return Ok(Reply::Array(vec![Reply::Bulk(key.clone()), Reply::Array(taken)]));
        }
        Ok(Reply::NilArray)
    }
}

fn positive(args: &mut Args, error: ClientError) -> Result<u64> {
    let number = args.int().ok().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| error.into())
}
