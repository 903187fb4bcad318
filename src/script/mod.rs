//! Lua scripts: an interpreter that gives the same result on every node.
//!
//! A script's text is what the log holds, and every node runs it. So everything it can see must be a function of
//! the state, its arguments and the log entry: no clock but the entry's, no chance but the entry's seed, no
//! address of anything, no order that depends on addresses, no limit in wall time, and nothing left behind by
//! the scripts before it. The same goes for how it ends: what it may use up is counted, exactly ([`budget`]).
//!
//! This module knows no command. Commands of the script go to a [`Caller`].
//!
//! Reading order: [`Script`], `interpreter` (how a script runs), `prelude/start.lua` (the library it sees),
//! [`budget`] (limits), `failure` (errors), `convert` (replies), [`lib`](self) (libraries).
//!
//! # The interpreter
//! It is Lua 5.1 with some changes (`lua-src/README.md`): an instruction says how much work it does, no table's layout depends on
//! addresses, `^` is computed here, and what scripts must not have is not even linked.
//!
//! # Why not replicate effects, as Redis does
//! It is one round more: the script would run on the leader, before its entry exists, against a state that other
//! entries still on their way may change. Here every command is in one order with all others, and a node answers
//! its clients from its own state.

mod arguments;
pub mod budget;
mod convert;
mod failure;
mod interpreter;
mod lib;
mod library;
mod program;
mod random;
mod source;

#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;

use crate::error::StoreError;
use crate::resp::Reply;

pub use arguments::{Arguments, function, to_integer, type_name};
pub use convert::keys;
pub use interpreter::{Interpreter, compiles, evaluate};
pub use library::{FUNCTION_NAME_CHARS_MAX, Header, functions};
pub use program::{Code, Program};
pub use source::{Flags, NAME_CHARS, SOURCE_BYTES_MAX, Script, sha1_hex};

/// The version of Redis that scripts are told, and clients too.
pub const REDIS_VERSION: &str = "7.4.0";
/// The same as a number: a byte for each of its parts.
const REDIS_VERSION_NUMBER: i64 = 7 << 16 | 4 << 8;

/// Who runs a script's commands.
pub trait Caller {
    /// Runs a command, and answers what it replied, or why it must not run.
    ///
    /// # Errors
    /// The node's storage failed.
    fn call(&mut self, argv: Vec<Bytes>) -> Result<Reply, StoreError>;

    /// How many bytes the calls so far have looked at or copied.
    fn work(&self) -> u64;

    /// Whether there is such a command, and it takes so many words.
    fn knows(&self, argv: &[Bytes]) -> bool;

    /// Marks the point to which [`Caller::undo`] goes back.
    fn save(&mut self);

    /// Undoes everything since [`Caller::save`].
    fn undo(&mut self);

    /// Forgets the point: everything since stays.
    fn keep(&mut self);
}
