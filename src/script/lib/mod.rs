//! The libraries that scripts find beside Lua's own: `cjson`, `cmsgpack`, `struct` and `bit`, and the pattern
//! functions of `string` and some of `math` instead of Lua's.
//!
//! They do what the libraries of redis-server do, errors included, but are written here: a script's work has to
//! be counted ([`super::budget`]), also where it is a loop outside of Lua's machine, and nothing may depend on
//! what another script has done before. So what their functions set is forgotten when a script ends
//! ([`reset`]), and Lua's own pattern matching, which a short pattern can keep busy for hours, is not used.
//!
//! None of this recurses as deep as its input does: nesting is kept in vectors.

mod number;
mod output;

mod bit;
mod cjson;
mod cmsgpack;
mod math;
mod pattern;
mod structure;

#[cfg(test)]
mod tests;

use mlua::{Lua, Result, Table};

use output::{Meter, Output};

/// How deep values may nest, in slots of Lua's stack, and how many a function may return. Redis has 8000 of
/// these slots; here each may need a reference as well (see [`super::function`]).
const VALUES_MAX: usize = 7000;

/// Puts the libraries into `globals`.
pub(super) fn open(lua: &Lua, globals: &Table) -> Result<()> {
    globals.raw_set("bit", bit::open(lua)?)?;
    globals.raw_set("cjson", cjson::open(lua)?)?;
    globals.raw_set("cmsgpack", cmsgpack::open(lua)?)?;
    math::open(lua, &globals.raw_get("math")?)?;
    globals.raw_set("struct", structure::open(lua)?)?;
    pattern::open(lua, &globals.raw_get("string")?)
}

/// Forgets what the last script has set: every script finds the libraries as they are on all nodes.
pub(super) fn reset(lua: &Lua) {
    cjson::reset(lua);
}
