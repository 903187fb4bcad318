//! One Lua state and what is in it.

use mlua::{FromLuaMulti, Lua, LuaOptions, Result, StdLib};

use super::budget::{self, Abort, Budget, Limits};
use super::lib;

/// A Lua state that scripts run in.
pub struct Interpreter {
    lua: Lua,
}

impl Interpreter {
    /// A new one.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.set_app_data(Budget::new());
        lua.gc_stop();
        lib::open(&lua, &lua.globals())?;
        Ok(Self { lua })
    }

    /// Runs a chunk within `limits`, and says whether it was aborted.
    pub fn evaluate<R: FromLuaMulti>(&self, source: &str, limits: Limits) -> (Result<R>, Option<Abort>) {
        lib::reset(&self.lua);
        let result = budget::open(&self.lua, limits)
            .and_then(|()| self.lua.load(source).set_name("@user_script").eval());
        match budget::close(&self.lua) {
            Ok((aborted, _)) => (result, aborted),
            Err(error) => (Err(error), None),
        }
    }
}
