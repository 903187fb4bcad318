//! Lua scripts: an interpreter that gives the same result on every node.

mod arguments;
pub mod budget;
mod interpreter;
mod lib;

#[cfg(test)]
pub(crate) mod tests;

pub use arguments::{Arguments, function, to_integer, type_name};
pub use interpreter::Interpreter;
