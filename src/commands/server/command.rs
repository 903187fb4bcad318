//! COMMAND: the table of commands, told to clients.

use bytes::Bytes;

use super::READY;
use super::entry::{Entry, access_flags};
use crate::commands::{Access, Args, Command, Flags, Group, Session, Spec, find, help};
use crate::error::{ClientError, Result, text};
use crate::glob;
use crate::resp::Reply;
use crate::session::Session as Connection;

const ASKED: Flags = READY.and(Flags::CONNECTION_CATEGORY);

const PER_COMMAND: &str = "O(N) where N is the total number of Redis commands";
const PER_NAME: &str = "O(N) where N is the number of commands to look up";
const PER_ARGUMENT: &str = "O(N) where N is the number of arguments to the command";

/// Describes all commands.
pub struct All;

impl Session for All {
    const SPEC: Spec = Spec {
        name: "COMMAND",
        summary: "Get array of Redis command details",
        complexity: PER_COMMAND,
        since: "2.8.13",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Array(Entry::all().iter().map(Entry::info).collect()))
    }
}

/// Counts the commands, without subcommands.
pub struct Count;

impl Session for Count {
    const SPEC: Spec = Spec {
        name: "COMMAND|COUNT",
        summary: "Get total number of Redis commands",
        since: "2.8.13",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Int(Entry::all().len() as i64))
    }
}

/// Describes commands to machines.
pub struct Info {
    names: Vec<Bytes>,
}

impl Session for Info {
    const SPEC: Spec = Spec {
        name: "COMMAND|INFO",
        syntax: "[command-name [command-name ...]]",
        summary: "Get array of specific Redis command details, or all when no argument is given.",
        complexity: PER_NAME,
        since: "2.8.13",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { names: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        if self.names.is_empty() {
            return All.execute(connection);
        }
        let info = |name: &Bytes| Entry::find(name).map_or(Reply::Nil, |entry| entry.info());
        Ok(Reply::Array(self.names.iter().map(info).collect()))
    }
}

/// Describes commands to people.
pub struct Docs {
    names: Vec<Bytes>,
}

impl Session for Docs {
    const SPEC: Spec = Spec {
        name: "COMMAND|DOCS",
        syntax: "[command-name [command-name ...]]",
        summary: "Get array of specific Redis command documentation",
        complexity: PER_NAME,
        since: "7.0.0",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { names: args.rest() })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        let wanted = if self.names.is_empty() {
            Entry::all()
        } else {
            self.names.iter().filter_map(|name| Entry::find(name)).collect()
        };
        Ok(Reply::Map(wanted.iter().map(|entry| (Reply::bulk(entry.name()), entry.docs())).collect()))
    }
}

/// Lists names.
pub struct List {
    filter: NameFilter,
}

enum NameFilter {
    None,
    /// There are no modules, so nothing comes from one.
    Module,
    /// An ACL category, without `@`, lower case.
    Category(String),
    /// A glob, lower case.
    Pattern(Vec<u8>),
}

impl Session for List {
    const SPEC: Spec = Spec {
        name: "COMMAND|LIST",
        syntax: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        summary: "Get an array of Redis command names",
        complexity: PER_COMMAND,
        since: "7.0.0",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.is_empty() {
            return Ok(Self { filter: NameFilter::None });
        }
        if args.len() != 3 || !args.take("FILTERBY") {
            return Err(text::SYNTAX.into());
        }
        let filter = if args.take("MODULE") {
            args.rest();
            NameFilter::Module
        } else if args.take("ACLCAT") {
            NameFilter::Category(String::from_utf8_lossy(&args.bytes()?).to_ascii_lowercase())
        } else if args.take("PATTERN") {
            NameFilter::Pattern(args.bytes()?.to_ascii_lowercase())
        } else {
            return Err(text::SYNTAX.into());
        };
        Ok(Self { filter })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        let mut names = Vec::new();
        for entry in Entry::all() {
            let with_subcommands = std::iter::once(entry).chain(entry.subcommands());
            names.extend(with_subcommands.filter(|entry| self.filter.fits(entry)).map(|entry| entry.name()));
        }
        Ok(Reply::Array(names.into_iter().map(Reply::bulk).collect()))
    }
}

impl NameFilter {
    fn fits(&self, entry: &Entry) -> bool {
        match self {
            Self::None => true,
            Self::Module => false,
            Self::Category(category) => entry.categories().iter().any(|name| name[1..] == *category),
            Self::Pattern(pattern) => glob::matches(pattern, entry.name().as_bytes()),
        }
    }
}

/// Picks the keys out of a command.
pub struct GetKeys {
    argv: Vec<Bytes>,
}

impl Session for GetKeys {
    const SPEC: Spec = Spec {
        name: "COMMAND|GETKEYS",
        syntax: "command arg [arg ...]",
        summary: "Extract keys given a full Redis command",
        complexity: PER_ARGUMENT,
        since: "2.8.13",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { argv: args.rest() })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        let (_, keys) = keys_of(&self.argv)?;
        Ok(Reply::Array(keys.into_iter().map(Reply::Bulk).collect()))
    }
}

/// Picks the keys out of a command and says what it does with them.
pub struct GetKeysAndFlags {
    argv: Vec<Bytes>,
}

impl Session for GetKeysAndFlags {
    const SPEC: Spec = Spec {
        name: "COMMAND|GETKEYSANDFLAGS",
        syntax: "command arg [arg ...]",
        summary: "Extract keys and access flags given a full Redis command",
        complexity: PER_ARGUMENT,
        since: "7.0.0",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { argv: args.rest() })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        let (command, keys) = keys_of(&self.argv)?;
        let with_flags = |(key, access)| Reply::Array(vec![Reply::Bulk(key), access_flags(access)]);
        let accesses = command.spec.keys.accesses(&self.argv);
        Ok(Reply::Array(keys.into_iter().zip(accesses).map(with_flags).collect()))
    }
}

fn keys_of(argv: &[Bytes]) -> Result<(&'static Command, Vec<Bytes>), ClientError> {
    const UNKNOWN: ClientError = ClientError::fixed("ERR Invalid command specified");
    const NO_KEYS: ClientError = ClientError::fixed("ERR The command has no key arguments");
    const WRONG_NUMBER: ClientError =
        ClientError::fixed("ERR Invalid number of arguments specified for command");
    let command = find_called(argv).ok_or(UNKNOWN)?;
    if command.spec.keys.is_none() || command.spec.keys.access == Access::Channel {
        return Err(NO_KEYS);
    }
    if !command.takes(argv.len()) {
        return Err(WRONG_NUMBER);
    }
    Ok((command, command.spec.keys.of(argv)))
}

/// The command these words call, whether or not they are enough.
fn find_called(argv: &[Bytes]) -> Option<&'static Command> {
    let (name, arguments) = argv.split_first()?;
    let subcommand = arguments.first().and_then(|word| find(&[name, b"|".as_slice(), word].concat()));
    subcommand.or_else(|| find(name))
}

/// Explains COMMAND.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "COMMAND|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: ASKED,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "COMMAND",
            &[
                "(no subcommand)",
                "    Return details about all Redis commands.",
                "COUNT",
                "    Return the total number of commands in this Redis server.",
                "LIST",
                "    Return a list of all commands in this Redis server.",
                "INFO [<command-name> ...]",
                "    Return details about multiple Redis commands.",
                "    If no command names are given, documentation details for all",
                "    commands are returned.",
                "DOCS [<command-name> ...]",
                "    Return documentation details about multiple Redis commands.",
                "    If no command names are given, documentation details for all",
                "    commands are returned.",
                "GETKEYS <full-command>",
                "    Return the keys from a full Redis command.",
                "GETKEYSANDFLAGS <full-command>",
                "    Return the keys and the access flags from a full Redis command.",
            ],
        ))
    }
}
