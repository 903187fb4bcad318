//! ACL, as far as it can be told of the one user there is: `default`, who may do everything, with the node's
//! password if it asks for one. Users cannot be made.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::READY;
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec, all, help, resolve};
use crate::error::{ClientError, Result, text};
use crate::resp::{Reply, number};
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::session::<WhoAmI>(),
    Command::session::<Users>(),
    Command::node::<List>(),
    Command::node::<GetUser>(),
    Command::session::<Cat>(),
    Command::session::<DryRun>(),
    Command::node::<GenPass>(),
    Command::session::<Log>(),
    Command::session::<Help>(),
];

const OWN: Flags = READY.and(Flags::NOSCRIPT);
const ADMIN: Flags = OWN.and(Flags::ADMIN);

const USER: &str = "default";
const PER_USER: &str = "O(N). Where N is the number of configured users.";

/// Redis' categories, in the order in which it lists them.
const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Tells the connection's user.
pub struct WhoAmI;

impl Session for WhoAmI {
    const SPEC: Spec = Spec {
        name: "ACL|WHOAMI",
        summary: "Return the name of the user associated to the current connection",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::text(USER))
    }
}

/// Lists the users' names.
pub struct Users;

impl Session for Users {
    const SPEC: Spec = Spec {
        name: "ACL|USERS",
        summary: "List the username of all the configured ACL rules",
        complexity: PER_USER,
        since: "6.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Array(vec![Reply::text(USER)]))
    }
}

/// The password's hash in hexadecimal, if there is a password.
fn password_hash(host: &dyn Host) -> Option<String> {
    let digest = Sha256::digest(host.password()?);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Lists the users as they would stand in a configuration file.
pub struct List;

impl Node for List {
    const SPEC: Spec = Spec {
        name: "ACL|LIST",
        summary: "List the current ACL rules in ACL config file format",
        complexity: PER_USER,
        since: "6.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let password = password_hash(host).map_or_else(|| "nopass".to_owned(), |hash| format!("#{hash}"));
        Ok(Reply::Array(vec![Reply::bulk(format!("user {USER} on {password} ~* &* +@all"))]).into())
    }
}

/// Describes a user.
pub struct GetUser {
    name: Bytes,
}

impl Node for GetUser {
    const SPEC: Spec = Spec {
        name: "ACL|GETUSER",
        syntax: "username",
        summary: "Get details about a specific ACL user",
        complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
        since: "6.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { name: args.bytes()? })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        if self.name != USER {
            return Ok(Reply::Nil.into());
        }
        let password = password_hash(host);
        let mut flags = vec![Reply::text("on")];
        flags.extend(password.is_none().then(|| Reply::text("nopass")));
        let passwords = password.into_iter().map(Reply::bulk).collect();
        Ok(Reply::Map(vec![
            (Reply::text("flags"), Reply::Set(flags)),
            (Reply::text("passwords"), Reply::Array(passwords)),
            (Reply::text("commands"), Reply::text("+@all")),
            (Reply::text("keys"), Reply::text("~*")),
            (Reply::text("channels"), Reply::text("&*")),
            (Reply::text("selectors"), Reply::Array(Vec::new())),
        ])
        .into())
    }
}

/// Lists the categories, or what is in one.
pub struct Cat {
    category: Option<Bytes>,
}

impl Session for Cat {
    const SPEC: Spec = Spec {
        name: "ACL|CAT",
        syntax: "[categoryname]",
        summary: "List the ACL categories or the commands inside a category",
        complexity: "O(1) since the categories and commands are a fixed set.",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        Ok(Self { category: args.rest().pop() })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        let Some(category) = self.category else {
            return Ok(Reply::Array(CATEGORIES.iter().map(|name| Reply::text(name)).collect()));
        };
        let known = CATEGORIES.iter().find(|name| category.eq_ignore_ascii_case(name.as_bytes()));
        let Some(known) = known else {
            let category = String::from_utf8_lossy(&category);
            return Err(ClientError::new(format!("ERR Unknown category '{category}'")).into());
        };
        let within =
            all().iter().filter(|command| command.acl_categories().iter().any(|name| name[1..] == **known));
        Ok(Reply::Array(within.map(|command| Reply::bulk(command.spec.lower_name())).collect()))
    }
}

/// Says whether a user may send a command: the one user may send any that is well formed.
pub struct DryRun {
    name: Bytes,
    argv: Vec<Bytes>,
}

impl Session for DryRun {
    const SPEC: Spec = Spec {
        name: "ACL|DRYRUN",
        syntax: "username command [arg [arg ...]]",
        summary: "Returns whether the user can execute the given command without executing the command.",
        since: "7.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { name: args.bytes()?, argv: args.rest() })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        if self.name != USER {
            let name = String::from_utf8_lossy(&self.name);
            return Err(ClientError::new(format!("ERR User '{name}' not found")).into());
        }
        match resolve(&self.argv) {
            Ok(_) => Ok(Reply::Ok),
            Err(error) if error.as_str().starts_with("ERR unknown") => {
                let command = String::from_utf8_lossy(&self.argv[0]);
                Err(ClientError::new(format!("ERR Command '{command}' not found")).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes up a password.
pub struct GenPass {
    bits: usize,
}

impl Node for GenPass {
    const SPEC: Spec = Spec {
        name: "ACL|GENPASS",
        syntax: "[bits]",
        summary: "Generate a pseudorandom secure password to use for ACL users",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const BITS: ClientError = ClientError::fixed(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        );
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        let bits = if args.is_empty() { 256 } else { args.int()? };
        let bits = usize::try_from(bits).ok().filter(|bits| (1..=4096).contains(bits)).ok_or(BITS)?;
        Ok(Self { bits })
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        let digits = self.bits.div_ceil(4);
        let mut bytes = vec![0; digits.div_ceil(2)];
        host.fill_secret(&mut bytes).map_err(|error| ClientError::new(format!("ERR {error}")))?;
        let mut password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        password.truncate(digits);
        Ok(Reply::bulk(password).into())
    }
}

/// Lists what was refused. The one user may do everything, and failed logins are in the log of messages.
pub struct Log {
    reset: bool,
}

impl Session for Log {
    const SPEC: Spec = Spec {
        name: "ACL|LOG",
        syntax: "[count | RESET]",
        summary: "List latest events denied because of ACLs in place",
        complexity: "O(N) with N being the number of entries shown.",
        since: "6.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Server)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        let reset = args.take("RESET");
        if !args.is_empty() {
            number::parse_int(&args.bytes()?).ok_or(text::NOT_AN_INTEGER)?;
        }
        Ok(Self { reset })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(if self.reset { Reply::Ok } else { Reply::Array(Vec::new()) })
    }
}

/// Explains ACL.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "ACL|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "6.0.0",
        flags: READY,
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "ACL",
            &[
                "CAT [<category>]",
                "    List all commands that belong to <category>, or all command categories",
                "    when no category is specified.",
                "DRYRUN <username> <command> [<arg> ...]",
                "    Return whether the user can execute the command.",
                "GENPASS [<bits>]",
                "    Generate a secure password of 256 bits, or as many as asked for.",
                "GETUSER <username>",
                "    Get the user's details.",
                "LIST",
                "    Show users details in config file format.",
                "LOG [<count> | RESET]",
                "    Show the ACL log entries.",
                "USERS",
                "    List all the registered usernames.",
                "WHOAMI",
                "    Return the current connection username.",
            ],
        ))
    }
}
