//! CONFIG: the node's options, by their names in Redis' configuration file.

use bytes::Bytes;

use super::READY;
use crate::commands::{Answer, Args, Flags, Group, Host, Node, Session, Spec, help};
use crate::error::{Result, text};
use crate::resp::Reply;
use crate::session::Session as Connection;

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
        host.config_set(&self.options)?;
        Ok(Reply::Ok.into())
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
