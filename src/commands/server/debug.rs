//! DEBUG: for tests of clients and of the cluster. Who may send it is the option `enable-debug-command`, see
//! [`gate`](crate::commands::gate).

use std::time::Duration;

use super::READY;
use crate::commands::{Answer, Args, Flags, Group, Hashed, Host, Node, Spec, args, help};
use crate::error::Result;
use crate::resp::{Reply, number};
use crate::session::Session as Connection;

/// Its subcommands are arguments to it, as in Redis.
pub enum Debug {
    /// Answers late. Only this connection waits: there is no single thread to block.
    Sleep(Duration),
    /// A hash of what is stored: the same on all nodes, and 0 if that is nothing.
    Digest(Hashed),
    Help,
}

impl Node for Debug {
    const SPEC: Spec = Spec {
        name: "DEBUG",
        syntax: "subcommand [argument ...]",
        summary: "A container for debugging commands",
        complexity: "Depends on subcommand.",
        flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(READY),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let name = args.bytes()?;
        match (name.to_ascii_lowercase().as_slice(), args.len()) {
            // Not a number counts as none, as with Redis' strtod.
            (b"sleep", 1) => {
                let seconds = number::parse_float(&args.bytes()?).unwrap_or(0.0);
                Ok(Self::Sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
            }
            (b"digest", 0) => Ok(Self::Digest(Hashed::Data)),
            (b"digest-state", 0) => Ok(Self::Digest(Hashed::Everything)),
            (b"help", 0) => Ok(Self::Help),
            _ => Err(args::wrong_subcommand("DEBUG", &name).into()),
        }
    }

    fn execute(self, _: &mut Connection, _: &dyn Host) -> Result<Answer> {
        match self {
            Self::Sleep(pause) => Ok(Answer::After(pause, Reply::Ok)),
            Self::Digest(what) => Ok(Answer::Digest(what)),
            Self::Help => Ok(help::reply(
                "DEBUG",
                &[
                    "DIGEST",
                    "    Output a hex signature representing the current DB content.",
                    "DIGEST-STATE",
                    "    The same for all that nodes have in common: scripts, revisions, the clock, and so on.",
                    "SLEEP <seconds>",
                    "    Stop the server for <seconds>. Decimals allowed.",
                ],
            )
            .into()),
        }
    }
}
