//! CONFIG: the node's options, by their names in Redis' configuration file.
//!
//! An option is the node's own, or the cluster's ([`Logged`]): then CONFIG SET goes through the log, and its
//! value is a part of the state. A command that sets some of both sets the node's own only once the cluster's are
//! applied, so that it still sets all or none.

use bytes::Bytes;

use super::READY;
use crate::commands::{Answer, Args, Flags, Group, Host, Logged, Node, Session, Spec, help};
use crate::config::Events;
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::Txn;

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(READY);

/// Shows options.
pub struct Get {
    patterns: Vec<Bytes>,
}

impl Node for Get {
    const SPEC: Spec = Spec {
        name: "CONFIG|GET",
        syntax: "parameter [parameter ...]",
        summary: "Get the values of configuration parameters",
        complexity: "O(N) when N is the number of configuration parameters provided",
        since: "2.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { patterns: args.rest() })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let options = host.config_get(&self.patterns).into_iter();
        Ok(Reply::Map(options.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()).into())
    }
}

/// Changes options, all or none.
pub struct Set {
    options: Vec<(Bytes, Bytes)>,
}

impl Node for Set {
    const SPEC: Spec = Spec {
        name: "CONFIG|SET",
        syntax: "parameter value [parameter value ...]",
        summary: "Set configuration parameters to the given values",
        complexity: "O(N) when N is the number of configuration parameters provided",
        since: "2.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() % 2 == 1 {
            return Err(text::SYNTAX.into());
        }
        let mut options = Vec::with_capacity(args.len() / 2);
        while !args.is_empty() {
            options.push((args.bytes()?, args.bytes()?));
        }
        Ok(Self { options })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let replicated = host.config_replicated(&self.options)?;
        if replicated.is_empty() {
            host.config_set(&self.options)?;
            return Ok(Reply::Ok.into());
        }
        let (of_cluster, then): (Vec<_>, Vec<_>) =
            self.options.into_iter().partition(|(name, _)| replicated.contains(name));
        let mut argv = vec![Bytes::from_static(b"CONFIG"), Bytes::from_static(b"SET")];
        argv.extend(of_cluster.into_iter().flat_map(|(name, value)| [name, value]));
        Ok(Answer::Logged { argv, then })
    }
}

/// The options that are the cluster's.
impl Logged for Set {
    fn apply(self, tx: &mut Txn) -> Result<Reply> {
        for (name, classes) in &self.options {
            if name.eq_ignore_ascii_case(b"notify-keyspace-events") {
                let events = Events::parse(classes).map_err(ClientError::fixed)?;
                tx.head_mut().notify = events.bits();
            }
        }
        Ok(Reply::Ok)
    }
}

/// Zeroes the counters of INFO.
pub struct ResetStat;

impl Node for ResetStat {
    const SPEC: Spec = Spec {
        name: "CONFIG|RESETSTAT",
        summary: "Reset the stats returned by INFO",
        since: "2.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.reset_stats();
        Ok(Reply::Ok.into())
    }
}

/// Writes the options back to the file they came from.
pub struct Rewrite;

impl Node for Rewrite {
    const SPEC: Spec = Spec {
        name: "CONFIG|REWRITE",
        summary: "Rewrite the configuration file with the in memory configuration",
        since: "2.8.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.config_rewrite()?;
        Ok(Reply::Ok.into())
    }
}

/// Explains CONFIG.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "CONFIG|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: READY,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "CONFIG",
            &[
                "GET <pattern>",
                "    Return parameters matching the glob-like <pattern> and their values.",
                "SET <directive> <value>",
                "    Set the configuration <directive> to <value>.",
                "RESETSTAT",
                "    Reset statistics reported by the INFO command.",
                "REWRITE",
                "    Rewrite the configuration file.",
            ],
        ))
    }
}
