//! MULTI and what belongs to it.
//!
//! EXEC and WATCH check here what the connection alone decides and leave the rest as a [`Request`]:
//! EXEC becomes one log entry, WATCH reads revisions behind a barrier.

use bytes::Bytes;

use super::{Access, Args, Command, Flags, Group, Keys, Session, Spec};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::session::{Request, Session as Connection};

pub(super) const COMMANDS: &[Command] = &[
    Command::session::<Multi>(),
    Command::session::<Exec>(),
    Command::session::<Discard>(),
    Command::session::<Watch>(),
    Command::session::<Unwatch>(),
];

const FLAGS: Flags =
    Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::ALLOW_BUSY);

/// Opens a transaction.
pub struct Multi;

impl Session for Multi {
    const SPEC: Spec = Spec {
        name: "MULTI",
        summary: "Mark the start of a transaction block",
        since: "1.2.0",
        flags: FLAGS.and(Flags::NO_MULTI),
        ..Spec::of(Group::Transactions)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.open_transaction()?;
        Ok(Reply::Ok)
    }
}

/// Runs the transaction.
pub struct Exec;

impl Session for Exec {
    const SPEC: Spec = Spec {
        name: "EXEC",
        summary: "Execute all commands issued after MULTI",
        complexity: "Depends on commands in the transaction",
        since: "1.2.0",
        flags: Flags::NOSCRIPT
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::SKIP_SLOWLOG)
            .and(Flags::NO_MULTI),
        ..Spec::of(Group::Transactions)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let aborted = connection.transaction().ok_or(text::EXEC_WITHOUT_MULTI)?.is_aborted();
        if aborted {
            connection.discard();
            return Err(text::EXEC_ABORT.into());
        }
        connection.request = Some(Request::Exec);
        Ok(Reply::Nothing)
    }
}

/// Forgets the transaction, and what was watched for it.
pub struct Discard;

impl Session for Discard {
    const SPEC: Spec = Spec {
        name: "DISCARD",
        summary: "Discard all commands issued after MULTI",
        complexity: "O(N), when N is the number of queued commands",
        since: "2.0.0",
        flags: FLAGS.and(Flags::NO_MULTI),
        ..Spec::of(Group::Transactions)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.transaction().ok_or(text::DISCARD_WITHOUT_MULTI)?;
        connection.discard();
        Ok(Reply::Ok)
    }
}

/// Makes EXEC depend on these keys.
pub struct Watch {
    keys: Vec<Bytes>,
}

impl Session for Watch {
    const SPEC: Spec = Spec {
        name: "WATCH",
        syntax: "key [key ...]",
        summary: "Watch the given keys to determine execution of the MULTI/EXEC block",
        complexity: "O(1) for every key.",
        since: "2.2.0",
        keys: Keys::from(1, 1, Access::Look),
        flags: FLAGS.and(Flags::NO_MULTI),
        ..Spec::of(Group::Transactions)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { keys: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        if connection.transaction().is_some() {
            return Err(text::WATCH_INSIDE_MULTI.into());
        }
        connection.request = Some(Request::Watch(self.keys));
        Ok(Reply::Nothing)
    }
}

/// Forgets what was watched.
pub struct Unwatch;

impl Session for Unwatch {
    const SPEC: Spec = Spec {
        name: "UNWATCH",
        summary: "Forget about all watched keys",
        since: "2.2.0",
        flags: FLAGS,
        ..Spec::of(Group::Transactions)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.unwatch();
        Ok(Reply::Ok)
    }
}
