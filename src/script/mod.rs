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
//! # What is not exact
//! What one instruction can cost is bounded by the largest object there may be ([`budget`]), not by what it really does.
//! That bound is for copying and comparing. Reading a number from a string's digits takes some ten times as long;
//! and chains in Lua's hash tables are not seen, so that a script can fill them with strings that were chosen to fall into
//! one place. And `^` is the C library's, to the last digit.
//! A table from which keys that are tables, functions or coroutines were removed grows at a moment that
//! depends on addresses, so a script that ends within some bytes of its limit of memory, and has such tables,
//! may be aborted on one node and not on another.
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
pub use convert::keys_in_order;
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
