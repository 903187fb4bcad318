//! The texts of the HELP subcommands.

use bytes::Bytes;

use crate::resp::Reply;

/// What `<container> HELP` answers, around the `lines` about its other subcommands.
pub(super) fn reply(container: &str, lines: &[&'static str]) -> Reply {
    let first = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let mut reply = vec![Reply::StatusText(Bytes::from(first))];
    reply.extend(lines.iter().map(|line| Reply::Status(line)));
    reply.push(Reply::Status("HELP"));
    reply.push(Reply::Status("    Prints this help."));
    Reply::Array(reply)
}
