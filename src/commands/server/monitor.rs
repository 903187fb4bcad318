//! MONITOR: every command that this node's clients send, as it is sent.
//!
//! A line is made only while somebody monitors. Who reads too slowly is disconnected, as subscribers are: the
//! lines stand in the same queue, under the same limit. Passwords are left out, and so are commands for
//! administrators, as in Redis.

use std::fmt::Write;

use bytes::Bytes;

use super::READY;
use super::slowlog::shown;
use crate::commands::{Args, Command, Flags, Group, Session, Spec};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::session::Session as Connection;

pub(in crate::commands) const COMMANDS: &[Command] = &[Command::session::<Monitor>()];

/// Shows the connection what the others send.
pub struct Monitor;

impl Session for Monitor {
    const SPEC: Spec = Spec {
        name: "MONITOR",
        summary: "Listen for all requests received by the server in real time",
        flags: READY.and(Flags::ADMIN).and(Flags::NOSCRIPT),
        ..Spec::of(Group::Server)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        const IN_EXEC: ClientError = ClientError::fixed("ERR MONITOR isn't allowed for DENY BLOCKING client");
        if connection.is_executing() {
            return Err(IN_EXEC.into());
        }
        connection.monitor();
        Ok(Reply::Ok)
    }
}

/// Whether those who monitor see a command. The flag `skip_monitor` says that Redis shows a command by itself: before
/// what it calls, and not behind it.
#[must_use]
pub fn shows(command: &Command) -> bool {
    !command.spec.flags.has(Flags::ADMIN)
}

/// What those who monitor are sent of a command: when, in which database, from where, and its words.
#[must_use]
pub fn line(wall_ms: u64, db: u8, source: &str, argv: &[Bytes]) -> Bytes {
    let mut line = format!("+{}.{:06} [{db} {source}]", wall_ms / 1000, wall_ms % 1000 * 1000);
    for place in 0..argv.len() {
        line.push_str(" \"");
        quote(shown(argv, place), &mut line);
        line.push('"');
    }
    line.push_str("\r\n");
    Bytes::from(line)
}

fn quote(word: &[u8], line: &mut String) {
    for &byte in word {
        match byte {
            b'\\' => line.push_str("\\\\"),
            b'"' => line.push_str("\\\""),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(byte)),
            _ => write!(line, "\\x{byte:02x}").expect("writing to a String does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argv: &[&'static [u8]], expect: &str) {
        let argv: Vec<Bytes> = argv.iter().map(|word| Bytes::from_static(word)).collect();
        let line = line(1_700_000_000_012, 2, "127.0.0.1:5", &argv);
        assert_eq!(line, format!("+1700000000.012000 [2 127.0.0.1:5] {expect}\r\n"));
    }

    #[test]
    fn words_are_quoted() {
        check(&[b"PING"], r#""PING""#);
        check(&[b"set", b"", b"a b"], r#""set" "" "a b""#);
        check(&[b"set", b"\\\"\n\r\t\x07\x08\0\xff"], r#""set" "\\\"\n\r\t\a\b\x00\xff""#);
        check(&[b"AUTH", b"secret"], r#""AUTH" "(redacted)""#);
    }
}
