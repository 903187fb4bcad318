//! The table of all commands, and how a name finds its row.

use std::sync::OnceLock;
use std::time::Duration;

use hashbrown::HashMap;

use super::args::{self, Args};
use super::{Answer, Blocking, Flags, Group, Host, Logged, Node, Read, Session, Spec, Write};
use super::{
    client, connection, function, hash, keys, list, pause, pubsub, script, server, shard, string, tracking,
    transaction,
};
use crate::error::{ClientError, Failure, Result, StoreError};
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::{Txn, View};
use crate::types::keyspace;

/// Every command there is, by family.
const FAMILIES: &[&[Command]] = &[
    connection::COMMANDS,
    client::COMMANDS,
    pause::COMMANDS,
    string::COMMANDS,
    hash::COMMANDS,
    list::COMMANDS,
    keys::COMMANDS,
    tracking::COMMANDS,
    transaction::COMMANDS,
    pubsub::COMMANDS,
    script::COMMANDS,
    function::COMMANDS,
    shard::COMMANDS,
    server::COMMANDS,
    server::acl::COMMANDS,
    server::cluster::COMMANDS,
    server::latency::COMMANDS,
    server::memory::COMMANDS,
    server::module::COMMANDS,
    server::monitor::COMMANDS,
    server::persist::COMMANDS,
    server::replication::COMMANDS,
    server::sentinel::COMMANDS,
];

/// Every command there is, by name.
#[must_use]
pub fn all() -> &'static [Command] {
    static ALL: OnceLock<Vec<Command>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut commands = FAMILIES.concat();
        commands.sort_by_key(|command| command.spec.name);
        for (index, command) in commands.iter_mut().enumerate() {
            command.index = index;
            command.arity = command.spec.arity();
        }
        let parents: Vec<&str> = commands.iter().filter_map(|command| command.spec.parent()).collect();
        for command in commands.iter_mut().filter(|command| parents.contains(&command.spec.name)) {
            command.has_subcommands = true;
            // A subcommand may follow.
            command.arity = -command.arity.abs();
        }
        commands
    })
}

/// The command, or `parent|subcommand`, of this name, in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    find_spelled(&[name])
}

/// Finds the command that `argv`, which has at least one word, calls, and how many of its words are the
/// name.
///
/// # Errors
/// "unknown command", "unknown subcommand", "wrong number of arguments".
pub fn resolve(argv: &[impl AsRef<[u8]>]) -> Result<Resolved, ClientError> {
    let (name, arguments) = argv.split_first().expect("a command has a name");
    let name = name.as_ref();
    // With a bar it would be found as a subcommand.
    let command = if name.contains(&b'|') { None } else { find(name) };
    let resolved = match (command, arguments.first().map(AsRef::as_ref)) {
        (Some(command), None) => Resolved { command, skip: 1 },
        (Some(command), Some(_)) if !command.has_subcommands => Resolved { command, skip: 1 },
        (None, _) if !is_container(name) => return Err(unknown_command(name, arguments)),
        (_, Some(subcommand)) => {
            let command = find_spelled(&[name, b"|", subcommand])
                .ok_or_else(|| args::unknown_subcommand(name, subcommand))?;
            Resolved { command, skip: 2 }
        }
        (None, None) => return Err(args::wrong_number(&String::from_utf8_lossy(name).to_ascii_lowercase())),
    };
    if resolved.command.takes(argv.len()) {
        Ok(resolved)
    } else {
        Err(args::wrong_number(&resolved.command.spec.lower_name()))
    }
}

/// Resolves commands that come one after another, and most of which are the same.
#[derive(Default)]
pub struct Resolver {
    /// A short name of one word, as it was spelled, how long that is, and what it calls.
    last: Option<([u8; SHORT_BYTES], usize, Resolved)>,
}

/// How long a name may be that a [`Resolver`] remembers.
const SHORT_BYTES: usize = 16;

impl Resolver {
    /// As [`resolve`].
    ///
    /// # Errors
    /// Those of [`resolve`].
    pub fn resolve(&mut self, argv: &[impl AsRef<[u8]>]) -> Result<Resolved, ClientError> {
        if let Some((name, length, resolved)) = &self.last
            && argv.first().is_some_and(|word| *word.as_ref() == name[..*length])
            && resolved.command.takes(argv.len())
        {
            return Ok(*resolved);
        }
        let resolved = resolve(argv)?;
        let spelled = argv[0].as_ref();
        if spelled.len() <= SHORT_BYTES && resolved.skip == 1 && !resolved.command.has_subcommands {
            let mut name = [0; SHORT_BYTES];
            name[..spelled.len()].copy_from_slice(spelled);
            self.last = Some((name, spelled.len(), resolved));
        }
        Ok(resolved)
    }
}

/// What [`resolve`] found.
#[derive(Clone, Copy)]
pub struct Resolved {
    pub command: &'static Command,
    /// How many words are the name: what [`Args::new`] is told.
    pub skip: usize,
}

impl Resolved {
    /// Runs a command that entries hold, as a part of one.
    ///
    /// # Errors
    /// The store failed.
    pub fn apply(&self, mut args: Args, tx: &mut Txn) -> Result<Reply, StoreError> {
        let result = match self.command.lane {
            Lane::Write(execute) => execute(&mut args, tx),
            Lane::Read(execute) => {
                tx.mark_read();
                let result = execute(&mut args, tx);
                keyspace::notify_misses(tx);
                result
            }
            Lane::Node(_) | Lane::Session(_) => match self.command.logged {
                Some(execute) => execute(&mut args, tx),
                // A node never proposes these; an entry that holds one answers the same on every node.
                None => Err(ClientError::fixed("ERR not a replicated command").into()),
            },
        };
        // What a write looked for in vain is its own affair.
        drop(tx.take_misses());
        match result {
            Ok(reply) => Ok(reply),
            Err(Failure::Client(error)) => Ok(error.into()),
            Err(Failure::Store(error)) => Err(error),
        }
    }
}

/// A row of the table: the declaration and what to call.
#[derive(Clone, Copy)]
pub struct Command {
    pub spec: &'static Spec,
    pub lane: Lane,
    /// Fails as the command itself would on arguments it cannot parse. Lets a node refuse a malformed
    /// write without a consensus round.
    pub check: fn(&mut Args) -> Result<()>,
    /// Of a [`Blocking`] command: how it waits.
    pub waits: Option<fn(&mut Args) -> Result<Patience>>,
    /// What a command of the node's lane does in the log; see [`Logged`].
    pub logged: Option<fn(&mut Args, &mut Txn) -> Result<Reply>>,
    /// The place in [`all`]; a stable index for per-command figures.
    pub index: usize,
    arity: i32,
    has_subcommands: bool,
}

/// How a client waits for a command that found nothing.
pub struct Patience {
    /// At most; `None`: without end.
    pub timeout: Option<Duration>,
    /// What an attempt replies that found nothing.
    pub empty: Reply,
}

/// Where a command runs, and the function to call there.
#[derive(Clone, Copy)]
pub enum Lane {
    Write(fn(&mut Args, &mut Txn) -> Result<Reply>),
    Read(fn(&mut Args, &View) -> Result<Reply>),
    Session(fn(&mut Args, &mut Connection) -> Result<Reply>),
    Node(fn(&mut Args, &mut Connection, &dyn Host) -> Result<Answer>),
}

impl Command {
    /// A row for a [`Write`] command.
    #[must_use]
    pub const fn write<C: Write>() -> Self {
        Self {
            spec: &C::SPEC,
            lane: Lane::Write(|args, tx| C::parse(args)?.execute(tx)),
            check: |args| C::parse(args).map(drop),
            waits: None,
            logged: None,
            index: 0,
            arity: 0,
            has_subcommands: false,
        }
    }

    /// A row for a [`Blocking`] command.
    #[must_use]
    pub const fn blocking<C: Blocking>() -> Self {
        Self {
            waits: Some(|args| Ok(Patience { timeout: C::parse(args)?.timeout(), empty: C::EMPTY })),
            ..Self::write::<C>()
        }
    }

    /// A row for a [`Read`] command.
    #[must_use]
    pub const fn read<C: Read>() -> Self {
        Self {
            spec: &C::SPEC,
            lane: Lane::Read(|args, view| C::parse(args)?.execute(view)),
            check: |args| C::parse(args).map(drop),
            waits: None,
            logged: None,
            index: 0,
            arity: 0,
            has_subcommands: false,
        }
    }

    /// A row for a [`Session`] command.
    #[must_use]
    pub const fn session<C: Session>() -> Self {
        Self {
            spec: &C::SPEC,
            lane: Lane::Session(|args, connection| C::parse(args)?.execute(connection)),
            check: |args| C::parse(args).map(drop),
            waits: None,
            logged: None,
            index: 0,
            arity: 0,
            has_subcommands: false,
        }
    }

    /// A row for a [`Node`] command.
    #[must_use]
    pub const fn node<C: Node>() -> Self {
        Self {
            spec: &C::SPEC,
            lane: Lane::Node(|args, connection, host| C::parse(args)?.execute(connection, host)),
            check: |args| C::parse(args).map(drop),
            waits: None,
            logged: None,
            index: 0,
            arity: 0,
            has_subcommands: false,
        }
    }

    /// A row for a [`Logged`] command.
    #[must_use]
    pub const fn logged<C: Logged>() -> Self {
        Self { logged: Some(|args, tx| C::parse(args)?.apply(tx)), ..Self::node::<C>() }
    }

    /// How many words it takes: see [`Spec::arity`].
    #[must_use]
    pub const fn arity(&self) -> i32 {
        self.arity
    }

    /// Whether it may be called with this many words, its name included.
    #[must_use]
    pub fn takes(&self, words: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= wanted } else { words == wanted }
    }

    /// The flags it declares, and those that follow from its lane. A replicated command that changes no
    /// key (PUBLISH) is no write command.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let declared = self.spec.flags;
        match self.lane {
            Lane::Write(_) if !declared.has(Flags::MAY_REPLICATE) => declared.and(Flags::WRITE),
            Lane::Read(_) if !declared.has(Flags::READS_NO_KEY) => declared.and(Flags::READONLY),
            _ => declared,
        }
    }

    /// Its flags' names, in the order of COMMAND INFO.
    #[must_use]
    pub fn flag_names(&self) -> Vec<&'static str> {
        self.flags().names().collect()
    }

    /// The ACL categories it belongs to, with their `@`, in the order of COMMAND INFO.
    #[must_use]
    pub fn acl_categories(&self) -> Vec<&'static str> {
        let flags = self.flags();
        let group = self.spec.group;
        let on_state = matches!(self.lane, Lane::Write(_) | Lane::Read(_));
        let admin = flags.has(Flags::ADMIN) || flags.has(Flags::ADMIN_CATEGORY);
        let keyspace = group == Group::Generic || (group == Group::Server && on_state);
        let connection = group == Group::Connection || flags.has(Flags::CONNECTION_CATEGORY);
        [
            ("@keyspace", keyspace && !connection && !flags.has(Flags::NO_KEYSPACE_CATEGORY)),
            ("@read", flags.has(Flags::READONLY) && group != Group::Scripting),
            ("@write", flags.has(Flags::WRITE)),
            ("@list", group == Group::List),
            ("@hash", group == Group::Hash),
            ("@string", group == Group::String),
            ("@pubsub", flags.has(Flags::PUBSUB)),
            ("@admin", admin),
            ("@fast", flags.has(Flags::FAST)),
            ("@slow", !flags.has(Flags::FAST)),
            ("@blocking", flags.has(Flags::BLOCKING)),
            ("@dangerous", admin || flags.has(Flags::DANGEROUS)),
            ("@connection", connection),
            ("@transaction", group == Group::Transactions),
            ("@scripting", group == Group::Scripting),
        ]
        .into_iter()
        .filter_map(|(category, belongs)| belongs.then_some(category))
        .collect()
    }
}

/// Finds a name that comes in parts, in any case.
fn find_spelled(parts: &[&[u8]]) -> Option<&'static Command> {
    static PLACES: OnceLock<HashMap<&'static [u8], &'static Command>> = OnceLock::new();
    let places = PLACES.get_or_init(|| {
        let named = |command: &'static Command| (command.spec.name.as_bytes(), command);
        all().iter().map(named).collect()
    });
    let mut name = [0; NAME_BYTES_MAX];
    let mut length = 0;
    for part in parts {
        let place = name.get_mut(length..length + part.len())?;
        place.copy_from_slice(part);
        place.make_ascii_uppercase();
        length += part.len();
    }
    places.get(&name[..length]).copied()
}

/// Whether this is what the names of subcommands begin with.
fn is_container(name: &[u8]) -> bool {
    let mut parents = all().iter().filter_map(|command| command.spec.parent());
    parents.any(|parent| name.eq_ignore_ascii_case(parent.as_bytes()))
}

fn unknown_command(name: &[u8], arguments: &[impl AsRef<[u8]>]) -> ClientError {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(shown(name, SHOWN_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for argument in arguments {
        let room = SHOWN_BYTES_MAX.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(shown(argument.as_ref(), room));
        text.extend_from_slice(b"' ");
    }
    ClientError::new(String::from_utf8_lossy(&text))
}

/// No command has a longer name.
const NAME_BYTES_MAX: usize = 48;

/// How much of what a client sent an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

/// As much of it as C's `%.*s` prints: up to a zero byte.
fn shown(text: &[u8], bytes_max: usize) -> &[u8] {
    let text = &text[..text.len().min(bytes_max)];
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}
