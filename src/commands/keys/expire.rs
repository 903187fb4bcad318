//! When keys end.

use bytes::Bytes;

use crate::commands::deadline::{self, Clock};
use crate::commands::{Access, Args, Flags, Group, Keys, Read, Spec, Write};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::store::{Txn, View};
use crate::types::{Class, Place, keyspace};

const CHANGING: Spec =
    Spec { keys: Keys::at(1, Access::Change), flags: Flags::FAST, ..Spec::of(Group::Generic) };

const ASKING: Spec =
    Spec { syntax: "key", keys: Keys::at(1, Access::Read), flags: Flags::FAST, ..Spec::of(Group::Generic) };

/// Ends a key after some seconds.
pub struct Expire(Change);

impl Write for Expire {
    const SPEC: Spec = Spec {
        name: "EXPIRE",
        syntax: "key seconds [NX | XX | GT | LT]",
        summary: "Set a key's time to live in seconds",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Change::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, Clock::Seconds, &Self::SPEC)
    }
}

/// Ends a key after some milliseconds.
pub struct PExpire(Change);

impl Write for PExpire {
    const SPEC: Spec = Spec {
        name: "PEXPIRE",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        summary: "Set a key's time to live in milliseconds",
        since: "2.6.0",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Change::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, Clock::Milliseconds, &Self::SPEC)
    }
}

/// Ends a key at a second.
pub struct ExpireAt(Change);

impl Write for ExpireAt {
    const SPEC: Spec = Spec {
        name: "EXPIREAT",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]",
        summary: "Set the expiration for a key as a UNIX timestamp",
        since: "1.2.0",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Change::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, Clock::UnixSeconds, &Self::SPEC)
    }
}

/// Ends a key at a millisecond.
pub struct PExpireAt(Change);

impl Write for PExpireAt {
    const SPEC: Spec = Spec {
        name: "PEXPIREAT",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
        summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
        since: "2.6.0",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Change::parse(args)?))
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        self.0.execute(tx, Clock::UnixMilliseconds, &Self::SPEC)
    }
}

struct Change {
    db: u8,
    key: Bytes,
    time: i64,
    condition: Condition,
}

/// When the change is made, depending on the deadline there is. XX may come with GT or LT, to whose
/// conditions it adds itself; with GT it adds nothing.
enum Condition {
    Always,
    IfNone,
    IfAny,
    IfLater,
    /// No deadline counts as the latest.
    IfEarlier,
    IfAnyAndEarlier,
}

impl Change {
    fn parse(args: &mut Args) -> Result<Self> {
        let (db, key, time) = (args.db, args.bytes()?, args.bytes()?);
        let condition = Condition::parse(args)?;
        // Redis looks at the time last.
        let time = crate::resp::number::parse_int(&time).ok_or(text::NOT_AN_INTEGER)?;
        Ok(Self { db, key, time, condition })
    }

    fn execute(self, tx: &mut Txn, clock: Clock, spec: &Spec) -> Result<Reply> {
        let deadline = clock.resolve(self.time, tx.now()).ok_or_else(|| deadline::invalid(spec))?;
        // Before the epoch is as good as at it: long ago.
        let deadline = u64::try_from(deadline).unwrap_or(0);
        let place = Place::find(tx, self.db, &self.key)?;
        let Some(record) = place.record() else { return Ok(Reply::Int(0)) };
        if !self.condition.allows(record.header.deadline, deadline) {
            return Ok(Reply::Int(0));
        }
        if deadline <= tx.now() {
            place.remove(tx);
            keyspace::notify(tx, Class::Generic, "del", self.db, &self.key);
        } else {
            place.set_deadline(tx, Some(deadline));
            keyspace::notify(tx, Class::Generic, "expire", self.db, &self.key);
        }
        Ok(Reply::Int(1))
    }
}

impl Condition {
    fn parse(args: &mut Args) -> Result<Self> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        while !args.is_empty() {
            let flag = [("NX", &mut nx), ("XX", &mut xx), ("GT", &mut gt), ("LT", &mut lt)]
                .into_iter()
                .find_map(|(word, flag)| args.take(word).then_some(flag));
            let Some(flag) = flag else {
                let option = args.bytes()?;
                let option = String::from_utf8_lossy(&option);
                return Err(ClientError::new(format!("ERR Unsupported option {option}")).into());
            };
            *flag = true;
        }
        match (nx, xx, gt, lt) {
            (true, true, _, _) | (true, _, true, _) | (true, _, _, true) => {
                Err(text::EXPIRE_NX_CONFLICT.into())
            }
            (_, _, true, true) => Err(text::EXPIRE_GT_LT_CONFLICT.into()),
            (true, ..) => Ok(Self::IfNone),
            (_, _, true, _) => Ok(Self::IfLater),
            (_, false, _, true) => Ok(Self::IfEarlier),
            (_, true, _, true) => Ok(Self::IfAnyAndEarlier),
            (_, true, ..) => Ok(Self::IfAny),
            _ => Ok(Self::Always),
        }
    }

    fn allows(&self, old: Option<u64>, new: u64) -> bool {
        match self {
            Self::Always => true,
            Self::IfNone => old.is_none(),
            Self::IfAny => old.is_some(),
            Self::IfLater => old.is_some_and(|old| new > old),
            Self::IfEarlier => old.is_none_or(|old| new < old),
            Self::IfAnyAndEarlier => old.is_some_and(|old| new < old),
        }
    }
}

/// Lets a key live for ever.
pub struct Persist {
    db: u8,
    key: Bytes,
}

impl Write for Persist {
    const SPEC: Spec = Spec {
        name: "PERSIST",
        syntax: "key",
        summary: "Remove the expiration from a key",
        since: "2.2.0",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let place = Place::find(tx, self.db, &self.key)?;
        if place.record().and_then(|record| record.header.deadline).is_none() {
            return Ok(Reply::Int(0));
        }
        place.set_deadline(tx, None);
        keyspace::notify(tx, Class::Generic, "persist", self.db, &self.key);
        Ok(Reply::Int(1))
    }
}

/// How many seconds a key has left, to the nearest.
pub struct Ttl(Question);

impl Read for Ttl {
    const SPEC: Spec = Spec { name: "TTL", summary: "Get the time to live for a key in seconds", ..ASKING };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.answer(view, |deadline, now| seconds(deadline - now))
    }
}

/// How many milliseconds a key has left.
pub struct PTtl(Question);

impl Read for PTtl {
    const SPEC: Spec = Spec {
        name: "PTTL",
        summary: "Get the time to live for a key in milliseconds",
        since: "2.6.0",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.answer(view, |deadline, now| deadline - now)
    }
}

/// The second at which a key ends, the nearest.
pub struct ExpireTime(Question);

impl Read for ExpireTime {
    const SPEC: Spec = Spec {
        name: "EXPIRETIME",
        summary: "Get the expiration Unix timestamp for a key",
        since: "7.0.0",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.answer(view, |deadline, _| seconds(deadline))
    }
}

/// The millisecond at which a key ends.
pub struct PExpireTime(Question);

impl Read for PExpireTime {
    const SPEC: Spec = Spec {
        name: "PEXPIRETIME",
        summary: "Get the expiration Unix timestamp for a key in milliseconds",
        since: "7.0.0",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        self.0.answer(view, |deadline, _| deadline)
    }
}

struct Question {
    db: u8,
    key: Bytes,
}

impl Question {
    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, key: args.bytes()? })
    }

    /// What `of` makes of the deadline and the time; -1 without a deadline, -2 without a key.
    fn answer(self, view: &View, of: impl Fn(u64, u64) -> u64) -> Result<Reply> {
        let record = keyspace::peek(view, self.db, &self.key)?;
        Ok(Reply::Int(match record.map(|record| record.header.deadline) {
            None => -2,
            Some(None) => -1,
            // A living key's deadline is ahead.
            Some(Some(deadline)) => of(deadline, view.now()).cast_signed(),
        }))
    }
}

fn seconds(milliseconds: u64) -> u64 {
    (milliseconds + 500) / 1000
}
