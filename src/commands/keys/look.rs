//! Whether keys are there, and what they are.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec};
use crate::error::Result;
use crate::resp::Reply;
use crate::store::View;
use crate::types::{expiry, keyspace};

/// How many of the keys exist; one named twice counts twice.
pub struct Exists {
    db: u8,
    keys: Vec<Bytes>,
}

impl Read for Exists {
    const SPEC: Spec = Spec {
        name: "EXISTS",
        syntax: "key [key ...]",
        summary: "Determine if a key exists",
        complexity: "O(N) where N is the number of keys to check.",
        keys: Keys::from(1, 1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, keys: args.rest() })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let mut living = 0;
        for key in &self.keys {
            living += usize::from(keyspace::exists(view, self.db, key)?);
        }
        Ok(Reply::length(living))
    }
}

/// Counts like EXISTS, and uses the keys.
pub struct Touch(Exists);

impl Read for Touch {
    const SPEC: Spec = Spec {
        name: "TOUCH",
        syntax: "key [key ...]",
        summary: "Returns the number of existing keys specified",
        complexity: "O(N) where N is the number of keys that will be touched.",
        since: "3.2.1",
        keys: Keys::from(1, 1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Exists::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let Exists { db, keys } = self.0;
        let mut living = 0;
        for key in &keys {
            living += usize::from(keyspace::get(view, db, key)?.is_some());
        }
        Ok(Reply::length(living))
    }
}

/// The type of a key's value.
pub struct Type {
    db: u8,
    key: Bytes,
}

impl Read for Type {
    const SPEC: Spec = Spec {
        name: "TYPE",
        syntax: "key",
        summary: "Determine the type stored at key",
        keys: Keys::at(1, Access::Look),
        flags: Flags::FAST,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let record = keyspace::peek(view, self.db, &self.key)?;
        Ok(Reply::Status(record.map_or("none", |record| record.header.kind.name())))
    }
}

/// How many keys the database holds. Keys past their deadline count until they are removed, which
/// takes a moment, as in Redis.
pub struct DbSize {
    db: u8,
}

impl Read for DbSize {
    const SPEC: Spec = Spec {
        name: "DBSIZE",
        summary: "Return the number of keys in the selected database",
        flags: Flags::FAST,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        // The count is of what is there: a key whose time has come must be removed first.
        let _ = expiry::is_past(view, expiry::next_deadline(view)?);
        Ok(Reply::Int(keyspace::count(view, self.db).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Expiry, string, tests};

    #[test]
    fn a_count_ahead_of_the_clock_is_late() {
        tests::with_store(|store| {
            let mut tx = tests::begin(store, 1_000);
            string::put(&mut tx, 0, &Bytes::from("k"), b"v", Expiry::At(1_100)).expect("a store in memory");
            keyspace::commit(&mut tx);
            drop(tx);
            for (now, late) in [(1_050, false), (1_100, true)] {
                let view = store.view(now);
                assert_eq!(DbSize { db: 0 }.execute(&view).expect("a store in memory"), Reply::Int(1));
                assert_eq!(view.is_late(), late, "at {now}");
            }
        });
    }
}
