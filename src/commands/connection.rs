//! Greeting, login, and what a connection says to itself. CLIENT is in `client`.

use bytes::Bytes;

use super::host::REDIS_VERSION;
use super::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::{Protocol, Reply, number};
use crate::session::{self, Session as Connection};

pub(super) const COMMANDS: &[Command] = &[
    Command::node::<Hello>(),
    Command::node::<Auth>(),
    Command::session::<Ping>(),
    Command::session::<Echo>(),
    Command::session::<Select>(),
    Command::session::<Quit>(),
    Command::node::<Reset>(),
    Command::session::<ReadOnly>(),
    Command::session::<ReadWrite>(),
];

/// Allowed at any time, before login too.
const GREETING: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY);
const FAST: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

/// The only user there is.
const DEFAULT_USER: &[u8] = b"default";

/// Switches the protocol, logs in and names the connection, all or nothing.
pub struct Hello {
    protocol: Option<Protocol>,
    login: Option<(Bytes, Bytes)>,
    name: Option<Bytes>,
}

impl Node for Hello {
    const SPEC: Spec = Spec {
        name: "HELLO",
        syntax: "[protover [AUTH username password] [SETNAME clientname]]",
        summary: "Handshake with Redis",
        since: "6.0.0",
        flags: GREETING,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let mut hello = Self { protocol: None, login: None, name: None };
        if !args.is_empty() {
            const NOT_A_VERSION: ClientError =
                ClientError::fixed("ERR Protocol version is not an integer or out of range");
            hello.protocol = match number::parse_int(&args.bytes()?).ok_or(NOT_A_VERSION)? {
                2 => Some(Protocol::Resp2),
                3 => Some(Protocol::Resp3),
                _ => return Err(text::NO_PROTO.into()),
            };
        }
        while !args.is_empty() {
            if args.len() > 2 && args.take("AUTH") {
                hello.login = Some((args.bytes()?, args.bytes()?));
            } else if args.len() > 1 && args.take("SETNAME") {
                let name = args.bytes()?;
                session::check_name(&name)?;
                hello.name = Some(name);
            } else {
                let option = args.bytes()?;
                let option = String::from_utf8_lossy(&option);
                return Err(ClientError::new(format!("ERR Syntax error in HELLO option '{option}'")).into());
            }
        }
        Ok(hello)
    }

    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const NOT_LOGGED_IN: ClientError = ClientError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol \
             version at the same time",
        );
        if let Some((user, password)) = &self.login {
            login(connection, host, user, password)?;
        }
        if !connection.is_authenticated() && host.password().is_some() {
            return Err(NOT_LOGGED_IN.into());
        }
        if let Some(name) = self.name {
            connection.set_name(&name)?;
        }
        if let Some(protocol) = self.protocol {
            connection.speak(protocol);
        }
        let protocol = match connection.protocol() {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let role = if host.is_leader() { "master" } else { "replica" };
        Ok(Reply::Map(vec![
            (Reply::text("server"), Reply::text("redis")),
            (Reply::text("version"), Reply::text(REDIS_VERSION)),
            (Reply::text("proto"), Reply::Int(protocol)),
            (Reply::text("id"), Reply::Int(connection.id() as i64)),
            (
                Reply::text("mode"),
                Reply::text(if host.topology().cluster_enabled { "cluster" } else { "standalone" }),
            ),
            (Reply::text("role"), Reply::text(role)),
            (Reply::text("modules"), Reply::Array(Vec::new())),
        ])
        .into())
    }
}

/// Logs in.
pub struct Auth {
    user: Option<Bytes>,
    password: Bytes,
}

impl Node for Auth {
    const SPEC: Spec = Spec {
        name: "AUTH",
        syntax: "[username] password",
        summary: "Authenticate to the server",
        complexity: "O(N) where N is the number of passwords defined for the user",
        flags: GREETING,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let user = if args.len() > 1 { Some(args.bytes()?) } else { None };
        let auth = Self { user, password: args.bytes()? };
        args.end()?;
        Ok(auth)
    }

    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const NO_PASSWORD: ClientError = ClientError::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure \
             your configuration is correct?",
        );
        if self.user.is_none() && host.password().is_none() {
            return Err(NO_PASSWORD.into());
        }
        let user = self.user.as_deref().unwrap_or(DEFAULT_USER);
        login(connection, host, user, &self.password)?;
        Ok(Reply::Ok.into())
    }
}

/// Without a configured password any is right, as Redis' `nopass` has it.
fn login(
    connection: &mut Connection,
    host: &dyn Host,
    user: &[u8],
    password: &[u8],
) -> Result<(), ClientError> {
    let known = user == DEFAULT_USER;
    let right = host.password().is_none_or(|secret| same_secret(&secret, password));
    if !(known && right) {
        return Err(text::WRONG_PASSWORD);
    }
    connection.authenticate();
    Ok(())
}

/// Compares in a time that depends on the guess's length alone, so that nobody can find the secret
/// letter by letter.
fn same_secret(secret: &[u8], guess: &[u8]) -> bool {
    let mut difference = secret.len() ^ guess.len();
    for (place, byte) in guess.iter().enumerate() {
        difference |= usize::from(byte ^ secret.get(place).unwrap_or(&0));
    }
    difference == 0
}

/// Answers.
pub struct Ping {
    message: Option<Bytes>,
}

impl Session for Ping {
    const SPEC: Spec = Spec {
        name: "PING",
        syntax: "[message]",
        summary: "Ping the server",
        flags: Flags::FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() > 1 {
            return Err(args.wrong_number().into());
        }
        Ok(Self { message: args.rest().pop() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        if connection.is_listening() {
            let message = self.message.unwrap_or_default();
            return Ok(Reply::Array(vec![Reply::text("pong"), Reply::Bulk(message)]));
        }
        Ok(self.message.map_or(Reply::Status("PONG"), Reply::Bulk))
    }
}

/// Repeats.
pub struct Echo {
    message: Bytes,
}

impl Session for Echo {
    const SPEC: Spec = Spec {
        name: "ECHO",
        syntax: "message",
        summary: "Echo the given string",
        flags: FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { message: args.bytes()? })
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(Reply::Bulk(self.message))
    }
}

/// Changes the database.
pub struct Select {
    db: u8,
}

impl Session for Select {
    const SPEC: Spec = Spec {
        name: "SELECT",
        syntax: "index",
        summary: "Change the selected database for the current connection",
        flags: FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const NOT_AN_INT: ClientError =
            ClientError::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
        let index = args.bytes()?;
        if let Some(db) = session::database(&index) {
            return Ok(Self { db });
        }
        match number::parse_int(&index).map(i32::try_from) {
            None => Err(text::NOT_AN_INTEGER.into()),
            Some(Err(_)) => Err(NOT_AN_INT.into()),
            Some(Ok(_)) => Err(text::DB_OUT_OF_RANGE.into()),
        }
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.select(self.db);
        Ok(Reply::Ok)
    }
}

/// Says goodbye.
pub struct Quit;

impl Session for Quit {
    const SPEC: Spec = Spec {
        name: "QUIT",
        syntax: "[argument ...]",
        summary: "Close the connection",
        flags: GREETING.and(Flags::NO_MULTI),
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.quit();
        Ok(Reply::Ok)
    }
}

/// Makes the connection as it was when it was new.
pub struct Reset;

impl Node for Reset {
    const SPEC: Spec = Spec {
        name: "RESET",
        summary: "Reset the connection",
        since: "6.2.0",
        flags: GREETING.and(Flags::NO_MULTI),
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer> {
        connection.reset(host.password().is_none());
        Ok(Reply::Status("RESET").into())
    }
}

/// For clients that expect a cluster's replica. Every node here takes every command, so there is
/// nothing to switch but where a client is sent that follows `REDIRECT`; Redis outside its cluster mode answers with an error that such clients give up on.
pub struct ReadOnly;

impl Session for ReadOnly {
    const SPEC: Spec = Spec {
        name: "READONLY",
        summary: "Enables read queries for a connection to a cluster replica node",
        since: "3.0.0",
        flags: FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.set_read_only(true);
        Ok(Reply::Ok)
    }
}

/// See [`ReadOnly`].
pub struct ReadWrite;

impl Session for ReadWrite {
    const SPEC: Spec = Spec {
        name: "READWRITE",
        summary: "Disables read queries for a connection to a cluster replica node",
        since: "3.0.0",
        flags: FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        connection.set_read_only(false);
        Ok(Reply::Ok)
    }
}
