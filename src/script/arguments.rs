//! Functions that scripts call, written in Rust.
//!
//! They fail as Lua's own do: with a string that begins with the place of the call, and "bad argument #2 to
//! 'rep' (number expected, got nil)" for an argument that does not fit.
//!
//! A value that Rust holds needs one of the 8000 references that an interpreter has, and the program ends when
//! there are no more. So a function of ours is never called with all the arguments that Lua allows, nothing
//! written in Rust calls a script's function while it holds arguments of its own, and what a closure keeps for
//! as long as a script likes is kept by Lua.

use std::ffi::c_int;

use mlua::{Error, Function, IntoLuaMulti, Lua, MultiValue, Result, Table, Value, ffi};

use super::budget;

/// What a call from Lua to Rust and back costs, beside what the function does.
const FUNCTION_STEPS: usize = 50;
/// What an error costs: the interpreter keeps its text until garbage is collected.
const ERROR_STEPS: usize = 1000;

/// How many arguments a function is called with. Lua's own limit, for what `unpack` gives, is 8000.
const ARGUMENTS_MAX: c_int = 7500;

/// How many calls there are from the script to a function of ours: the function, and before it what counts its
/// arguments.
const CALLS: usize = 2;

/// The arguments of a call.
pub struct Arguments<'a> {
    lua: &'a Lua,
    name: &'static str,
    /// How many calls ago the script was left.
    calls: usize,
    values: MultiValue,
}

/// A function that a script calls `name`. An [`Error::RuntimeError`] it fails with is raised with the place
/// of the call in front.
///
/// # Errors
/// Out of memory.
pub fn function<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    body: impl Fn(&Lua, &Arguments) -> Result<R> + 'static,
) -> Result<Function> {
    bounded(lua, inner(lua, name, CALLS, body)?)
}

/// A function for a chunk of ours, which gives it few arguments, and which the script has called `calls` calls
/// ago.
///
/// # Errors
/// Out of memory.
pub(super) fn inner<R: IntoLuaMulti>(
    lua: &Lua,
    name: &'static str,
    calls: usize,
    body: impl Fn(&Lua, &Arguments) -> Result<R> + 'static,
) -> Result<Function> {
    lua.create_function(move |lua, values: MultiValue| {
        budget::charge(lua, FUNCTION_STEPS)?;
        body(lua, &Arguments { lua, name, calls, values }).map_err(|error| located(lua, calls, error))
    })
}

/// A function of C that calls another with its arguments, if they are not too many.
///
/// # Errors
/// Out of memory.
pub(super) fn bounded(lua: &Lua, function: Function) -> Result<Function> {
    through_c::<ARGUMENTS_MAX>(lua, function)
}

/// A function of C that calls another with its arguments, if they are not more than `MAX`.
///
/// # Errors
/// Out of memory.
#[expect(unsafe_code, reason = "only C sees how many arguments there are before they are all referred to")]
pub(super) fn through_c<const MAX: c_int>(lua: &Lua, function: Function) -> Result<Function> {
    unsafe extern "C-unwind" fn call<const MAX: c_int>(state: *mut ffi::lua_State) -> c_int {
        unsafe {
            let count = ffi::lua_gettop(state);
            if count > MAX {
                return ffi::luaL_error(state, c"too many arguments".as_ptr());
            }
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
            ffi::lua_insert(state, 1);
            ffi::lua_call(state, count, ffi::LUA_MULTRET);
            ffi::lua_gettop(state)
        }
    }
    // SAFETY: the closure takes the one value on the stack, and leaves one.
    unsafe { lua.exec_raw(function, |state| ffi::lua_pushcclosure(state, call::<MAX>, 1)) }
}

/// `error` with the place in front at which the script called the running function.
fn located(lua: &Lua, calls: usize, error: Error) -> Error {
    let Error::RuntimeError(text) = error else { return error };
    if let Err(aborted) = budget::charge(lua, ERROR_STEPS) {
        return aborted;
    }
    Error::RuntimeError(format!("{}{text}", place(lua, calls)))
}

/// `user_script:1: `, for the function `level` calls above the running one; nothing for one that is not
/// Lua.
pub(super) fn place(lua: &Lua, level: usize) -> String {
    let place = lua.inspect_stack(level, |frame| {
        let line = frame.current_line()?;
        Some(format!("{}:{line}: ", frame.source().short_src?))
    });
    place.flatten().unwrap_or_default()
}

impl<'a> Arguments<'a> {
    /// The interpreter they are in.
    #[must_use]
    pub const fn lua(&self) -> &'a Lua {
        self.lua
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The argument at `index`, counted from 0; `None` if there are not so many.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.values.get(index)
    }

    /// Whether the argument at `index` is missing or nil.
    #[must_use]
    pub fn is_none_or_nil(&self, index: usize) -> bool {
        matches!(self.get(index), None | Some(Value::Nil))
    }

    /// The argument at `index`, whatever it is.
    ///
    /// # Errors
    /// There is none.
    pub fn any(&self, index: usize) -> Result<&Value> {
        self.get(index).ok_or_else(|| self.bad(index, "value expected"))
    }

    /// The string at `index`; a number is one, too.
    ///
    /// # Errors
    /// It is something else.
    pub fn string(&self, index: usize) -> Result<mlua::String> {
        let string = match self.get(index) {
            Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => {
                self.lua.coerce_string(value.clone())?
            }
            _ => None,
        };
        string.ok_or_else(|| self.wrong_type(index, "string"))
    }

    /// The number at `index`; a string that reads as one is one, too.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, index: usize) -> Result<f64> {
        let number = match self.get(index) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Integer(number)) => Some(*number as f64),
            Some(value @ Value::String(text)) => {
                budget::charge_bytes(self.lua, text.as_bytes().len())?;
                self.lua.coerce_number(value.clone())?
            }
            _ => None,
        };
        number.ok_or_else(|| self.wrong_type(index, "number"))
    }

    /// The number at `index` as an integer, see [`to_integer`].
    ///
    /// # Errors
    /// As [`Arguments::number`].
    pub fn integer(&self, index: usize) -> Result<i64> {
        self.number(index).map(to_integer)
    }

    /// [`Arguments::integer`], or `default` if the argument is missing or nil.
    ///
    /// # Errors
    /// As [`Arguments::number`].
    pub fn integer_or(&self, index: usize, default: i64) -> Result<i64> {
        if self.is_none_or_nil(index) { Ok(default) } else { self.integer(index) }
    }

    /// The table at `index`.
    ///
    /// # Errors
    /// It is something else.
    pub fn table(&self, index: usize) -> Result<&Table> {
        match self.get(index) {
            Some(Value::Table(table)) => Ok(table),
            _ => Err(self.wrong_type(index, "table")),
        }
    }

    /// The function at `index`.
    ///
    /// # Errors
    /// It is something else.
    pub fn function(&self, index: usize) -> Result<&Function> {
        match self.get(index) {
            Some(Value::Function(function)) => Ok(function),
            _ => Err(self.wrong_type(index, "function")),
        }
    }

    /// "bad argument", because of `why`, by the name that the script has for the function.
    #[must_use]
    pub fn bad(&self, index: usize, why: &str) -> Error {
        self.bad_place(index as i64 + 1, why)
    }

    /// "bad argument #0", because of `why` all of them are.
    #[must_use]
    pub fn bad_call(&self, why: &str) -> Error {
        self.bad_place(0, why)
    }

    fn bad_place(&self, place: i64, why: &str) -> Error {
        let called = self.lua.inspect_stack(self.calls - 1, |called| {
            let names = called.names();
            (names.name.map(|name| name.into_owned()), names.name_what == Some("method"))
        });
        let (name, is_method) = called.unwrap_or_default();
        let name = name.as_deref().unwrap_or(self.name);
        Error::runtime(match place - i64::from(is_method) {
            0 if is_method => format!("calling '{name}' on bad self ({why})"),
            place => format!("bad argument #{place} to '{name}' ({why})"),
        })
    }

    /// "bad argument", because a value of another type was `expected`.
    #[must_use]
    pub fn wrong_type(&self, index: usize, expected: &str) -> Error {
        let got = self.get(index).map_or("no value", type_name);
        self.bad(index, &format!("{expected} expected, got {got}"))
    }
}

/// What Lua's `type` says of a value.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) => "userdata",
        Value::Error(_) => "string",
        value => value.type_name(),
    }
}

/// A number as an integer, cut towards zero as a cast in C does it on the usual processors: what does not fit
/// becomes the smallest.
#[must_use]
pub fn to_integer(number: f64) -> i64 {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if fits { number as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a chunk gives that can call `count`, which wants a number and answers how many arguments it has.
    #[track_caller]
    fn check(source: &str, expect: &str) {
        let lua = Lua::new_with(mlua::StdLib::NONE, mlua::LuaOptions::default());
        let lua = lua.expect("there is memory");
        lua.set_app_data(budget::Budget::new());
        let limits = budget::Limits { steps: 1 << 40, ..crate::script::tests::LIMITS };
        budget::open(&lua, limits).expect("there is memory");
        let count = function(&lua, "count", |_, args| args.number(0).map(|_| args.len()));
        lua.globals().set("count", count.expect("there is memory")).expect("globals take values");
        let result = lua.load(source).set_name("@user_script").eval::<Value>();
        assert_eq!(crate::script::tests::text(result), expect, "{source}");
    }

    #[test]
    fn errors_say_where_and_by_which_name() {
        check("return count(1, nil, nil)", "3");
        check(
            "local f = count\nreturn f()",
            "user_script:2: bad argument #1 to 'f' (number expected, got no value)",
        );
        check("return count(nil)", "user_script:1: bad argument #1 to 'count' (number expected, got nil)");
        let method = "local t = {count = count} return t:count()";
        check(method, "user_script:1: calling 'count' on bad self (number expected, got table)");
    }

    #[test]
    fn too_many_arguments_are_an_error() {
        let many = "local function call(n, ...)
            if n == 0 then return count(1, ...) end
            return call(n - 1, 'x', ...)
        end
        return call({}, 'y')";
        check(&many.replace("{}", "7498"), "7500");
        check(&many.replace("{}", "7499"), "user_script:2: too many arguments");
        check(&many.replace("{}", "9000"), "user_script:2: too many arguments");
    }
}
