//! SAVE and the like, and SHUTDOWN: durability, in the words of those who had to ask for it.
//!
//! Everything acknowledged is in the log on a quorum's disks. What these commands ask for is a checkpoint: it
//! lets this node let go of log and start sooner, and nothing more depends on it.

use super::READY;
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::node::<LastSave>(),
    Command::node::<Save>(),
    Command::node::<BgSave>(),
    Command::node::<BgRewriteAof>(),
    Command::node::<Shutdown>(),
];

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);

/// Tells when the last checkpoint was made, or the node started.
pub struct LastSave;

impl Node for LastSave {
    const SPEC: Spec = Spec {
        name: "LASTSAVE",
        summary: "Get the UNIX time stamp of the last successful save to disk",
        flags: READY.and(Flags::FAST).and(Flags::ADMIN_CATEGORY),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        Ok(Reply::Int((host.last_checkpoint_ms() / 1000) as i64).into())
    }
}

/// Makes a checkpoint.
pub struct Save;

impl Node for Save {
    const SPEC: Spec = Spec {
        name: "SAVE",
        summary: "Synchronously save the dataset to disk",
        complexity: "O(N) where N is the total number of keys in all databases",
        flags: ADMIN.and(Flags::NO_ASYNC_LOADING).and(Flags::REFUSED_IN_MULTI),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, _: &dyn Host) -> Result<Answer> {
        Ok(Answer::Checkpoint(Reply::Ok))
    }
}

/// Begins a checkpoint.
pub struct BgSave;

impl Node for BgSave {
    const SPEC: Spec = Spec {
        name: "BGSAVE",
        syntax: "[SCHEDULE]",
        summary: "Asynchronously save the dataset to disk",
        flags: ADMIN.and(Flags::NO_ASYNC_LOADING),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        args.take("SCHEDULE");
        args.end()?;
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.begin_checkpoint();
        Ok(Reply::Status("Background saving started").into())
    }
}

/// Begins a checkpoint, which lets the log be shortened.
pub struct BgRewriteAof;

impl Node for BgRewriteAof {
    const SPEC: Spec = Spec {
        name: "BGREWRITEAOF",
        summary: "Asynchronously rewrite the append-only file",
        flags: ADMIN.and(Flags::NO_ASYNC_LOADING),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        host.begin_checkpoint();
        Ok(Reply::Status("Background append only file rewriting started").into())
    }
}

/// Stops the node cleanly: it hands leadership over and finishes what is in flight. There is nothing to
/// abort, since nobody is waited for who may not come.
pub enum Shutdown {
    Stop,
    Abort,
}

impl Node for Shutdown {
    const SPEC: Spec = Spec {
        name: "SHUTDOWN",
        syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        summary: "Synchronously save the dataset to disk and then shut down the server",
        complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, \
                     otherwise O(1)",
        flags: ADMIN.and(READY).and(Flags::REFUSED_IN_MULTI).and(Flags::ALLOW_BUSY),
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (mut save, mut no_save, mut hurry, mut abort) = (false, false, false, false);
        while !args.is_empty() {
            if args.take("SAVE") {
                save = true;
            } else if args.take("NOSAVE") {
                no_save = true;
            } else if args.take("NOW") || args.take("FORCE") {
                hurry = true;
            } else if args.take("ABORT") {
                abort = true;
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        if (save && no_save) || (abort && (save || no_save || hurry)) {
            return Err(text::SYNTAX.into());
        }
        Ok(if abort { Self::Abort } else { Self::Stop })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const NOT_STOPPING: ClientError = ClientError::fixed("ERR No shutdown in progress.");
        match self {
            Self::Abort => Err(NOT_STOPPING.into()),
            Self::Stop => {
                host.shut_down();
                Ok(Reply::Nothing.into())
            }
        }
    }
}
