//! CLIENT: what connections say about themselves and each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Args, Command, Flags, Group, Session, Spec, help};
use crate::error::{ClientError, Result, text};
use crate::pubsub::Subscriber;
use crate::resp::{Reply, number};
use crate::session::{self, Client, Filter, Kind, Replies, Session as Connection};

pub(super) const COMMANDS: &[Command] = &[
    Command::session::<Id>(),
    Command::session::<Info>(),
    Command::session::<List>(),
    Command::session::<Kill>(),
    Command::session::<GetName>(),
    Command::session::<SetName>(),
    Command::session::<SetInfo>(),
    Command::session::<ReplyMode>(),
    Command::session::<NoEvict>(),
    Command::session::<NoTouch>(),
    Command::session::<Capa>(),
    Command::session::<Help>(),
];

const READY: Flags = Flags::LOADING.and(Flags::STALE);
const OWN: Flags = Flags::NOSCRIPT.and(READY);
const ADMIN: Flags = Flags::ADMIN.and(OWN);

const PER_CLIENT: &str = "O(N) where N is the number of client connections";

/// Tells the connection's number.
pub struct Id;

impl Session for Id {
    const SPEC: Spec = Spec {
        name: "CLIENT|ID",
        summary: "Returns the client ID for the current connection",
        since: "5.0.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(Reply::Int(connection.id() as i64))
    }
}

/// Tells the connection's line of CLIENT LIST.
pub struct Info;

impl Session for Info {
    const SPEC: Spec = Spec {
        name: "CLIENT|INFO",
        summary: "Returns information about the current client connection.",
        since: "6.2.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(lines(std::slice::from_ref(connection.client()), connection))
    }
}

/// Lists connections.
pub struct List {
    filter: Filter,
}

impl Session for List {
    const SPEC: Spec = Spec {
        name: "CLIENT|LIST",
        syntax: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
        summary: "Get the list of client connections",
        complexity: PER_CLIENT,
        since: "2.4.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const INVALID_ID: ClientError = ClientError::fixed("ERR Invalid client ID");
        let mut filter = Filter::default();
        if args.len() == 2 && args.take("TYPE") {
            filter.kind = Some(kind(&args.bytes()?)?);
        } else if args.len() > 1 && args.take("ID") {
            let mut ids = Vec::with_capacity(args.len());
            for id in args.rest() {
                // A number that is nobody's (0, or negative) is just not found.
                ids.extend(u64::try_from(number::parse_int(&id).ok_or(INVALID_ID)?));
            }
            filter.ids = Some(ids);
        }
        args.end()?;
        Ok(Self { filter })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let clients = connection.registry().find(&self.filter);
        Ok(lines(&clients, connection))
    }
}

fn lines(clients: &[Arc<Client>], connection: &Connection) -> Reply {
    let mut lines = String::new();
    for client in clients {
        lines.push_str(&client.line(connection.now()));
        lines.push('\n');
    }
    Reply::Verbatim(Bytes::from(lines))
}

fn kind(word: &[u8]) -> Result<Kind> {
    Ok(match word.to_ascii_lowercase().as_slice() {
        b"normal" => Kind::Normal,
        b"master" => Kind::Master,
        b"replica" | b"slave" => Kind::Replica,
        b"pubsub" => Kind::Pubsub,
        _ => {
            let word = String::from_utf8_lossy(word);
            return Err(ClientError::new(format!("ERR Unknown client type '{word}'")).into());
        }
    })
}

/// Ends connections.
pub enum Kill {
    /// The oldest form: one address, be it one's own.
    Address(Bytes),
    /// All that match, and have been connected for this long if it is said.
    Matching { filter: Filter, min_age: Option<Duration>, skip_me: bool },
}

impl Session for Kill {
    const SPEC: Spec = Spec {
        name: "CLIENT|KILL",
        syntax: "<ip:port | <ID client-id | TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB> | \
                 USER username | ADDR ip:port | LADDR ip:port | SKIPME yes/no | MAXAGE maxage> ...>",
        summary: "Kill the connection of a client",
        complexity: PER_CLIENT,
        since: "2.4.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const NOT_AN_ID: ClientError = ClientError::fixed("ERR client-id should be greater than 0");
        const NOT_A_NUMBER: ClientError = ClientError::fixed("ERR maxage is not an integer or out of range");
        const NOT_AN_AGE: ClientError = ClientError::fixed("ERR maxage should be greater than 0");
        if args.len() == 1 {
            return Ok(Self::Address(args.bytes()?));
        }
        let mut filter = Filter::default();
        let (mut min_age, mut skip_me) = (None, true);
        while !args.is_empty() {
            if args.take("ID") {
                let id = number::parse_int(&args.bytes()?).and_then(|id| u64::try_from(id).ok());
                filter.ids = Some(vec![id.filter(|&id| id > 0).ok_or(NOT_AN_ID)?]);
            } else if args.take("TYPE") {
                filter.kind = Some(kind(&args.bytes()?)?);
            } else if args.take("ADDR") {
                filter.address = Some(args.bytes()?);
            } else if args.take("LADDR") {
                filter.local = Some(args.bytes()?);
            } else if args.take("USER") {
                let user = args.bytes()?;
                if user != "default" {
                    let user = String::from_utf8_lossy(&user);
                    return Err(ClientError::new(format!("ERR No such user '{user}'")).into());
                }
            } else if args.take("SKIPME") {
                skip_me = either(args, "YES", "NO")?;
            } else if args.take("MAXAGE") {
                let seconds = number::parse_int(&args.bytes()?).ok_or(NOT_A_NUMBER)?;
                let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0);
                min_age = Some(Duration::from_secs(seconds.ok_or(NOT_AN_AGE)?));
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(Self::Matching { filter, min_age, skip_me })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        const NO_SUCH_CLIENT: ClientError = ClientError::fixed("ERR No such client");
        match self {
            Self::Address(address) => {
                let filter = Filter { address: Some(address), ..Filter::default() };
                if kill(&filter, connection) == 0 { Err(NO_SUCH_CLIENT.into()) } else { Ok(Reply::Ok) }
            }
            Self::Matching { mut filter, min_age, skip_me } => {
                filter.except = skip_me.then_some(connection.id());
                if let Some(age) = min_age {
                    // A node that is younger than that has no such clients.
                    let Some(latest) = connection.now().checked_sub(age) else { return Ok(Reply::Int(0)) };
                    filter.connected_by = Some(latest);
                }
                Ok(Reply::Int(kill(&filter, connection) as i64))
            }
        }
    }
}

/// Ends all that match and counts them. One's own connection first gets its reply.
fn kill(filter: &Filter, connection: &mut Connection) -> usize {
    let clients = connection.registry().find(filter);
    for client in &clients {
        if client.id() == connection.id() {
            connection.close = true;
        } else {
            client.kill();
        }
    }
    clients.len()
}

/// Takes one of two words; the first is `true`.
fn either(args: &mut Args, yes: &str, no: &str) -> Result<bool> {
    if args.take(yes) {
        Ok(true)
    } else if args.take(no) {
        Ok(false)
    } else {
        Err(text::SYNTAX.into())
    }
}

/// Tells the connection's name.
pub struct GetName;

impl Session for GetName {
    const SPEC: Spec = Spec {
        name: "CLIENT|GETNAME",
        summary: "Get the current connection name",
        since: "2.6.9",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let name = connection.client().face().name;
        Ok(if name.is_empty() { Reply::Nil } else { Reply::Bulk(name) })
    }
}

/// Names the connection.
pub struct SetName {
    name: Bytes,
}

impl Session for SetName {
    const SPEC: Spec = Spec {
        name: "CLIENT|SETNAME",
        syntax: "connection-name",
        summary: "Set the current connection name",
        since: "2.6.9",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let name = args.bytes()?;
        session::check_name(&name)?;
        Ok(Self { name })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.set_name(&self.name)?;
        Ok(Reply::Ok)
    }
}

/// Tells us which library the connection is made with.
pub enum SetInfo {
    Name(Bytes),
    Version(Bytes),
}

impl Session for SetInfo {
    const SPEC: Spec = Spec {
        name: "CLIENT|SETINFO",
        syntax: "<LIB-NAME libname | LIB-VER libver>",
        summary: "Sets information specific to the client or connection.",
        since: "7.2.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let (option, value) = (args.bytes()?, args.bytes()?);
        let attribute = match option.to_ascii_lowercase().as_slice() {
            b"lib-name" => Self::Name as fn(Bytes) -> Self,
            b"lib-ver" => Self::Version,
            _ => {
                let option = String::from_utf8_lossy(&option);
                return Err(ClientError::new(format!("ERR Unrecognized option '{option}'")).into());
            }
        };
        if !session::is_plain(&value) {
            let option = String::from_utf8_lossy(&option);
            let error = format!("ERR {option} cannot contain spaces, newlines or special characters.");
            return Err(ClientError::new(error).into());
        }
        Ok(attribute(value))
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.client().update(|face| match self {
            Self::Name(name) => face.library_name = Bytes::copy_from_slice(&name),
            Self::Version(version) => face.library_version = Bytes::copy_from_slice(&version),
        });
        Ok(Reply::Ok)
    }
}

/// Switches replies off and on.
pub struct ReplyMode {
    replies: Replies,
}

impl Session for ReplyMode {
    const SPEC: Spec = Spec {
        name: "CLIENT|REPLY",
        syntax: "<ON | OFF | SKIP>",
        summary: "Instruct the server whether to reply to commands",
        since: "3.2.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let replies = if args.take("SKIP") {
            Replies::SkipNext
        } else if either(args, "ON", "OFF")? {
            Replies::On
        } else {
            Replies::Off
        };
        Ok(Self { replies })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.set_replies(self.replies);
        Ok(if self.replies == Replies::On { Reply::Ok } else { Reply::Nothing })
    }
}

/// Spares the connection when memory is short. Nobody is evicted here: it is only shown.
pub struct NoEvict {
    on: bool,
}

impl Session for NoEvict {
    const SPEC: Spec = Spec {
        name: "CLIENT|NO-EVICT",
        syntax: "<ON | OFF>",
        summary: "Set client eviction mode for the current connection",
        since: "7.0.0",
        flags: ADMIN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { on: either(args, "ON", "OFF")? })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.client().update(|face| face.no_evict = self.on);
        Ok(Reply::Ok)
    }
}

/// Lets the connection's reads leave no trace. None does here: it is only shown.
pub struct NoTouch {
    on: bool,
}

impl Session for NoTouch {
    const SPEC: Spec = Spec {
        name: "CLIENT|NO-TOUCH",
        syntax: "<ON | OFF>",
        summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
        since: "7.2.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { on: either(args, "ON", "OFF")? })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.set_no_touch(self.on);
        Ok(Reply::Ok)
    }
}

/// Says what the client understands, as in Valkey. Of that we know `redirect`: from then on a node that does not
/// lead sends it to the leader instead of taking its commands.
pub struct Capa {
    redirect: bool,
}

impl Session for Capa {
    const SPEC: Spec = Spec {
        name: "CLIENT|CAPA",
        syntax: "capability [capability ...]",
        summary: "A client claims its capability.",
        since: "8.0.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { redirect: args.rest().iter().any(|word| word.eq_ignore_ascii_case(b"redirect")) })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        if self.redirect {
            connection.follow_redirects();
        }
        Ok(Reply::Ok)
    }
}

/// Explains CLIENT.
pub struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "CLIENT|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: READY,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "CLIENT",
            &[
                "CACHING (YES|NO)",
                "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
                "GETREDIR",
                "    Return the client ID we are redirecting to when tracking is enabled.",
                "GETNAME",
                "    Return the name of the current connection.",
                "ID",
                "    Return the ID of the current connection.",
                "INFO",
                "    Return information about the current client connection.",
                "KILL <ip:port>",
                "    Kill connection made from <ip:port>.",
                "KILL <option> <value> [<option> <value> [...]]",
                "    Kill connections. Options are:",
                "    * ADDR (<ip:port>|<unixsocket>:0)",
                "      Kill connections made from the specified address",
                "    * LADDR (<ip:port>|<unixsocket>:0)",
                "      Kill connections made to specified local address",
                "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
                "      Kill connections by type.",
                "    * USER <username>",
                "      Kill connections authenticated by <username>.",
                "    * SKIPME (YES|NO)",
                "      Skip killing current connection (default: yes).",
                "    * MAXAGE <seconds>",
                "      Kill connections that are at least that old.",
                "LIST [options ...]",
                "    Return information about client connections. Options:",
                "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
                "      Return clients of specified type.",
                "REPLY (ON|OFF|SKIP)",
                "    Control the replies sent to the current connection.",
                "SETINFO <option> <value>",
                "    Set client meta attr. Options are:",
                "    * LIB-NAME: the client lib name.",
                "    * LIB-VER: the client lib version.",
                "SETNAME <name>",
                "    Assign the name <name> to the current connection.",
                "UNBLOCK <clientid> [TIMEOUT|ERROR]",
                "    Unblock the specified blocked client.",
                "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
                "         [OPTIN] [OPTOUT] [NOLOOP]",
                "    Control server assisted client side caching.",
                "TRACKINGINFO",
                "    Report tracking status for the current connection.",
                "NO-EVICT (ON|OFF)",
                "    Protect current client connection from eviction.",
                "NO-TOUCH (ON|OFF)",
                "    Will not touch LRU/LFU stats when this mode is on.",
            ],
        ))
    }
}
