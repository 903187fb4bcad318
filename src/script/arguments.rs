//! Functions that scripts call, written in Rust.
//!
//! They fail as Lua's own do: with a string that begins with the place of the call, and "bad argument #2 to
//! 'rep' (number expected, got nil)" for an argument that does not fit.

use mlua::{Error, Function, IntoLuaMulti, Lua, MultiValue, Result, Table, Value};

use super::budget;

/// What an error costs: the interpreter keeps its text until garbage is collected.
const ERROR_STEPS: usize = 1000;

/// The arguments of a call.
pub struct Arguments<'a> {
    lua: &'a Lua,
    name: &'static str,
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
    lua.create_function(move |lua, values: MultiValue| {
        body(lua, &Arguments { lua, name, values }).map_err(|error| located(lua, error))
    })
}

/// `error` with the place in front at which the script called the running function.
fn located(lua: &Lua, error: Error) -> Error {
    let Error::RuntimeError(text) = error else { return error };
    if let Err(aborted) = budget::charge(lua, ERROR_STEPS) {
        return aborted;
    }
    Error::RuntimeError(format!("{}{text}", place(lua, 1)))
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

    /// The number at `index` as an integer, cut towards zero; what does not fit becomes the nearest that does.
    ///
    /// # Errors
    /// As [`Arguments::number`].
    pub fn integer(&self, index: usize) -> Result<i64> {
        Ok(self.number(index)? as i64)
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

    /// "bad argument", because of `why`.
    #[must_use]
    pub fn bad(&self, index: usize, why: &str) -> Error {
        Error::runtime(format!("bad argument #{} to '{}' ({why})", index + 1, self.name))
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
