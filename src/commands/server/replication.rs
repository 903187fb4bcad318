//! ROLE, FAILOVER and REPLICAOF: the cluster, in the words of Redis' replication.

use super::READY;
use crate::commands::host::{Follower, Role};
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::node::<RoleOf>(),
    Command::node::<Failover>(),
    Command::node::<ReplicaOf>(),
    Command::node::<SlaveOf>(),
];

/// Tells this node's part in the cluster.
pub struct RoleOf;

impl Node for RoleOf {
    const SPEC: Spec = Spec {
        name: "ROLE",
        summary: "Return the role of the instance in the context of replication",
        since: "2.8.12",
        flags: READY.and(Flags::NOSCRIPT).and(Flags::FAST).and(Flags::ADMIN_CATEGORY),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer> {
        if connection.asks_sentinel() {
            let masters = Reply::Array(vec![Reply::bulk(host.topology().master_name)]);
            return Ok(Reply::Array(vec![Reply::text("sentinel"), masters]).into());
        }
        let replication = host.replication();
        let reply = match replication.role {
            Role::Leader { followers } => {
                let followers = followers.into_iter().map(|follower| {
                    let words = [follower.host, follower.port.to_string(), follower.offset.to_string()];
                    Reply::Array(words.map(Reply::bulk).into())
                });
                vec![
                    Reply::text("master"),
                    Reply::Int(replication.offset as i64),
                    Reply::Array(followers.collect()),
                ]
            }
            Role::Follower(following) => {
                let state = match (&following.leader, following.syncing) {
                    (None, _) => "connect",
                    (Some(_), true) => "sync",
                    (Some(_), false) => "connected",
                };
                let (leader, port) = following.leader.unwrap_or_default();
                vec![
                    Reply::text("slave"),
                    Reply::bulk(leader),
                    Reply::Int(port.into()),
                    Reply::text(state),
                    Reply::Int(following.offset as i64),
                ]
            }
        };
        Ok(Reply::Array(reply).into())
    }
}

/// Hands leadership over. It either succeeds at once or not at all, so there is nothing to time or to abort;
/// and a follower that is not in step cannot be forced, since it would lack what was acknowledged.
pub enum Failover {
    /// To this follower's address, or to the one that is furthest along.
    To {
        target: Option<(String, u16)>,
        timed: bool,
        forced: bool,
    },
    Abort,
}

impl Node for Failover {
    const SPEC: Spec = Spec {
        name: "FAILOVER",
        syntax: "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
        summary: "Start a coordinated failover between this server and one of its replicas.",
        since: "6.2.0",
        flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const TIMEOUT: ClientError = ClientError::fixed("ERR FAILOVER timeout must be greater than 0");
        if args.len() == 1 && args.take("ABORT") {
            return Ok(Self::Abort);
        }
        let (mut target, mut timed, mut forced) = (None, false, false);
        while !args.is_empty() {
            if !timed && args.len() > 1 && args.take("TIMEOUT") {
                if args.int()? <= 0 {
                    return Err(TIMEOUT.into());
                }
                timed = true;
            } else if target.is_none() && args.len() > 2 && args.take("TO") {
                let host = String::from_utf8_lossy(&args.bytes()?).into_owned();
                // A port that none can be is just not found.
                let port = args.int()?;
                target = Some((host, u16::try_from(port).unwrap_or(0)));
            } else if !forced && args.take("FORCE") {
                forced = true;
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self::To { target, timed, forced })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const NONE: ClientError = ClientError::fixed("ERR No failover in progress.");
        const ALONE: ClientError = ClientError::fixed("ERR FAILOVER requires connected replicas.");
        const FOLLOWS: ClientError =
            ClientError::fixed("ERR FAILOVER is not valid when server is a replica.");
        const STRANGER: ClientError =
            ClientError::fixed("ERR FAILOVER target HOST and PORT is not a replica.");
        const OFFLINE: ClientError = ClientError::fixed("ERR FAILOVER target replica is not online.");
        const FORCE: ClientError = ClientError::fixed(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        );
        let Self::To { target, timed, forced } = self else { return Err(NONE.into()) };
        let Role::Leader { followers } = host.replication().role else { return Err(FOLLOWS.into()) };
        if followers.is_empty() {
            return Err(ALONE.into());
        }
        if forced && !(timed && target.is_some()) {
            return Err(FORCE.into());
        }
        let successor: Option<&Follower> = match target {
            Some((host, port)) => {
                let found = followers.iter().find(|follower| follower.host == host && follower.port == port);
                Some(found.ok_or(STRANGER)?)
            }
            None => followers.iter().filter(|follower| follower.online).max_by_key(|one| one.offset),
        };
        let successor = successor.filter(|follower| follower.online).ok_or(OFFLINE)?;
        host.hand_over(successor.id);
        Ok(Reply::Ok.into())
    }
}

const REPLICA_OF: Spec = Spec {
    name: "REPLICAOF",
    syntax: "host port",
    summary: "Make the server a replica of another instance, or promote it as master.",
    since: "5.0.0",
    flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE).and(Flags::NO_ASYNC_LOADING),
    ..Spec::of(Group::Server)
};

/// What a node of a Redis cluster says: who leads is for the cluster to decide.
fn refuse_replica_of() -> Result<Answer> {
    const REFUSED: ClientError = ClientError::fixed("ERR REPLICAOF not allowed in cluster mode.");
    Err(REFUSED.into())
}

/// Is refused.
pub struct ReplicaOf;

impl Node for ReplicaOf {
    const SPEC: Spec = REPLICA_OF;

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, _: &dyn Host) -> Result<Answer> {
        refuse_replica_of()
    }
}

/// Is refused.
pub struct SlaveOf;

impl Node for SlaveOf {
    const SPEC: Spec = Spec { name: "SLAVEOF", since: "1.0.0", ..REPLICA_OF };

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, _: &dyn Host) -> Result<Answer> {
        refuse_replica_of()
    }
}
