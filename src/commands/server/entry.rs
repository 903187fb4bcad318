//! A command as COMMAND INFO and COMMAND DOCS describe it.
//!
//! Computed from the declarations. A container (CLIENT, CONFIG, ...) has none of its own: it is what the
//! names of its subcommands begin with. Redis keeps more about its commands than we declare (notes,
//! histories, tips to proxies); those are left out.

use crate::commands::syntax::{self, Argument, Shape};
use crate::commands::{Access, Command, Keys, all, find};
use crate::resp::Reply;

/// A command, a subcommand, or a container of subcommands.
#[derive(Clone, Copy)]
pub enum Entry {
    Command(&'static Command),
    /// The name, upper case, and a subcommand.
    Container(&'static str, &'static Command),
}

impl Entry {
    /// All but the subcommands, which are within.
    pub fn all() -> Vec<Self> {
        let mut entries: Vec<Self> = Vec::new();
        for command in all() {
            let Some(parent) = command.spec.parent() else {
                entries.push(Self::Command(command));
                continue;
            };
            if !entries.iter().any(|entry| entry.upper_name() == parent) {
                entries.push(Self::Container(parent, command));
            }
        }
        entries
    }

    /// The command, container, or `container|subcommand` of this name, in any case.
    pub fn find(name: &[u8]) -> Option<Self> {
        if let Some(command) = find(name) {
            return Some(Self::Command(command));
        }
        Self::all().into_iter().find(|entry| name.eq_ignore_ascii_case(entry.upper_name().as_bytes()))
    }

    /// The name, lower case.
    pub fn name(&self) -> String {
        self.upper_name().to_ascii_lowercase()
    }

    const fn upper_name(&self) -> &'static str {
        match self {
            Self::Command(command) => command.spec.name,
            Self::Container(name, _) => name,
        }
    }

    /// What is within it, in the table's order.
    pub fn subcommands(&self) -> Vec<Self> {
        let within = |command: &&Command| command.spec.parent() == Some(self.upper_name());
        all().iter().filter(within).map(Self::Command).collect()
    }

    /// The ACL categories, with their `@`.
    pub fn categories(&self) -> Vec<&'static str> {
        match self {
            Self::Command(command) => command.acl_categories(),
            Self::Container(..) => vec!["@slow"],
        }
    }

    /// Its entry in COMMAND INFO.
    pub fn info(&self) -> Reply {
        let (arity, flags, keys) = match self {
            Self::Command(command) => (command.arity(), command.flag_names(), command.spec.keys),
            Self::Container(..) => (-2, Vec::new(), Keys::NONE),
        };
        let (first, last, step) = keys.first_last_step();
        let statuses = |words: Vec<&'static str>| Reply::Set(words.into_iter().map(Reply::Status).collect());
        Reply::Array(vec![
            Reply::bulk(self.name()),
            Reply::Int(arity.into()),
            statuses(flags),
            Reply::Int(first),
            Reply::Int(last),
            Reply::Int(step),
            statuses(self.categories()),
            Reply::Set(Vec::new()),
            Reply::Set(key_specifications(keys)),
            Reply::Array(self.subcommands().iter().map(Self::info).collect()),
        ])
    }

    /// Its entry in COMMAND DOCS, without the name.
    pub fn docs(&self) -> Reply {
        let subcommands = self.subcommands();
        let mut docs = match self {
            Self::Command(command) => vec![
                (Reply::text("summary"), Reply::text(command.spec.summary)),
                (Reply::text("since"), Reply::text(command.spec.since)),
                (Reply::text("group"), Reply::text(command.spec.group.name())),
                (Reply::text("complexity"), Reply::text(command.spec.complexity)),
            ],
            Self::Container(name, first) => vec![
                (Reply::text("summary"), Reply::bulk(format!("A container for {name} commands"))),
                (Reply::text("since"), Reply::text(first.spec.since)),
                (Reply::text("group"), Reply::text(first.spec.group.name())),
                (Reply::text("complexity"), Reply::text("Depends on subcommand.")),
            ],
        };
        if let Self::Command(command) = self {
            let arguments = syntax::parse(command.spec.syntax);
            if !arguments.is_empty() {
                let has_keys = !command.spec.keys.is_none();
                let arguments = arguments.iter().map(|argument| describe(argument, has_keys)).collect();
                docs.push((Reply::text("arguments"), Reply::Array(arguments)));
            }
        }
        if !subcommands.is_empty() {
            let subcommands = subcommands.iter().map(|entry| (Reply::bulk(entry.name()), entry.docs()));
            docs.push((Reply::text("subcommands"), Reply::Map(subcommands.collect())));
        }
        Reply::Map(docs)
    }
}

/// What a command does with a key, in Redis' words.
pub fn access_flags(access: Access) -> Reply {
    Reply::Set(access.words().iter().map(|word| Reply::Status(word)).collect())
}

/// Where the keys are, in the form that Redis 7 has for it: one specification for all with which the command does
/// the same.
fn key_specifications(keys: Keys) -> Vec<Reply> {
    match keys.access_of_second {
        _ if keys.is_none() => Vec::new(),
        None => vec![key_specification(keys)],
        Some(of_second) => {
            let second = Keys::at(keys.first + keys.step, of_second);
            vec![key_specification(Keys::at(keys.first, keys.access)), key_specification(second)]
        }
    }
}

fn key_specification(keys: Keys) -> Reply {
    let (first, last, step) = keys.first_last_step();
    // Here the last key is told from the first one on, unless from the end.
    let last = if last < 0 { last } else { last - first };
    let typed = |kind, specification| {
        Reply::Map(vec![
            (Reply::text("type"), Reply::text(kind)),
            (Reply::text("spec"), Reply::Map(specification)),
        ])
    };
    let number = |name, value| (Reply::text(name), Reply::Int(value));
    let (index, find) = match keys.counted_at {
        0 => (
            first,
            typed("range", vec![number("lastkey", last), number("keystep", step), number("limit", 0)]),
        ),
        place => {
            let counted = vec![number("keynumidx", 0), number("firstkey", 1), number("keystep", 1)];
            (place as i64, typed("keynum", counted))
        }
    };
    let begin = typed("index", vec![number("index", index)]);
    Reply::Map(vec![
        (Reply::text("flags"), access_flags(keys.access)),
        (Reply::text("begin_search"), begin),
        (Reply::text("find_keys"), find),
    ])
}

/// An argument's entry in COMMAND DOCS.
fn describe(argument: &Argument, has_keys: bool) -> Reply {
    let kind = match &argument.shape {
        Shape::Value => value_type(&argument.name, has_keys),
        Shape::Token => "pure-token",
        Shape::OneOf(_) => "oneof",
        Shape::Block(_) => "block",
    };
    let mut entry = vec![
        (Reply::text("name"), Reply::bulk(argument.name.clone())),
        (Reply::text("type"), Reply::text(kind)),
    ];
    if kind == "key" {
        entry.push((Reply::text("key_spec_index"), Reply::Int(0)));
    }
    if let Some(token) = argument.token {
        entry.push((Reply::text("token"), Reply::text(token)));
    }
    let flags = [(argument.optional, "optional"), (argument.multiple, "multiple")];
    if argument.optional || argument.multiple {
        let flags = flags.into_iter().filter_map(|(set, flag)| set.then_some(Reply::Status(flag)));
        entry.push((Reply::text("flags"), Reply::Set(flags.collect())));
    }
    if let Shape::OneOf(parts) | Shape::Block(parts) = &argument.shape {
        let parts = parts.iter().map(|part| describe(part, has_keys)).collect();
        entry.push((Reply::text("arguments"), Reply::Array(parts)));
    }
    Reply::Map(entry)
}

/// The type of a value of this name: Redis' documentation uses one name for one thing.
fn value_type(name: &str, has_keys: bool) -> &'static str {
    match name {
        "key" | "newkey" | "source" | "destination" if has_keys => "key",
        "pattern" => "pattern",
        "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
        "seconds" | "milliseconds" | "index" | "increment" | "decrement" | "count" | "start" | "end"
        | "offset" | "cursor" | "numreplicas" | "timeout" | "protover" | "client-id" | "destination-db" => {
            "integer"
        }
        _ => "string",
    }
}
