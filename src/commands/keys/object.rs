//! OBJECT: what Redis would tell about how it keeps a value. We keep it otherwise, and answer for the
//! tools and tests that ask.

use bytes::Bytes;

use crate::commands::{Access, Args, Flags, Group, Keys, Read, Session, Spec, help};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::View;
use crate::types::{self, Record, keyspace, string};

/// Integers below this are shared in Redis, whose reference count is then no count.
const SHARED_INTEGERS: i64 = 10_000;

const ASKING: Spec =
    Spec { syntax: "key", since: "2.2.3", keys: Keys::at(2, Access::Look), ..Spec::of(Group::Generic) };

/// The encoding Redis would use.
pub struct Encoding(Question);

impl Read for Encoding {
    const SPEC: Spec = Spec {
        name: "OBJECT|ENCODING",
        summary: "Inspect the internal encoding of a Redis object",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(self.0.record(view)?.map_or(Reply::Nil, |record| Reply::text(types::encoding(&record))))
    }
}

/// How often Redis would hold the value.
pub struct RefCount(Question);

impl Read for RefCount {
    const SPEC: Spec = Spec {
        name: "OBJECT|REFCOUNT",
        summary: "Get the number of references to the value of the key",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(self.0.record(view)?.map_or(Reply::Nil, |record| Reply::Int(references(&record))))
    }
}

/// How often Redis would hold a value that nobody copied.
pub(in crate::commands) fn references(record: &Record) -> i64 {
    let shared = string::as_integer(record).is_some_and(|number| (0..SHARED_INTEGERS).contains(&number));
    if shared { i64::from(i32::MAX) } else { 1 }
}

/// How many seconds ago the key was last used, on this node.
pub struct IdleTime(Question);

impl Read for IdleTime {
    const SPEC: Spec = Spec {
        name: "OBJECT|IDLETIME",
        summary: "Get the time since a Redis object was last accessed",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let idle = || Reply::Int(keyspace::idle_seconds(view, self.0.db, &self.0.key).cast_signed());
        Ok(self.0.record(view)?.map_or(Reply::Nil, |_| idle()))
    }
}

/// An error, as in a Redis that does not evict by frequency.
pub struct Freq(Question);

impl Read for Freq {
    const SPEC: Spec = Spec {
        name: "OBJECT|FREQ",
        summary: "Get the logarithmic access frequency counter of a Redis object",
        since: "4.0.0",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(Question::parse(args)?))
    }

    fn execute(self, view: &View) -> Result<Reply> {
        match self.0.record(view)? {
            Some(_) => Err(text::NO_LFU.into()),
            None => Ok(Reply::Nil),
        }
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

    fn record(&self, view: &View) -> Result<Option<Record>> {
        let record = keyspace::peek(view, self.db, &self.key)?;
        // Looking at the object is no read of the key.
        drop(view.take_misses());
        Ok(record)
    }
}

/// The subcommands.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "OBJECT|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: Flags::LOADING.and(Flags::STALE),
        ..Spec::of(Group::Generic)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "OBJECT",
            &[
                "ENCODING <key>",
                "    Return the kind of internal representation used in order to store the value",
                "    associated with a <key>.",
                "FREQ <key>",
                "    Return the access frequency index of the <key>. The returned integer is",
                "    proportional to the logarithm of the recent access frequency of the key.",
                "IDLETIME <key>",
                "    Return the idle time of the <key>, that is the approximated number of",
                "    seconds elapsed since the last access to the key.",
                "REFCOUNT <key>",
                "    Return the number of references of the value associated with the specified",
                "    <key>.",
            ],
        ))
    }
}
