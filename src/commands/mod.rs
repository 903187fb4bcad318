//! The commands: each declared once, in its family's file, and nowhere else.
//!
//! A declaration is a struct (the parsed arguments) and one of the lane traits. The lane is a type, so
//! the compiler says what a command may touch:
//!
//! | lane | runs | may touch |
//! | --- | --- | --- |
//! | [`Write`] | on every node, when its log entry is applied | the state, through a [`Txn`] |
//! | [`Read`] | on the client's node, behind a read barrier | the state, through a [`View`] |
//! | [`Session`] | on the client's node, at once | this connection |
//! | [`Node`] | on the client's node, at once | this node, through a [`Host`] |
//!
//! Arity, flags, ACL categories, COMMAND, COMMAND DOCS, COMMAND GETKEYS, "wrong number of arguments",
//! metric labels and the README's table are all computed from the [`Spec`].

mod args;
mod spec;
pub mod syntax;
mod table;

pub mod gate;
pub mod host;

mod client;
mod connection;
mod cursor;
mod deadline;
mod function;
mod hash;
mod help;
mod keys;
mod list;
mod pause;
mod pubsub;
mod script;
pub mod server;
mod shard;
mod string;
mod tracking;
mod transaction;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use host::Host;
pub use spec::{Access, Flags, Group, Keys, Spec};
pub use table::{Command, Lane, Patience, Resolved, Resolver, all, find, resolve};

use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::{Txn, View};

/// Whether a command calls a script or function that has said that it will not write.
#[must_use]
pub fn only_reads(command: &Command, argv: &[Bytes], view: &View) -> bool {
    let Some(name) = argv.get(1) else { return false };
    let only_reads = match command.spec.name {
        "EVAL" | "EVALSHA" => script::only_reads(command.spec.name == "EVAL", name, view),
        "FCALL" => function::only_reads(name, view),
        _ => Ok(false),
    };
    // One that fails to be found writes nothing, but is for the command itself to refuse.
    only_reads.unwrap_or(false)
}

/// A command that may change the state. It is proposed, and runs on every node when applied.
///
/// `execute` must be deterministic: the same state, arguments, `tx.now()` and `tx.rng()` give the same
/// reply and the same writes. An error reply leaves the state untouched: check first, then write.
pub trait Write: Sized {
    const SPEC: Spec;
    /// Reads the arguments.
    fn parse(args: &mut Args) -> Result<Self>;
    /// Runs the command.
    fn execute(self, tx: &mut Txn) -> Result<Reply>;
}

/// A write that waits, if it must, until it finds something. Each attempt is a write of its own; when it finds
/// nothing it replies [`Blocking::EMPTY`], which no attempt that found something does. In a transaction or a script
/// that is the answer; else the client's node waits until a key of the command holds something, and attempts again.
/// A client that waited in vain is told [`Reply::NilArray`], whatever the command.
pub trait Blocking: Write {
    /// The reply to an attempt that found nothing.
    const EMPTY: Reply;
    /// How long the client waits at most; `None`: without end.
    fn timeout(&self) -> Option<Duration>;
}

/// A command that only looks at the state.
pub trait Read: Sized {
    const SPEC: Spec;
    /// Reads the arguments.
    fn parse(args: &mut Args) -> Result<Self>;
    /// Runs the command.
    fn execute(self, view: &View) -> Result<Reply>;
}

/// A command about this connection only.
pub trait Session: Sized {
    const SPEC: Spec;
    /// Reads the arguments.
    fn parse(args: &mut Args) -> Result<Self>;
    /// Runs the command.
    fn execute(self, connection: &mut Connection) -> Result<Reply>;
}

/// A command that asks this node about itself.
pub trait Node: Sized {
    const SPEC: Spec;
    /// Reads the arguments.
    fn parse(args: &mut Args) -> Result<Self>;
    /// Runs the command.
    fn execute(self, connection: &mut Connection, host: &dyn Host) -> Result<Answer>;
}

/// The part of a [`Node`] command that concerns the whole cluster: it ends with [`Answer::Logged`], and this is
/// what the entry then does, on every node.
pub trait Logged: Node {
    /// Does the cluster's part. As deterministic as [`Write::execute`].
    fn apply(self, tx: &mut Txn) -> Result<Reply>;
}

/// A question about the state.
pub type Look = Box<dyn Fn(&View) -> Result<Reply> + Send + Sync>;

/// What a [`Node`] command answers with.
pub enum Answer {
    /// The reply.
    Now(Reply),
    /// The reply, after a pause (DEBUG SLEEP).
    After(Duration, Reply),
    /// What this says of the state, behind a barrier. It may be asked again.
    Look(Look),
    /// The reply, once everything applied so far is in a checkpoint.
    Checkpoint(Reply),
    /// A hash of the state behind everything that was acknowledged so far, as 40 hexadecimal digits.
    Digest(Hashed),
    /// The number of nodes that have this connection's last write (WAIT); it is at least a quorum, and
    /// is waited for up to the timeout (zero: without end).
    Replicas { wanted: i64, timeout: Duration },
    /// Success, once the cluster has taken this member out (CLUSTER FORGET).
    Forget(u64),
    /// What [`Logged::apply`] says of `argv`, once it is applied. If that is no error, the node's own options
    /// in `then` are set, too.
    Logged { argv: Vec<Bytes>, then: Vec<(Bytes, Bytes)> },
    /// `OK`, once all keys of this are there (DEBUG POPULATE).
    Populate(server::Population),
}

/// What DEBUG DIGEST makes a hash of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Keys, values and deadlines.
    Data,
    /// The whole state.
    Everything,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Now(reply)
    }
}
