//! What a script fails with, and where.
//!
//! Lua's errors are values: strings mostly, and tables with a field `err` where a command failed. A Rust
//! function's error reaches Lua as a userdata instead, which no script must see: whoever catches an error
//! hands it to [`plain`] first.

use std::borrow::Cow;

use mlua::{Debug as Frame, Error, Lua, Result, Table, Value};

use super::budget::{self, Abort};

/// The name of `prelude.lua` in Lua's books. Its functions are part of the interpreter, not of a script.
pub(super) const PRELUDE: &str = "=prelude";
/// And that of the part of `string` that is in Lua.
pub(super) const PATTERNS: &str = "=string";
const PRELUDE_PLACE: &[u8] = b"prelude:";
/// How many calls are looked at to find the script's.
const FRAMES_MAX: usize = 64;

/// An error as scripts may see it.
///
/// # Errors
/// The script is aborted, or this error is a reason to do so.
pub(super) fn plain(lua: &Lua, error: Value) -> Result<Value> {
    budget::check(lua)?;
    let value = match error {
        Value::Error(error) => match root(*error) {
            Error::MemoryError(_) => return Err(budget::abort(lua, Abort::Memory)),
            Error::RuntimeError(text) => Value::String(lua.create_string(without_traceback(&text))?),
            error => Value::String(lua.create_string(without_traceback(&error.to_string()))?),
        },
        value => value,
    };
    let Value::String(text) = &value else { return Ok(value) };
    let bytes = text.as_bytes();
    if *bytes == *b"not enough memory" {
        return Err(budget::abort(lua, Abort::Memory));
    }
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    if contains(b"stack overflow") || contains(b"error in error handling") {
        budget::overflowed(lua)?;
    }
    match without_prelude(&bytes) {
        Some(text) => {
            let place = script_frame(lua, |frame, line| {
                frame.source().short_src.map(|source| format!("{source}:{line}: "))
            });
            lua.create_string([place.flatten().unwrap_or_default().as_bytes(), text].concat())
                .map(Value::String)
        }
        None => Ok(value.clone()),
    }
}

/// The innermost error.
pub(super) fn root(mut error: Error) -> Error {
    while let Error::CallbackError { cause, .. } = error {
        error = Error::clone(&cause);
    }
    error
}

/// The text of an innermost error, without places and calls.
pub(super) fn text(error: &Error) -> String {
    let text = match error {
        Error::RuntimeError(text) => text.clone(),
        error => error.to_string(),
    };
    let text = without_traceback(&text);
    let shown = without_prelude(text.as_bytes()).unwrap_or(text.as_bytes());
    String::from_utf8_lossy(shown).into_owned()
}

fn without_traceback(text: &str) -> &str {
    text.split("\nstack traceback:\n").next().unwrap_or(text)
}

/// What follows a place in the prelude; `None` if the text does not begin with one.
fn without_prelude(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(PRELUDE_PLACE)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b": ")
}

/// What an uncaught error becomes: a table of `err`, its text as a client sees it, and the `source` and
/// `line` of the script's call that failed.
pub(super) fn describe(lua: &Lua, error: Value) -> Result<Table> {
    let error = plain(lua, error)?;
    let text = match &error {
        Value::Table(table) => match table.raw_get("err")? {
            text @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => text,
            _ => Value::String(lua.create_string("ERR unknown error")?),
        },
        Value::String(text) => Value::String(lua.create_string([b"ERR ", &*text.as_bytes()].concat())?),
        Value::Nil => Value::String(lua.create_string("ERR nil")?),
        Value::Boolean(_) | Value::Integer(_) | Value::Number(_) => {
            Value::String(lua.create_string(format!("ERR {}", error.to_string()?))?)
        }
        other => Value::String(lua.create_string(format!("ERR {}", super::type_name(other)))?),
    };
    let described = lua.create_table()?;
    described.raw_set("err", text)?;
    let place = script_frame(lua, |frame, line| (frame.source().source.map(Cow::into_owned), line));
    if let Some((Some(source), line)) = place {
        described.raw_set("source", source)?;
        described.raw_set("line", line)?;
    }
    Ok(described)
}

/// What `read` finds in the innermost call that is the script's own, given the line it is at.
fn script_frame<R>(lua: &Lua, mut read: impl FnMut(&Frame, usize) -> R) -> Option<R> {
    for level in 1..FRAMES_MAX {
        let found = lua.inspect_stack(level, |frame| {
            let line = frame.current_line()?;
            let own = frame.source().source.is_some_and(|source| source != PRELUDE && source != PATTERNS);
            own.then(|| read(frame, line))
        })?;
        if found.is_some() {
            return found;
        }
    }
    None
}
