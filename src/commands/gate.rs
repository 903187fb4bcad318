//! Which commands a connection may not send just now.
//!
//! Redis' checks in Redis' order, behind those of name and number of arguments: DEBUG and login first, then what
//! a subscriber may do. What is refused here aborts an open transaction.

use bytes::Bytes;

use super::{Command, Flags, Lane, resolve};
use crate::config::DebugClients;
use crate::error::{ClientError, text};
use crate::resp::Reply;
use crate::session::Session;
use crate::store::Shortage;

/// The commands of a connection that subscribes in RESP2.
const FOR_SUBSCRIBERS: [&str; 9] = [
    "SUBSCRIBE",
    "SSUBSCRIBE",
    "PSUBSCRIBE",
    "UNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "PING",
    "QUIT",
    "RESET",
];

/// What the node's options say about its clients.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether they need a password.
    pub password: bool,
    pub debug: DebugClients,
}

/// Why `command` must not run now, if it must not.
#[must_use]
pub fn refuse(command: &Command, session: &Session, rules: Rules) -> Option<ClientError> {
    if command.spec.name == "DEBUG" {
        let allowed = match rules.debug {
            DebugClients::None => false,
            DebugClients::Local => session.client().is_local(),
            DebugClients::All => true,
        };
        if !allowed {
            return Some(text::NO_DEBUG);
        }
    }
    if rules.password && !session.is_authenticated() && !command.spec.flags.has(Flags::NO_AUTH) {
        return Some(text::NO_AUTH);
    }
    if session.transaction().is_some() && command.spec.flags.has(Flags::REFUSED_IN_MULTI) {
        return Some(text::NOT_IN_MULTI);
    }
    let name = command.spec.name;
    if session.is_listening() && !FOR_SUBSCRIBERS.contains(&name) {
        return Some(ClientError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
             allowed in this context",
            command.spec.lower_name()
        )));
    }
    let keyspace = matches!(command.lane, Lane::Write(_) | Lane::Read(_));
    if session.is_monitoring() && keyspace {
        return Some(text::MONITOR_ONLY);
    }
    None
}

/// Whether a client that declared that it follows `REDIRECT` is sent to the leader with this command: it touches
/// the state, and is not a read of one that asked to read from replicas.
#[must_use]
pub fn redirects(command: &Command, session: &Session) -> bool {
    let kept = session.is_read_only();
    session.follows_redirects()
        && match command.lane {
            Lane::Write(_) => true,
            Lane::Read(_) => !kept,
            Lane::Session(_) | Lane::Node(_) => false,
        }
}

/// Whether `command` may write, be it on other nodes only: what CLIENT PAUSE WRITE makes wait.
/// Scripts that are kept change no data; of others `only_reads` tells whether they have said that they will not write.
#[must_use]
pub fn may_write(
    command: &Command,
    argv: &[Bytes],
    session: &Session,
    only_reads: impl Fn(&Command, &[Bytes]) -> bool,
) -> bool {
    runs(command, argv, session, |command, argv| {
        let writes = matches!(command.lane, Lane::Write(_)) && command.spec.parent() != Some("SCRIPT");
        writes && !only_reads(command, argv)
    })
}

/// Why `command` must not run for want of room, if it must not: it may add data. Above `maxmemory` a transaction
/// takes nothing at all, as in Redis.
#[must_use]
pub fn lacks_room(
    command: &Command,
    argv: &[Bytes],
    session: &Session,
    shortage: impl FnOnce() -> Option<Shortage>,
) -> Option<ClientError> {
    let grows = runs(command, argv, session, |command, _| command.spec.flags.has(Flags::DENYOOM));
    if !grows && !queues(command, session) {
        return None;
    }
    let shortage = shortage()?;
    (grows || shortage == Shortage::Memory).then(|| shortage.error())
}

/// Whether `command` is of a kind, or is the EXEC of one that is.
fn runs(
    command: &Command,
    argv: &[Bytes],
    session: &Session,
    is_one: impl Fn(&Command, &[Bytes]) -> bool,
) -> bool {
    let queued = || session.transaction().into_iter().flat_map(|queue| queue.commands());
    let exec = || {
        queued().any(|queued| resolve(&queued.argv).is_ok_and(|found| is_one(found.command, &queued.argv)))
    };
    is_one(command, argv) || (command.spec.name == "EXEC" && exec())
}

/// The reply to a command that must not run: unknown, of the wrong number of arguments, or refused. It
/// aborts an open transaction, and if it is EXEC, ends it. (An error while a command runs does neither.)
pub fn reject(session: &mut Session, argv: &[Bytes], error: ClientError) -> Reply {
    let is_exec = argv.first().is_some_and(|name| name.eq_ignore_ascii_case(b"EXEC"));
    if is_exec { session.reject_exec(&error) } else { session.reject(error) }
}

/// Whether MULTI keeps the command for EXEC.
#[must_use]
pub fn queues(command: &Command, session: &Session) -> bool {
    session.transaction().is_some() && !command.spec.flags.has(Flags::NO_MULTI)
}

#[cfg(test)]
mod tests;
