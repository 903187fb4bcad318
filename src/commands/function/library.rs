//! FUNCTION: the libraries there are.

use bytes::Bytes;

use crate::commands::{Args, Flags, Group, Read, Session, Spec, Write, help};
use crate::error::{ClientError, Result};
use crate::glob;
use crate::resp::Reply;
use crate::script::{self, Header};
use crate::session::Session as Connection;
use crate::store::{Txn, View};
use crate::types::libraries::{self, FLAGS, Library};

pub(super) const FULL: ClientError =
    ClientError::fixed("ERR too many bytes of functions are loaded; FUNCTION DELETE makes room");

/// Loads a library.
pub struct Load {
    replace: bool,
    code: Bytes,
}

impl Write for Load {
    const SPEC: Spec = Spec {
        name: "FUNCTION|LOAD",
        syntax: "[REPLACE] function-code",
        summary: "Create a function with the given arguments (name, code, description)",
        complexity: "O(1) (considering compilation time is redundant)",
        since: "7.0.0",
        flags: Flags::NOSCRIPT.and(Flags::DENYOOM),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let mut replace = false;
        while args.len() > 1 {
            if !args.take("REPLACE") {
                let shown = args.bytes()?;
                let shown = String::from_utf8_lossy(&shown);
                return Err(ClientError::new(format!("ERR Unknown option given: {shown}")).into());
            }
            replace = true;
        }
        Ok(Self { replace, code: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let Header { name } = Header::parse(&self.code)?;
        let is_known = libraries::get(tx, &name)?.is_some();
        if is_known && !self.replace {
            let shown = String::from_utf8_lossy(&name);
            return Err(ClientError::new(format!("ERR Library '{shown}' already exists")).into());
        }
        let library = script::functions(&self.code)?;
        for function in &library.functions {
            let other = libraries::library_of(tx, &function.name)?;
            if other.is_some_and(|other| other != name) {
                return Err(function_exists(&function.name).into());
            }
        }
        if !libraries::fits(tx, &name, &library)? {
            return Err(FULL.into());
        }
        libraries::put(tx, &name, &library)?;
        Ok(Reply::Bulk(name))
    }
}

pub(super) fn function_exists(name: &[u8]) -> ClientError {
    ClientError::new(format!("ERR Function {} already exists", String::from_utf8_lossy(name)))
}

/// Forgets a library.
pub struct Delete {
    name: Bytes,
}

impl Write for Delete {
    const SPEC: Spec = Spec {
        name: "FUNCTION|DELETE",
        syntax: "library-name",
        summary: "Delete a function by name",
        since: "7.0.0",
        flags: Flags::NOSCRIPT,
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { name: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        const NOT_FOUND: ClientError = ClientError::fixed("ERR Library not found");
        if libraries::remove(tx, &self.name)? { Ok(Reply::Ok) } else { Err(NOT_FOUND.into()) }
    }
}

/// Forgets all libraries.
pub struct Flush;

impl Write for Flush {
    const SPEC: Spec = Spec {
        name: "FUNCTION|FLUSH",
        syntax: "[ASYNC | SYNC]",
        summary: "Deleting all functions",
        complexity: "O(N) where N is the number of functions deleted",
        since: "7.0.0",
        flags: Flags::NOSCRIPT,
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const ONLY: ClientError = ClientError::fixed("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        let known = args.is_empty() || args.take("ASYNC") || args.take("SYNC");
        if known { Ok(Self) } else { Err(ONLY.into()) }
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        libraries::flush(tx)?;
        Ok(Reply::Ok)
    }
}

/// Tells what libraries there are.
pub struct List {
    pattern: Option<Bytes>,
    with_code: bool,
}

impl Read for List {
    const SPEC: Spec = Spec {
        name: "FUNCTION|LIST",
        syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
        summary: "List information about all the functions",
        complexity: "O(N) where N is the number of functions",
        since: "7.0.0",
        flags: Flags::NOSCRIPT.and(Flags::READS_NO_KEY),
        ..Spec::of(Group::Scripting)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const NO_PATTERN: ClientError = ClientError::fixed("ERR library name argument was not given");
        let (mut pattern, mut with_code) = (None, false);
        while !args.is_empty() {
            if !with_code && args.take("WITHCODE") {
                with_code = true;
            } else if pattern.is_none() && args.take("LIBRARYNAME") {
                if args.is_empty() {
                    return Err(NO_PATTERN.into());
                }
                pattern = Some(args.bytes()?);
            } else {
                let shown = args.bytes()?;
                let shown = String::from_utf8_lossy(&shown);
                return Err(ClientError::new(format!("ERR Unknown argument {shown}")).into());
            }
        }
        Ok(Self { pattern, with_code })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let listed = libraries::all(view)?.into_iter().filter(|(name, _)| {
            self.pattern.as_ref().is_none_or(|pattern| glob::matches_ignore_case(pattern, name))
        });
        Ok(Reply::Array(listed.map(|(name, library)| describe(name, library, self.with_code)).collect()))
    }
}

fn describe(name: Bytes, library: Library, with_code: bool) -> Reply {
    let functions = library.functions.into_iter().map(|function| {
        let flags = FLAGS.iter().enumerate().filter(|(bit, _)| function.flags & 1 << bit != 0);
        Reply::Map(vec![
            (Reply::text("name"), Reply::Bulk(function.name)),
            (Reply::text("description"), function.description.into()),
            (Reply::text("flags"), Reply::Set(flags.map(|(_, flag)| Reply::Status(flag)).collect())),
        ])
    });
    let mut fields = vec![
        (Reply::text("library_name"), Reply::Bulk(name)),
        (Reply::text("engine"), Reply::text("LUA")),
        (Reply::text("functions"), Reply::Array(functions.collect())),
    ];
    if with_code {
        fields.push((Reply::text("library_code"), Reply::Bulk(library.code)));
    }
    Reply::Map(fields)
}

/// Tells how many there are. None runs: while one does, nothing else is applied, nor read.
pub struct Stats;

impl Read for Stats {
    const SPEC: Spec = Spec {
        name: "FUNCTION|STATS",
        summary: "Return information about the function currently running (name, description, duration)",
        since: "7.0.0",
        flags: Flags::NOSCRIPT.and(Flags::ALLOW_BUSY).and(Flags::READS_NO_KEY),
        ..Spec::of(Group::Scripting)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let counts = libraries::counts(view)?;
        let engine = Reply::Map(vec![
            (Reply::text("libraries_count"), Reply::Int(counts.libraries as i64)),
            (Reply::text("functions_count"), Reply::Int(counts.functions as i64)),
        ]);
        Ok(Reply::Map(vec![
            (Reply::text("running_script"), Reply::Nil),
            (Reply::text("engines"), Reply::Map(vec![(Reply::text("LUA"), engine)])),
        ]))
    }
}

/// Ends the function that runs. None does: while one runs, nothing else is applied.
pub struct Kill;

impl Session for Kill {
    const SPEC: Spec = Spec {
        name: "FUNCTION|KILL",
        summary: "Kill the function currently in execution.",
        since: "7.0.0",
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

/// Explains FUNCTION.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "FUNCTION|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "7.0.0",
        flags: Flags::LOADING.and(Flags::STALE),
        ..Spec::of(Group::Scripting)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "FUNCTION",
            &[
                "DELETE <library-name>",
                "    Delete a library and its functions.",
                "DUMP",
                "    Return all libraries as a payload for FUNCTION RESTORE, here or in Redis.",
                "FLUSH [ASYNC|SYNC]",
                "    Delete all libraries.",
                "KILL",
                "    Kill the function that runs.",
                "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
                "    Return the libraries, their functions, and with WITHCODE their code.",
                "LOAD [REPLACE] <code>",
                "    Load a library; with REPLACE, also in place of one of that name.",
                "RESTORE <payload> [APPEND|FLUSH|REPLACE]",
                "    Load the libraries of a payload: to those there are, instead of these, or in place of those",
                "    of the same name.",
                "STATS",
                "    Return how many libraries and functions there are.",
            ],
        ))
    }
}
