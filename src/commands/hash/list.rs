//! Hashes, read many fields at a time.

use bytes::Bytes;

use crate::commands::cursor::{self, Options};
use crate::commands::{Access, Args, Group, Keys, Read, Spec};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::View;
use crate::types::hash;

/// The most fields HRANDFIELD repeats, since all are in memory before the first is sent.
const REPEATED_MAX: u64 = 1 << 20;

/// What those that list a whole hash have in common.
const LISTING: Spec = Spec {
    syntax: "key",
    complexity: "O(N) where N is the size of the hash.",
    since: "2.0.0",
    keys: Keys::at(1, Access::Read),
    ..Spec::of(Group::Hash)
};

/// All fields with their values.
pub struct HGetAll {
    db: u8,
    key: Bytes,
}

impl Read for HGetAll {
    const SPEC: Spec =
        Spec { name: "HGETALL", summary: "Get all the fields and values in a hash", ..LISTING };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let pairs = hash::get(view, self.db, &self.key)?.pairs(view)?;
        Ok(Reply::Map(pairs.into_iter().map(bulks).collect()))
    }
}

/// All fields.
pub struct HKeys {
    db: u8,
    key: Bytes,
}

impl Read for HKeys {
    const SPEC: Spec = Spec { name: "HKEYS", summary: "Get all the fields in a hash", ..LISTING };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let pairs = hash::get(view, self.db, &self.key)?.pairs(view)?;
        Ok(Reply::Array(pairs.into_iter().map(|(field, _)| Reply::Bulk(field)).collect()))
    }
}

/// All values.
pub struct HVals {
    db: u8,
    key: Bytes,
}

impl Read for HVals {
    const SPEC: Spec = Spec { name: "HVALS", summary: "Get all the values in a hash", ..LISTING };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let pairs = hash::get(view, self.db, &self.key)?.pairs(view)?;
        Ok(Reply::Array(pairs.into_iter().map(|(_, value)| Reply::Bulk(value)).collect()))
    }
}

/// A page of the fields, with their values.
pub struct HScan {
    db: u8,
    key: Bytes,
    cursor: u64,
    /// As in Redis, they are not even looked at without a key.
    options: Vec<Bytes>,
}

impl Read for HScan {
    const SPEC: Spec = Spec {
        name: "HSCAN",
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        summary: "Incrementally iterate hash fields and associated values",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
        since: "2.8.0",
        keys: Keys::at(1, Access::Read),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key, cursor) = (args.db, args.bytes()?, cursor::parse(&args.bytes()?)?);
        Ok(Self { db, key, cursor, options: args.rest() })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let hash = hash::get(view, self.db, &self.key)?;
        let mut with_values = true;
        let page = if hash.is_empty() {
            hash::Page::default()
        } else {
            let options = Options::parse(&mut Args::new(&self.options, 0, self.db), |args| {
                let only_fields = args.take("NOVALUES");
                with_values &= !only_fields;
                Ok(only_fields)
            })?;
            hash.page(view, self.cursor, options.count, options.pattern.as_ref())?
        };
        let elements =
            page.pairs.into_iter().flat_map(|(field, value)| [Some(field), with_values.then_some(value)]);
        Ok(Reply::Array(vec![
            Reply::bulk(page.cursor.to_string()),
            Reply::Array(elements.flatten().map(Reply::Bulk).collect()),
        ]))
    }
}

/// Fields by chance.
pub struct HRandField {
    db: u8,
    key: Bytes,
    wanted: Wanted,
}

/// What HRANDFIELD answers.
enum Wanted {
    /// One field.
    One,
    /// As many different ones, or all.
    Distinct { count: u64, with_values: bool },
    /// As many, each drawn anew.
    Repeated { count: u64, with_values: bool },
}

impl Read for HRandField {
    const SPEC: Spec = Spec {
        name: "HRANDFIELD",
        syntax: "key [count [WITHVALUES]]",
        summary: "Get one or multiple random fields from a hash",
        complexity: "O(N) where N is the number of fields returned",
        since: "6.2.0",
        keys: Keys::at(1, Access::Read),
        ..Spec::of(Group::Hash)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        if args.is_empty() {
            return Ok(Self { db, key, wanted: Wanted::One });
        }
        let count = args.int()?;
        if count == i64::MIN {
            return Err(text::BELOW_MINUS_LONG_MAX.into());
        }
        let with_values = args.take("WITHVALUES");
        args.end()?;
        if with_values && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
            return Err(text::VALUE_OUT_OF_RANGE.into());
        }
        let wanted = if count < 0 {
            let count = count.unsigned_abs();
            if count > REPEATED_MAX {
                return Err(text::VALUE_OUT_OF_RANGE.into());
            }
            Wanted::Repeated { count, with_values }
        } else {
            Wanted::Distinct { count: count.unsigned_abs(), with_values }
        };
        Ok(Self { db, key, wanted })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let hash = hash::get(view, self.db, &self.key)?;
        let mut chance = view.chance();
        let (pairs, with_values) = match self.wanted {
            Wanted::One => {
                let drawn = hash.distinct(view, 1, &mut chance)?.pop();
                return Ok(drawn.map(|(field, _)| field).into());
            }
            Wanted::Repeated { with_values, .. } if hash.is_empty() => (Vec::new(), with_values),
            Wanted::Distinct { count, with_values } => {
                (hash.distinct(view, count, &mut chance)?, with_values)
            }
            Wanted::Repeated { count, with_values } => {
                (hash.repeated(view, count, &mut chance)?, with_values)
            }
        };
        Ok(if with_values {
            Reply::Pairs(pairs.into_iter().map(bulks).collect())
        } else {
            Reply::Array(pairs.into_iter().map(|(field, _)| Reply::Bulk(field)).collect())
        })
    }
}

fn bulks((field, value): (Bytes, Bytes)) -> (Reply, Reply) {
    (Reply::Bulk(field), Reply::Bulk(value))
}
