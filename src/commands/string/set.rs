//! Strings, set whole.

use bytes::Bytes;

use super::compare::Comparison;
use crate::commands::deadline::{Clock, Deadline};
use crate::commands::{Access, Args, Flags, Group, Keys, Spec, Write};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::store::Txn;
use crate::types::{Class, Expiry, Place, keyspace, string};

/// Sets a key to a value.
pub struct Set {
    db: u8,
    key: Bytes,
    value: Bytes,
    condition: Condition,
    life: Life,
    /// Whether to answer the old value.
    get: bool,
}

enum Condition {
    Always,
    IfAbsent,
    IfPresent,
    If(Comparison),
}

/// What becomes of the key's deadline.
enum Life {
    Unlimited,
    Kept,
    Until(Deadline),
}

impl Write for Set {
    const SPEC: Spec = Spec {
        name: "SET",
        syntax: "key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest] [GET] \
                 [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        summary: "Set the string value of a key",
        keys: Keys::at(1, Access::Set),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key, value) = (args.db, args.bytes()?, args.bytes()?);
        let (mut condition, mut life, mut get) = (Condition::Always, Life::Unlimited, false);
        while !args.is_empty() {
            if matches!(condition, Condition::Always | Condition::IfAbsent) && args.take("NX") {
                condition = Condition::IfAbsent;
            } else if matches!(condition, Condition::Always | Condition::IfPresent) && args.take("XX") {
                condition = Condition::IfPresent;
            } else if matches!(condition, Condition::Always)
                && let Some(comparison) = Comparison::take(args)?
            {
                condition = Condition::If(comparison);
            } else if args.take("GET") {
                get = true;
            } else if !matches!(life, Life::Until(_)) && args.take("KEEPTTL") {
                life = Life::Kept;
            } else if let Some(clock) = Clock::take(args) {
                match life {
                    Life::Unlimited => {}
                    Life::Until(until) if until.clock == clock => {}
                    _ => return Err(text::SYNTAX.into()),
                }
                life = Life::Until(Deadline { clock, text: args.bytes()? });
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self { db, key, value, condition, life, get })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let expiry = match &self.life {
            Life::Unlimited => Expiry::None,
            Life::Kept => Expiry::Keep,
            Life::Until(deadline) => deadline.resolve(tx.now(), &Self::SPEC)?,
        };
        let reads = self.get || matches!(self.condition, Condition::If(_));
        let find = if reads { Place::find } else { Place::find_to_replace };
        let place = find(tx, self.db, &self.key)?;
        let old = if self.get { string::of(place.record())?.cloned() } else { None };
        if self.get && old.is_none() {
            keyspace::notify_miss(tx, self.db, &self.key);
        }
        let wanted = match &self.condition {
            Condition::Always => true,
            Condition::IfAbsent => !place.exists(),
            Condition::IfPresent => place.exists(),
            Condition::If(comparison) => comparison.holds(string::of(place.record())?)?,
        };
        if wanted {
            put(tx, place, self.db, &self.key, &self.value, expiry);
        }
        Ok(match (self.get, wanted) {
            (true, _) => old.into(),
            (false, true) => Reply::Ok,
            (false, false) => Reply::Nil,
        })
    }
}

/// Sets a key that does not exist.
pub struct SetNx {
    db: u8,
    key: Bytes,
    value: Bytes,
}

impl Write for SetNx {
    const SPEC: Spec = Spec {
        name: "SETNX",
        syntax: "key value",
        summary: "Set the value of a key, only if the key does not exist",
        keys: Keys::at(1, Access::Create),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, value: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find_to_replace(tx, self.db, &self.key)?;
        if place.exists() {
            return Ok(Reply::Int(0));
        }
        put(tx, place, self.db, &self.key, &self.value, Expiry::None);
        Ok(Reply::Int(1))
    }
}

/// Sets a key for some seconds.
pub struct SetEx(SetFor);

impl Write for SetEx {
    const SPEC: Spec = Spec {
        name: "SETEX",
        syntax: "key seconds value",
        summary: "Set the value and expiration of a key",
        since: "2.0.0",
        keys: Keys::at(1, Access::Overwrite),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(SetFor::parse(args, Clock::Seconds)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, &Self::SPEC)
    }
}

/// Sets a key for some milliseconds.
pub struct PSetEx(SetFor);

impl Write for PSetEx {
    const SPEC: Spec = Spec {
        name: "PSETEX",
        syntax: "key milliseconds value",
        summary: "Set the value and expiration in milliseconds of a key",
        since: "2.6.0",
        keys: Keys::at(1, Access::Overwrite),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(SetFor::parse(args, Clock::Milliseconds)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, &Self::SPEC)
    }
}

struct SetFor {
    db: u8,
    key: Bytes,
    deadline: Deadline,
    value: Bytes,
}

impl SetFor {
    fn parse(args: &mut Args, clock: Clock) -> Result<Self> {
        let (db, key, text, value) = (args.db, args.bytes()?, args.bytes()?, args.bytes()?);
        Ok(Self { db, key, deadline: Deadline { clock, text }, value })
    }

    fn execute(self, tx: &mut Txn, spec: &Spec) -> Result<Reply> {
        let expiry = self.deadline.resolve(tx.now(), spec)?;
        let place = Place::find_to_replace(tx, self.db, &self.key)?;
        put(tx, place, self.db, &self.key, &self.value, expiry);
        Ok(Reply::Ok)
    }
}

/// Sets a key and answers its old value.
pub struct GetSet {
    db: u8,
    key: Bytes,
    value: Bytes,
}

impl Write for GetSet {
    const SPEC: Spec = Spec {
        name: "GETSET",
        syntax: "key value",
        summary: "Set the string value of a key and return its old value",
        keys: Keys::at(1, Access::Update),
        flags: Flags::DENYOOM.and(Flags::FAST),
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()?, value: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let old = string::of(place.record())?.cloned();
        if old.is_none() {
            keyspace::notify_miss(tx, self.db, &self.key);
        }
        put(tx, place, self.db, &self.key, &self.value, Expiry::None);
        Ok(old.into())
    }
}

/// Answers a key's value and deletes the key.
pub struct GetDel {
    db: u8,
    key: Bytes,
}

impl Write for GetDel {
    const SPEC: Spec = Spec {
        name: "GETDEL",
        syntax: "key",
        summary: "Get the value of a key and delete the key",
        since: "6.2.0",
        keys: Keys::at(1, Access::Take),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        let value = string::of(place.record())?.cloned();
        if place.remove(tx) {
            keyspace::notify(tx, Class::Generic, "del", self.db, &self.key);
        } else {
            keyspace::notify_miss(tx, self.db, &self.key);
        }
        Ok(value.into())
    }
}

/// Answers a key's value and changes when the key ends.
pub struct GetEx {
    db: u8,
    key: Bytes,
    change: Change,
}

/// What GETEX changes.
enum Change {
    Nothing,
    Persist,
    Until(Deadline),
}

impl Write for GetEx {
    const SPEC: Spec = Spec {
        name: "GETEX",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | \
                 PERSIST]",
        summary: "Get the value of a key and optionally set its expiration",
        since: "6.2.0",
        keys: Keys::at(1, Access::Update),
        flags: Flags::FAST,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key) = (args.db, args.bytes()?);
        let mut change = Change::Nothing;
        while !args.is_empty() {
            if !matches!(change, Change::Until(_)) && args.take("PERSIST") {
                change = Change::Persist;
            } else if let Some(clock) = Clock::take(args) {
                match change {
                    Change::Nothing => {}
                    Change::Until(until) if until.clock == clock => {}
                    _ => return Err(text::SYNTAX.into()),
                }
                change = Change::Until(Deadline { clock, text: args.bytes()? });
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self { db, key, change })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        // As in Redis, a time is not even looked at without a key.
        let Some(record) = place.record() else {
            keyspace::notify_miss(tx, self.db, &self.key);
            return Ok(Reply::Nil);
        };
        let value = string::of(Some(record))?.cloned();
        match self.change {
            Change::Nothing => {}
            Change::Persist if record.header.deadline.is_some() => {
                place.set_deadline(tx, None);
                keyspace::notify(tx, Class::Generic, "persist", self.db, &self.key);
            }
            Change::Persist => {}
            Change::Until(deadline) => {
                let deadline = deadline.resolve_ms(tx.now(), &Self::SPEC)?;
                if deadline <= tx.now() {
                    place.remove(tx);
                    keyspace::notify(tx, Class::Generic, "del", self.db, &self.key);
                } else {
                    place.set_deadline(tx, Some(deadline));
                    keyspace::notify(tx, Class::Generic, "expire", self.db, &self.key);
                }
            }
        }
        Ok(value.into())
    }
}

/// Sets several keys.
pub struct MSet(Pairs);

impl Write for MSet {
    const SPEC: Spec = Spec {
        name: "MSET",
        syntax: "key value [key value ...]",
        summary: "Set multiple keys to multiple values",
        complexity: "O(N) where N is the number of keys to set.",
        since: "1.0.1",
        keys: Keys::from(1, 2, Access::Overwrite),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Pairs::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.put(tx)?;
        Ok(Reply::Ok)
    }
}

/// Sets several keys of which none exists.
pub struct MSetNx(Pairs);

impl Write for MSetNx {
    const SPEC: Spec = Spec {
        name: "MSETNX",
        syntax: "key value [key value ...]",
        summary: "Set multiple keys to multiple values, only if none of the keys exist",
        complexity: "O(N) where N is the number of keys to set.",
        since: "1.0.1",
        keys: Keys::from(1, 2, Access::Create),
        flags: Flags::DENYOOM,
        ..Spec::of(Group::String)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Pairs::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        for (key, _) in &self.0.pairs {
            if keyspace::exists(tx, self.0.db, key)? {
                return Ok(Reply::Int(0));
            }
        }
        self.0.put(tx)?;
        Ok(Reply::Int(1))
    }
}

struct Pairs {
    db: u8,
    pairs: Vec<(Bytes, Bytes)>,
}

impl Pairs {
    fn parse(args: &mut Args) -> Result<Self> {
        if !args.len().is_multiple_of(2) {
            return Err(args.wrong_number().into());
        }
        let mut pairs = Vec::with_capacity(args.len() / 2);
        while !args.is_empty() {
            pairs.push((args.bytes()?, args.bytes()?));
        }
        Ok(Self { db: args.db, pairs })
    }

    fn put(self, tx: &mut Txn) -> Result<()> {
        for (key, value) in self.pairs {
            let place = Place::find_to_replace(tx, self.db, &key)?;
            put(tx, place, self.db, &key, &value, Expiry::None);
        }
        Ok(())
    }
}

/// Puts the value, with SET's events.
fn put(tx: &mut Txn, place: Place, db: u8, key: &[u8], value: &[u8], expiry: Expiry) {
    string::put_at(tx, place, value, expiry);
    keyspace::notify(tx, Class::String, "set", db, key);
    if let Expiry::At(_) = expiry {
        keyspace::notify(tx, Class::Generic, "expire", db, key);
    }
}
