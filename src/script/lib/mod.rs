//! The libraries that scripts find beside Lua's own.
//!
//! Each has `open`, which answers the library's table, and charges ([`super::budget`]) for whatever takes
//! longer the longer its arguments are.

use mlua::{Lua, Result, Table};

/// Puts the libraries into `globals`.
pub(super) fn open(_lua: &Lua, _globals: &Table) -> Result<()> {
    Ok(())
}
