//! MODULE: there are none, and none can be loaded.

use super::READY;
use crate::commands::{Args, Command, Flags, Group, Session, Spec, help};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::session::<List>(),
    Command::session::<Load>(),
    Command::session::<LoadEx>(),
    Command::session::<Unload>(),
    Command::session::<Help>(),
];

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);
const LOADING: Flags = ADMIN.and(Flags::NO_ASYNC_LOADING);

/// Lists none.
pub struct List;

impl Session for List {
    const SPEC: Spec = Spec {
        name: "MODULE|LIST",
        summary: "List all modules loaded by the server",
        complexity: "O(N) where N is the number of loaded modules.",
        since: "4.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Array(Vec::new()))
    }
}

/// What Redis says whose modules are switched off.
fn refuse() -> Result<Reply> {
    const REFUSED: ClientError = ClientError::fixed(
        "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run \
         it from a local connection, otherwise you need to set this option in the configuration file, and \
         then restart the server.",
    );
    Err(REFUSED.into())
}

/// Is refused.
pub struct Load;

impl Session for Load {
    const SPEC: Spec = Spec {
        name: "MODULE|LOAD",
        syntax: "path [arg [arg ...]]",
        summary: "Load a module",
        since: "4.0.0",
        flags: LOADING,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        refuse()
    }
}

/// Is refused.
pub struct LoadEx;

impl Session for LoadEx {
    const SPEC: Spec = Spec {
        name: "MODULE|LOADEX",
        syntax: "path [CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]",
        summary: "Load a module with extended parameters",
        since: "7.0.0",
        flags: LOADING,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        refuse()
    }
}

/// Is refused.
pub struct Unload;

impl Session for Unload {
    const SPEC: Spec = Spec {
        name: "MODULE|UNLOAD",
        syntax: "name",
        summary: "Unload a module",
        since: "4.0.0",
        flags: LOADING,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        refuse()
    }
}

/// Explains MODULE.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "MODULE|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: READY,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply("MODULE", &["LIST", "    Return a list of loaded modules."]))
    }
}
