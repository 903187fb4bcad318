//! SENTINEL: what clients ask that look for the master through Redis' Sentinel.
//!
//! Every node answers as a Sentinel that watches one master, the leader, under the name of the option
//! `sentinel-master-name`. So a client made for Sentinel is given any nodes' addresses as Sentinels', and finds
//! the leader. It hears of a new one on the channel `+switch-master`, which each node publishes to its own
//! subscribers. There is nothing to configure and nobody else is watched.
//!
//! A few clients want ROLE of a Sentinel to say `sentinel`, and of the master to say `master`. One address cannot say both;
//! for them there is another, `sentinel-listen`. All else there is as everywhere.

use bytes::Bytes;

use super::READY;
use crate::commands::host::{Member, Topology};
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Spec, args, help};
use crate::error::{ClientError, Result, text};
use crate::glob;
use crate::resp::{Reply, number};
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[Command::node::<Sentinel>()];

/// The questions, and how many arguments each takes.
const SUBCOMMANDS: [(&str, usize); 14] = [
    ("ckquorum", 1),
    ("failover", 1),
    ("flushconfig", 0),
    ("get-master-addr-by-name", 1),
    ("help", 0),
    ("is-master-down-by-addr", 4),
    ("master", 1),
    ("masters", 0),
    ("myid", 0),
    ("pending-scripts", 0),
    ("replicas", 1),
    ("reset", 1),
    ("sentinels", 1),
    ("slaves", 1),
];

/// A question to a Sentinel.
pub enum Sentinel {
    MyId,
    Masters,
    Master(Bytes),
    Replicas(Bytes),
    Sentinels(Bytes),
    Address(Bytes),
    CheckQuorum(Bytes),
    IsMasterDown { host: Bytes, port: i64 },
    Failover(Bytes),
    Reset(Bytes),
    FlushConfig,
    PendingScripts,
    Help,
}

impl Node for Sentinel {
    const SPEC: Spec = Spec {
        name: "SENTINEL",
        syntax: "subcommand [argument ...]",
        summary: "A container for Sentinel commands",
        complexity: "Depends on subcommand.",
        since: "2.8.4",
        flags: READY.and(Flags::ADMIN).and(Flags::NOSCRIPT),
        ..Spec::of(Group::Sentinel)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let asked = args.bytes()?;
        let known = SUBCOMMANDS.iter().find(|(name, _)| asked.eq_ignore_ascii_case(name.as_bytes()));
        let Some((name, arguments)) = known else {
            return Err(args::unknown_subcommand(b"SENTINEL", &asked).into());
        };
        if args.len() != *arguments {
            return Err(args::wrong_number(&format!("sentinel|{name}")).into());
        }
        Ok(match *name {
            "myid" => Self::MyId,
            "masters" => Self::Masters,
            "master" => Self::Master(args.bytes()?),
            "replicas" | "slaves" => Self::Replicas(args.bytes()?),
            "sentinels" => Self::Sentinels(args.bytes()?),
            "get-master-addr-by-name" => Self::Address(args.bytes()?),
            "ckquorum" => Self::CheckQuorum(args.bytes()?),
            "failover" => Self::Failover(args.bytes()?),
            "reset" => Self::Reset(args.bytes()?),
            "flushconfig" => Self::FlushConfig,
            "pending-scripts" => Self::PendingScripts,
            "is-master-down-by-addr" => {
                let host = args.bytes()?;
                let port = number::parse_int(&args.bytes()?).ok_or(text::NOT_AN_INTEGER)?;
                number::parse_int(&args.bytes()?).ok_or(text::NOT_AN_INTEGER)?;
                args.rest();
                Self::IsMasterDown { host, port }
            }
            _ => Self::Help,
        })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let topology = host.topology();
        let reply = match self {
            Self::MyId => Reply::bulk(topology.name_of(topology.node)),
            Self::Masters => {
                Reply::Array(topology.leader().map(|leader| master(&topology, leader)).into_iter().collect())
            }
            Self::Master(name) => {
                named(&topology, &name)?;
                topology.leader().map_or(Reply::NilArray, |leader| master(&topology, leader))
            }
            Self::Replicas(name) => {
                named(&topology, &name)?;
                let followers = topology.members.iter().filter(|member| Some(member.id) != topology.leader);
                Reply::Array(followers.map(|member| replica(&topology, member)).collect())
            }
            Self::Sentinels(name) => {
                named(&topology, &name)?;
                let others = topology.members.iter().filter(|member| member.id != topology.node);
                Reply::Array(others.map(|member| sentinel(&topology, member)).collect())
            }
            Self::Address(name) => match topology.leader() {
                Some(leader) if named(&topology, &name).is_ok() => {
                    Reply::Array(vec![Reply::bulk(leader.host.clone()), Reply::bulk(leader.port.to_string())])
                }
                _ => Reply::NilArray,
            },
            Self::CheckQuorum(name) => {
                named(&topology, &name)?;
                check_quorum(&topology)?
            }
            Self::IsMasterDown { host, port } => {
                let leads =
                    |leader: &Member| leader.host.as_bytes() == host && i64::from(leader.port) == port;
                let down = !topology.leader().is_some_and(leads);
                Reply::Array(vec![Reply::Int(down.into()), Reply::text("*"), Reply::Int(0)])
            }
            Self::Failover(name) => {
                named(&topology, &name)?;
                fail_over(&topology, host)?
            }
            Self::Reset(pattern) => {
                Reply::Int(glob::matches(&pattern, topology.master_name.as_bytes()).into())
            }
            Self::FlushConfig => Reply::Ok,
            Self::PendingScripts => Reply::Array(Vec::new()),
            Self::Help => explain(),
        };
        Ok(reply.into())
    }
}

/// Fails unless this is the name of the one master there is.
fn named(topology: &Topology, name: &[u8]) -> Result<(), ClientError> {
    const NO_SUCH_MASTER: ClientError = ClientError::fixed("ERR No such master with that name");
    if name == topology.master_name.as_bytes() { Ok(()) } else { Err(NO_SUCH_MASTER) }
}

fn check_quorum(topology: &Topology) -> Result<Reply, ClientError> {
    const NO_QUORUM: ClientError =
        ClientError::fixed("NOQUORUM There is no leader, so a quorum cannot be reached");
    topology.leader().ok_or(NO_QUORUM)?;
    Ok(Reply::StatusText(Bytes::from(format!(
        "OK {} usable Sentinels. Quorum and failover authorization can be reached",
        topology.members.len()
    ))))
}

/// Only the leader can hand over, and a Sentinel may be asked anywhere: the others say whom to ask.
fn fail_over(topology: &Topology, host: &dyn Host) -> Result<Reply, ClientError> {
    const NO_SUCCESSOR: ClientError = ClientError::fixed("NOGOODSLAVE No suitable replica to promote");
    let leader = topology.leader().ok_or(NO_SUCCESSOR)?;
    if leader.id != topology.node {
        return Err(ClientError::new(format!(
            "ERR only the master can hand over: ask {}:{}",
            leader.host, leader.port
        )));
    }
    let successors = topology.members.iter().filter(|member| member.id != leader.id && member.online);
    let successor = successors.max_by_key(|member| member.offset).ok_or(NO_SUCCESSOR)?;
    host.hand_over(successor.id);
    Ok(Reply::Ok)
}

/// Fields and their values, all of them text.
fn fields(fields: Vec<(&'static str, String)>) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), Reply::bulk(value))).collect())
}

/// What is told of every node, whatever it is asked as.
fn instance(topology: &Topology, member: &Member, name: String, flags: &str) -> Vec<(&'static str, String)> {
    vec![
        ("name", name),
        ("ip", member.host.clone()),
        ("port", member.port.to_string()),
        ("runid", topology.name_of(member.id)),
        ("flags", flags.to_owned()),
        ("link-pending-commands", "0".to_owned()),
        ("link-refcount", "1".to_owned()),
        ("last-ping-sent", "0".to_owned()),
        ("last-ok-ping-reply", "0".to_owned()),
        ("last-ping-reply", "0".to_owned()),
        ("down-after-milliseconds", topology.election_ms.to_string()),
    ]
}

fn master(topology: &Topology, leader: &Member) -> Reply {
    let flags = if leader.online { "master" } else { "s_down,master" };
    let mut shown = instance(topology, leader, topology.master_name.clone(), flags);
    shown.extend([
        ("info-refresh", "0".to_owned()),
        ("role-reported", "master".to_owned()),
        ("role-reported-time", "0".to_owned()),
        ("config-epoch", topology.term.to_string()),
        ("num-slaves", (topology.members.len() - 1).to_string()),
        ("num-other-sentinels", (topology.members.len() - 1).to_string()),
        ("quorum", topology.quorum().to_string()),
        ("failover-timeout", topology.election_ms.to_string()),
        ("parallel-syncs", "1".to_owned()),
    ]);
    fields(shown)
}

fn replica(topology: &Topology, member: &Member) -> Reply {
    let leader = topology.leader();
    let (flags, link) = if member.online { ("slave", "ok") } else { ("s_down,slave", "err") };
    let mut shown = instance(topology, member, format!("{}:{}", member.host, member.port), flags);
    shown.extend([
        ("info-refresh", "0".to_owned()),
        ("role-reported", "slave".to_owned()),
        ("role-reported-time", "0".to_owned()),
        ("master-link-down-time", "0".to_owned()),
        ("master-link-status", link.to_owned()),
        ("master-host", leader.map_or_else(|| "?".to_owned(), |leader| leader.host.clone())),
        ("master-port", leader.map_or(0, |leader| leader.port).to_string()),
        ("slave-priority", "100".to_owned()),
        ("slave-repl-offset", member.offset.to_string()),
        ("replica-announced", "1".to_owned()),
    ]);
    fields(shown)
}

fn sentinel(topology: &Topology, member: &Member) -> Reply {
    let flags = if member.online { "sentinel" } else { "s_down,sentinel" };
    let mut shown = instance(topology, member, topology.name_of(member.id), flags);
    shown.extend([
        ("last-hello-message", "0".to_owned()),
        ("voted-leader", "?".to_owned()),
        ("voted-leader-epoch", "0".to_owned()),
    ]);
    fields(shown)
}

fn explain() -> Reply {
    help::reply(
        "SENTINEL",
        &[
            "CKQUORUM <master-name>",
            "    Check whether there is a leader, and so a quorum.",
            "FAILOVER <master-name>",
            "    Make the leader hand over.",
            "GET-MASTER-ADDR-BY-NAME <master-name>",
            "    Return the ip and port of the leader.",
            "MASTER <master-name>",
            "    Show the state of the leader.",
            "MASTERS",
            "    Show the leader.",
            "MYID",
            "    Return the name of this node.",
            "REPLICAS <master-name>",
            "    Show the followers.",
            "SENTINELS <master-name>",
            "    Show the other nodes.",
        ],
    )
}
