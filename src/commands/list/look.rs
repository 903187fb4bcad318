//! Lists, looked at.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::store::View;
use crate::types::list;

const LOOKING: Spec = Spec { keys: Keys::at(1, Access::Read), ..Spec::of(Group::List) };

/// Counts the elements.
pub struct LLen {
    db: u8,
    key: Bytes,
}

impl Read for LLen {
    const SPEC: Spec = Spec {
        name: "LLEN",
        syntax: "key",
        summary: "Get the length of a list",
        flags: Flags::FAST,
        keys: Keys::at(1, Access::Look),
        ..LOOKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(Reply::Int(list::get(view, self.db, &self.key)?.len() as i64))
    }
}

/// Gives the elements from one index to another.
pub struct LRange {
    db: u8,
    key: Bytes,
    start: i64,
    stop: i64,
}

impl Read for LRange {
    const SPEC: Spec = Spec {
        name: "LRANGE",
        syntax: "key start stop",
        summary: "Get a range of elements from a list",
        complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end \
                     (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
        ..LOOKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, start: args.int()?, stop: args.int()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let list = list::get(view, self.db, &self.key)?;
        let elements = match list.places(self.start, self.stop) {
            Some(places) => list.range(view, places)?,
            None => Vec::new(),
        };
        Ok(Reply::Array(elements.into_iter().map(Reply::Bulk).collect()))
    }
}

/// Gives the element at an index.
pub struct LIndex {
    db: u8,
    key: Bytes,
    index: i64,
}

impl Read for LIndex {
    const SPEC: Spec = Spec {
        name: "LINDEX",
        syntax: "key index",
        summary: "Get an element from a list by its index",
        complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This \
                     makes asking for the first or the last element of the list O(1).",
        ..LOOKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, index: args.int()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let list = list::get(view, self.db, &self.key)?;
        let element = match list.place(self.index) {
            Some(place) => list.element(view, place)?,
            None => None,
        };
        Ok(element.into())
    }
}

/// Finds elements by their value.
pub struct LPos {
    db: u8,
    key: Bytes,
    element: Bytes,
    /// The how manieth match is the first that counts; from the end if negative.
    rank: i64,
    /// How many matches are told, zero for all; `None`: the first, alone.
    count: Option<u64>,
    /// How many elements are compared; zero for all.
    compared_max: u64,
}

impl Read for LPos {
    const SPEC: Spec = Spec {
        name: "LPOS",
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        summary: "Return the index of matching elements on a list",
        complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for \
                     elements near the head or the tail of the list, or when the MAXLEN option is provided, the \
                     command may run in constant time.",
        since: "6.0.6",
        ..LOOKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const ZERO_RANK: ClientError = ClientError::fixed(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative \
             to start from the end of the list",
        );
        const NEGATIVE_COUNT: ClientError = ClientError::fixed("ERR COUNT can't be negative");
        const NEGATIVE_MAXLEN: ClientError = ClientError::fixed("ERR MAXLEN can't be negative");
        let (db, key, element) = (args.db, args.bytes()?, args.bytes()?);
        let (mut rank, mut count, mut compared_max) = (1, None, 0);
        while !args.is_empty() {
            if args.take("RANK") {
                rank = args.int()?;
                if rank == 0 {
                    return Err(ZERO_RANK.into());
                }
            } else if args.take("COUNT") {
                count = Some(u64::try_from(args.int()?).map_err(|_| NEGATIVE_COUNT)?);
            } else if args.take("MAXLEN") {
                compared_max = u64::try_from(args.int()?).map_err(|_| NEGATIVE_MAXLEN)?;
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self { db, key, element, rank, count, compared_max })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let list = list::get(view, self.db, &self.key)?;
        let compared = if self.compared_max == 0 { list.len() } else { self.compared_max.min(list.len()) };
        let wanted = match self.count {
            Some(0) => u64::MAX,
            Some(count) => count,
            None => 1,
        };
        // The smallest number there is has no opposite: Redis takes it for -1.
        let skipped = if self.rank == i64::MIN { 0 } else { self.rank.unsigned_abs() - 1 };
        let from_end = self.rank < 0;
        let start = if from_end { list.len() - compared } else { 0 };
        let mut matches = Vec::new();
        list.walk(view, start, &mut |place, element| {
            if place >= start + compared {
                return ControlFlow::Break(());
            }
            if element == self.element {
                matches.push(Reply::Int(place as i64));
            }
            let enough = !from_end && matches.len() as u64 >= skipped.saturating_add(wanted);
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if from_end {
            matches.reverse();
        }
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(matches.len());
        let mut told = matches.drain(skipped..).take(usize::try_from(wanted).unwrap_or(usize::MAX));
        Ok(match self.count {
            Some(_) => Reply::Array(told.collect()),
            None => told.next().unwrap_or(Reply::Nil),
        })
    }
}
