//! CLIENT PAUSE, UNPAUSE and UNBLOCK: clients that wait, and others that end it.

use std::time::Duration;

use super::host::PauseScope;
use super::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::{Reply, number};
use crate::session::{Filter, Session as Connection, Unblock as How};

pub(super) const COMMANDS: &[Command] =
    &[Command::node::<Pause>(), Command::node::<Unpause>(), Command::session::<Unblock>()];

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

/// Makes the clients of this node wait.
pub struct Pause {
    scope: PauseScope,
    length: Duration,
}

impl Node for Pause {
    const SPEC: Spec = Spec {
        name: "CLIENT|PAUSE",
        syntax: "timeout [WRITE | ALL]",
        summary: "Stop processing commands from clients for some time",
        since: "3.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const SCOPE: ClientError = ClientError::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL");
        if args.len() > 2 {
            return Err(args.wrong_subcommand().into());
        }
        let timeout = args.bytes()?;
        let scope = if args.take("WRITE") {
            PauseScope::Writes
        } else if args.is_empty() || args.take("ALL") {
            PauseScope::All
        } else {
            return Err(SCOPE.into());
        };
        let timeout = number::parse_int(&timeout).ok_or(text::TIMEOUT_NOT_AN_INTEGER)?;
        let timeout = u64::try_from(timeout).map_err(|_| text::TIMEOUT_NEGATIVE)?;
        Ok(Self { scope, length: Duration::from_millis(timeout) })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.pause(self.scope, self.length);
        Ok(Reply::Ok.into())
    }
}

/// Lets them go on.
pub struct Unpause;

impl Node for Unpause {
    const SPEC: Spec = Spec {
        name: "CLIENT|UNPAUSE",
        summary: "Resume processing of clients that were paused",
        complexity: "O(N) Where N is the number of paused clients",
        since: "6.2.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.unpause();
        Ok(Reply::Ok.into())
    }
}

/// Ends another connection's wait in a command; not that for the end of a pause, which would let it run.
pub struct Unblock {
    /// `None` for a number that is nobody's.
    id: Option<u64>,
    how: How,
}

impl Session for Unblock {
    const SPEC: Spec = Spec {
        name: "CLIENT|UNBLOCK",
        syntax: "client-id [TIMEOUT | ERROR]",
        summary: "Unblock a client blocked in a blocking command from a different connection",
        complexity: "O(log N) where N is the number of client connections",
        since: "5.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const REASON: ClientError =
            ClientError::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        if args.len() > 2 {
            return Err(args.wrong_subcommand().into());
        }
        let id = args.bytes()?;
        let how = if args.is_empty() || args.take("TIMEOUT") {
            How::Timeout
        } else if args.take("ERROR") {
            How::Error
        } else {
            return Err(REASON.into());
        };
        let id = number::parse_int(&id).ok_or(text::NOT_AN_INTEGER)?;
        Ok(Self { id: u64::try_from(id).ok(), how })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let filter = Filter { ids: Some(self.id.into_iter().collect()), ..Filter::default() };
        let clients = connection.registry().find(&filter);
        let unblocked = clients.iter().filter(|client| client.unblock(self.how)).count();
        Ok(Reply::Int(unblocked as i64))
    }
}
