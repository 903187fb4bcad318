//! Lists, changed anywhere.

use bytes::Bytes;

use super::finish;
use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::list::{Change, End};

const TRIMMING: Spec = Spec { keys: Keys::at(1, Access::Trim), ..Spec::of(Group::List) };

/// Replaces the element at an index.
pub struct LSet {
    db: u8,
    key: Bytes,
    index: i64,
    element: Bytes,
}

impl Write for LSet {
    const SPEC: Spec = Spec {
        name: "LSET",
        syntax: "key index element",
        summary: "Set the value of an element in a list by its index",
        complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the \
                     list is O(1).",
        flags: Flags::DENYOOM,
        keys: Keys::at(1, Access::Change),
        ..Spec::of(Group::List)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, index: args.int()?, element: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        if change.list().is_empty() {
            return Err(text::NO_SUCH_KEY.into());
        }
        let place = change.list().place(self.index).ok_or(text::INDEX_OUT_OF_RANGE)?;
        change.set(tx, place, &self.element)?;
        finish(tx, change, "lset", self.db, &self.key);
        Ok(Reply::Ok)
    }
}

/// Inserts an element beside the first that equals a pivot.
pub struct LInsert {
    db: u8,
    key: Bytes,
    after: bool,
    pivot: Bytes,
    element: Bytes,
}

impl Write for LInsert {
    const SPEC: Spec = Spec {
        name: "LINSERT",
        syntax: "key <BEFORE | AFTER> pivot element",
        summary: "Insert an element before or after another element in a list",
        complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means \
                     that inserting somewhere on the left end on the list (head) can be considered O(1) and \
                     inserting somewhere on the right end (tail) is O(N).",
        since: "2.2.0",
        flags: Flags::DENYOOM,
        keys: Keys::at(1, Access::Insert),
        ..Spec::of(Group::List)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        let after = args.take("AFTER");
        if !after && !args.take("BEFORE") {
            return Err(text::SYNTAX.into());
        }
        Ok(Self { db, key, after, pivot: args.bytes()?, element: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        if change.list().is_empty() {
            return Ok(Reply::Int(0));
        }
        let mut elements = change.list().elements(tx)?;
        let Some(pivot) = elements.iter().position(|element| *element == self.pivot) else {
            return Ok(Reply::Int(-1));
        };
        elements.insert(pivot + usize::from(self.after), self.element);
        change.replace(tx, elements)?;
        let length = change.list().len();
        finish(tx, change, "linsert", self.db, &self.key);
        Ok(Reply::Int(length as i64))
    }
}

/// Removes elements by their value.
pub struct LRem {
    db: u8,
    key: Bytes,
    /// How many at most, from the end if negative; zero for all.
    count: i64,
    element: Bytes,
}

impl Write for LRem {
    const SPEC: Spec = Spec {
        name: "LREM",
        syntax: "key count element",
        summary: "Remove elements from a list",
        complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
        ..TRIMMING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, count: args.int()?, element: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        let mut elements = change.list().elements(tx)?;
        let before = elements.len();
        let mut left = if self.count == 0 { u64::MAX } else { self.count.unsigned_abs() };
        let mut stays = |element: &Bytes| {
            let goes = left > 0 && *element == self.element;
            left -= u64::from(goes);
            !goes
        };
        if self.count < 0 {
            elements.reverse();
            elements.retain(&mut stays);
            elements.reverse();
        } else {
            elements.retain(&mut stays);
        }
        let removed = before - elements.len();
        if removed > 0 {
            change.replace(tx, elements)?;
            finish(tx, change, "lrem", self.db, &self.key);
        }
        Ok(Reply::length(removed))
    }
}

/// Removes the elements outside a range.
pub struct LTrim {
    db: u8,
    key: Bytes,
    start: i64,
    stop: i64,
}

impl Write for LTrim {
    const SPEC: Spec = Spec {
        name: "LTRIM",
        syntax: "key start stop",
        summary: "Trim a list to the specified range",
        complexity: "O(N) where N is the number of elements to be removed by the operation.",
        ..TRIMMING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, start: args.int()?, stop: args.int()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let mut change = Change::find(tx, self.db, &self.key)?;
        let length = change.list().len();
        if length == 0 {
            return Ok(Reply::Ok);
        }
        let (left, right) = match change.list().places(self.start, self.stop) {
            Some(places) => (*places.start(), length - 1 - places.end()),
            None => (length, 0),
        };
        for _ in 0..left {
            change.pop(tx, End::Left)?;
        }
        for _ in 0..right {
            change.pop(tx, End::Right)?;
        }
        finish(tx, change, "ltrim", self.db, &self.key);
        Ok(Reply::Ok)
    }
}
