//! What is asked about a node: INFO, CONFIG, COMMAND, SLOWLOG, and the small ones, which are here.

pub(super) mod acl;
pub(super) mod cluster;
mod command;
mod config;
pub mod debug;
mod entry;
mod info;
pub(super) mod latency;
pub(super) mod memory;
pub(super) mod module;
pub mod monitor;
pub(super) mod persist;
pub(super) mod replication;
pub(super) mod sentinel;
mod slowlog;

use std::time::Duration;

use bytes::Bytes;

use super::host::REDIS_VERSION;
use super::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec};
use crate::error::{Result, text};
use crate::resp::{Reply, number};
use crate::session::Session as Connection;

pub use debug::Population;
pub use latency::{Event as LatencyEvent, LatencyMonitor};
pub use slowlog::{Said, SlowLog};

pub(super) const COMMANDS: &[Command] = &[
    Command::node::<info::Info>(),
    Command::node::<config::Get>(),
    Command::logged::<config::Set>(),
    Command::node::<config::ResetStat>(),
    Command::node::<config::Rewrite>(),
    Command::session::<config::Help>(),
    Command::session::<command::All>(),
    Command::session::<command::Count>(),
    Command::session::<command::Docs>(),
    Command::session::<command::Info>(),
    Command::session::<command::List>(),
    Command::session::<command::GetKeys>(),
    Command::session::<command::GetKeysAndFlags>(),
    Command::session::<command::Help>(),
    Command::node::<slowlog::Get>(),
    Command::node::<slowlog::Len>(),
    Command::node::<slowlog::Reset>(),
    Command::session::<slowlog::Help>(),
    Command::node::<Time>(),
    Command::node::<Wait>(),
    Command::node::<debug::Debug>(),
    Command::session::<Lolwut>(),
];

const READY: Flags = Flags::LOADING.and(Flags::STALE);

/// Tells the time by this node's wall clock. Keys expire by the cluster's, which is not shown.
pub struct Time;

impl Node for Time {
    const SPEC: Spec = Spec {
        name: "TIME",
        summary: "Return the current server time",
        since: "2.6.0",
        flags: READY.and(Flags::FAST),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let ms = host.wall_ms();
        let [seconds, micros] = [ms / 1000, ms % 1000 * 1000];
        Ok(Reply::Array(vec![Reply::bulk(seconds.to_string()), Reply::bulk(micros.to_string())]).into())
    }
}

/// Waits until nodes beside the leader have this connection's last write on disk. A quorum has it
/// already when the write is answered; more can be waited for.
pub struct Wait {
    wanted: i64,
    timeout: Duration,
}

impl Node for Wait {
    const SPEC: Spec = Spec {
        name: "WAIT",
        syntax: "numreplicas timeout",
        summary: "Wait for the synchronous replication of all the write commands sent in the context of the \
                  current connection",
        since: "3.0.0",
        flags: Flags::NOSCRIPT.and(Flags::CONNECTION_CATEGORY),
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let wanted = args.int()?;
        let timeout = number::parse_int(&args.bytes()?).ok_or(text::TIMEOUT_NOT_AN_INTEGER)?;
        let timeout = Duration::from_millis(u64::try_from(timeout).map_err(|_| text::TIMEOUT_NEGATIVE)?);
        Ok(Self { wanted, timeout })
    }

    fn execute(self, _: &mut Connection, _: &dyn Host) -> Result<Answer> {
        Ok(Answer::Replicas { wanted: self.wanted, timeout: self.timeout })
    }
}

/// Shows the version. The art is left to Redis.
pub struct Lolwut;

impl Session for Lolwut {
    const SPEC: Spec = Spec {
        name: "LOLWUT",
        syntax: "[VERSION version]",
        summary: "Display some computer art and the Redis version",
        since: "5.0.0",
        flags: Flags::READONLY.and(Flags::FAST),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() > 1 && args.take("VERSION") {
            number::parse_int(&args.bytes()?).ok_or(text::NOT_AN_INTEGER)?;
        }
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Verbatim(Bytes::from(format!("Redis ver. {REDIS_VERSION}\n"))))
    }
}
