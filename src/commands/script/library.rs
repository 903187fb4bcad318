//! SCRIPT: the scripts that are known.

use bytes::Bytes;

use super::eval::digest;
use crate::commands::{Args, Flags, Group, Read, Session, Spec, Write, help};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::script::{self, Program, Script};
use crate::session::Session as Connection;
use crate::store::{Txn, View};
use crate::types::scripts;

/// Keeps a script.
pub struct Load {
    text: Bytes,
}

impl Write for Load {
    const SPEC: Spec = Spec {
        name: "SCRIPT|LOAD",
        syntax: "script",
        summary: "Load the specified Lua script into the script cache.",
        complexity: "O(N) with N being the length in bytes of the script body.",
        since: "2.6.0",
        flags: Flags::NOSCRIPT.and(Flags::STALE).and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { text: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        const FULL: ClientError =
            ClientError::fixed("ERR too many bytes of scripts are loaded; SCRIPT FLUSH makes room");
        let script = Script::new(self.text)?;
        script::compiles(Program::Script(&script))?;
        scripts::load(tx, &script.digest, &script.text)?.map_err(|scripts::Full| FULL)?;
        Ok(Reply::bulk(script.name))
    }
}

/// Tells which scripts are known.
pub struct Exists {
    names: Vec<Bytes>,
}

impl Read for Exists {
    const SPEC: Spec = Spec {
        name: "SCRIPT|EXISTS",
        syntax: "sha1 [sha1 ...]",
        summary: "Check existence of scripts in the script cache.",
        complexity: "O(N) with N being the number of scripts to check (so checking a single script is an O(1) \
                     operation).",
        since: "2.6.0",
        flags: Flags::NOSCRIPT.and(Flags::READS_NO_KEY),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { names: args.rest() })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let mut known = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let found = match digest(name) {
                Some(digest) => scripts::get(view, &digest)?.is_some(),
                None => false,
            };
            known.push(Reply::Int(found.into()));
        }
        Ok(Reply::Array(known))
    }
}

/// Forgets all scripts.
pub struct Flush;

impl Write for Flush {
    const SPEC: Spec = Spec {
        name: "SCRIPT|FLUSH",
        syntax: "[ASYNC | SYNC]",
        summary: "Remove all the scripts from the script cache.",
        complexity: "O(N) with N being the number of scripts in cache",
        since: "2.6.0",
        flags: Flags::NOSCRIPT.and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const ONLY: ClientError = ClientError::fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
        let known = args.is_empty() || args.take("ASYNC") || args.take("SYNC");
        if known && args.is_empty() { Ok(Self) } else { Err(ONLY.into()) }
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        scripts::flush(tx)?;
        Ok(Reply::Ok)
    }
}

/// Ends the script that runs. None does: while one runs, nothing else is applied.
pub struct Kill;

impl Session for Kill {
    const SPEC: Spec = Spec {
        name: "SCRIPT|KILL",
        summary: "Kill the script currently in execution.",
        since: "2.6.0",
        flags: Flags::NOSCRIPT.and(Flags::ALLOW_BUSY),
        ..Spec::of(Group::Scripting)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Err(ClientError::fixed("NOTBUSY No scripts in execution right now.").into())
    }
}

/// Would debug scripts.
pub struct Debug {
    on: bool,
}

impl Session for Debug {
    const SPEC: Spec = Spec {
        name: "SCRIPT|DEBUG",
        syntax: "<YES | SYNC | NO>",
        summary: "Set the debug mode for executed scripts.",
        since: "3.2.0",
        flags: Flags::NOSCRIPT,
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const USE: ClientError = ClientError::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO");
        let on = args.take("YES") || args.take("SYNC");
        if on || args.take("NO") { Ok(Self { on }) } else { Err(USE.into()) }
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        if self.on {
            return Err(ClientError::fixed("ERR there is no script debugger here").into());
        }
        Ok(Reply::Ok)
    }
}

/// Explains SCRIPT.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "SCRIPT|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: Flags::LOADING.and(Flags::STALE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "SCRIPT",
            &[
                "DEBUG (YES|SYNC|NO)",
                "    Set the debug mode for subsequent scripts executed. There is no debugger here.",
                "EXISTS <sha1> [<sha1> ...]",
                "    Return information about the existence of the scripts in the script cache.",
                "FLUSH [ASYNC|SYNC]",
                "    Flush the Lua scripts cache.",
                "KILL",
                "    Kill the currently executing Lua script.",
                "LOAD <script>",
                "    Load a script into the scripts cache without executing it.",
            ],
        ))
    }
}
