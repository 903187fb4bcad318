//! Values of Lua and replies: both directions, as Redis' documentation of EVAL has them.
//!
//! What a script sees of a reply depends on `redis.setresp`; so does whether `true` is a boolean or 1.

use std::borrow::Borrow;

use bytes::Bytes;
use mlua::{Lua, Result, Table, Value};

use super::budget::{self, Abort, VALUE_STEPS};
use crate::error::ClientError;
use crate::resp::{Protocol, Reply, number};

/// What a value costs in memory beside its bytes.
const VALUE_BYTES: usize = 64;
/// As in Redis, where it is the depth of Lua's stack.
const TOO_DEEP: ClientError = ClientError::fixed("ERR reached lua stack limit");

/// The words of a command; `None` if one is neither a string nor a number.
pub(super) fn words<V: Borrow<Value>>(
    lua: &Lua,
    values: impl Iterator<Item = Result<V>>,
) -> Result<Option<Vec<Bytes>>> {
    let (mut words, mut bytes) = (Vec::with_capacity(values.size_hint().0), 0);
    for value in values {
        let value = value?;
        let word = match value.borrow() {
            Value::String(text) => Bytes::copy_from_slice(&text.as_bytes()),
            // As C's %.17g has them.
            Value::Integer(number) if number.unsigned_abs() < 100_000_000_000_000_000 => {
                Bytes::from(number.to_string())
            }
            Value::Integer(number) => Bytes::from(number::format_double(*number as f64)),
            Value::Number(number) => Bytes::from(number::format_double(*number)),
            _ => return Ok(None),
        };
        bytes += word.len();
        words.push(word);
    }
    budget::charge(lua, words.len() * VALUE_STEPS)?;
    budget::charge_bytes(lua, bytes)?;
    Ok(Some(words))
}

/// An error as a script gets it from `redis.pcall`.
pub(super) fn error_table(lua: &Lua, error: &ClientError) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", error.as_str())?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// A reply as a script that speaks `protocol` sees it.
pub(super) fn to_lua(lua: &Lua, reply: Reply, protocol: Protocol) -> Result<Value> {
    budget::charge(lua, VALUE_STEPS)?;
    let resp3 = protocol == Protocol::Resp3;
    let string = |bytes: &[u8]| {
        budget::charge_bytes(lua, bytes.len())?;
        lua.create_string(bytes).map(Value::String)
    };
    match reply {
        Reply::Ok => field(lua, "ok", "OK"),
        Reply::Status(text) => field(lua, "ok", text),
        Reply::StatusText(text) => field(lua, "ok", lua.create_string(&text)?),
        Reply::Error(error) => error_table(lua, &error),
        Reply::Int(number) => Ok(Value::Number(number as f64)),
        Reply::Bulk(bytes) => string(&bytes),
        Reply::Nil | Reply::NilArray if resp3 => Ok(Value::Nil),
        Reply::Nil | Reply::NilArray | Reply::Nothing | Reply::Attributes(_) => Ok(Value::Boolean(false)),
        Reply::Double(value) if resp3 => field(lua, "double", value),
        Reply::Double(value) => string(number::format_double(value).as_bytes()),
        Reply::Bool(value) if resp3 => Ok(Value::Boolean(value)),
        Reply::Bool(value) => Ok(Value::Integer(i64::from(value))),
        Reply::BigNumber(digits) if resp3 => field(lua, "big_number", lua.create_string(&digits)?),
        Reply::BigNumber(digits) => string(&digits),
        Reply::Verbatim(text) if resp3 => verbatim(lua, *b"txt", &text),
        Reply::VerbatimAs(format, text) if resp3 => verbatim(lua, format, &text),
        Reply::Verbatim(text) | Reply::VerbatimAs(_, text) => string(&text),
        Reply::Array(replies) | Reply::Push(replies) => array(lua, replies.into_iter(), protocol),
        // What is said about a reply stands before it.
        Reply::Sequence(replies) => {
            to_lua(lua, replies.into_iter().next_back().unwrap_or(Reply::Nothing), protocol)
        }
        Reply::Map(pairs) if resp3 => {
            let map = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                map.raw_set(to_lua(lua, key, protocol)?, to_lua(lua, value, protocol)?)?;
            }
            field(lua, "map", map)
        }
        Reply::Pairs(pairs) if resp3 => {
            let nested = pairs.into_iter().map(|(first, second)| Reply::Array(vec![first, second]));
            array(lua, nested, protocol)
        }
        Reply::Map(pairs) | Reply::Pairs(pairs) => {
            array(lua, pairs.into_iter().flat_map(|(first, second)| [first, second]), protocol)
        }
        Reply::Set(replies) if resp3 => {
            let set = lua.create_table_with_capacity(0, replies.len())?;
            for reply in replies {
                set.raw_set(to_lua(lua, reply, protocol)?, true)?;
            }
            field(lua, "set", set)
        }
        Reply::Set(replies) => array(lua, replies.into_iter(), protocol),
        // How many were reached differs between nodes, and a script must not know what differs.
        Reply::Receivers(_) => Ok(Value::Integer(0)),
    }
}

fn field(lua: &Lua, name: &str, value: impl mlua::IntoLua) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn verbatim(lua: &Lua, format: [u8; 3], text: &[u8]) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("format", lua.create_string(format)?)?;
    table.raw_set("string", lua.create_string(text)?)?;
    field(lua, "verbatim_string", table)
}

fn array(lua: &Lua, replies: impl Iterator<Item = Reply>, protocol: Protocol) -> Result<Value> {
    let table = lua.create_table_with_capacity(replies.size_hint().0, 0)?;
    for (place, reply) in (1_i64..).zip(replies) {
        table.raw_set(place, to_lua(lua, reply, protocol)?)?;
    }
    Ok(Value::Table(table))
}

/// What a script that speaks `protocol` returned, as a reply.
pub(super) fn to_reply(lua: &Lua, value: &Value, protocol: Protocol) -> Result<Reply> {
    let mut reader = Reader { lua, protocol, bytes_left: budget::bytes_max(lua) };
    let reply = reader.read(value, 0)?;
    Ok(reply.unwrap_or(Reply::Error(TOO_DEEP)))
}

struct Reader<'l> {
    lua: &'l Lua,
    protocol: Protocol,
    /// Of the reply; the same string can be in it many times.
    bytes_left: usize,
}

impl Reader<'_> {
    /// The reply; `None` if it is nested too deeply.
    fn read(&mut self, value: &Value, depth: usize) -> Result<Option<Reply>> {
        self.spend(VALUE_BYTES)?;
        budget::charge(self.lua, VALUE_STEPS)?;
        Ok(Some(match value {
            Value::String(text) => Reply::Bulk(self.bytes(text)?),
            Value::Integer(number) => Reply::Int(*number),
            Value::Number(number) => Reply::Int(to_integer(*number)),
            Value::Boolean(value) if self.protocol == Protocol::Resp3 => Reply::Bool(*value),
            Value::Boolean(true) => Reply::Int(1),
            Value::Table(_) if depth == Reply::NESTING_MAX => return Ok(None),
            Value::Table(table) => return self.read_table(table, depth),
            _ => Reply::Nil,
        }))
    }

    fn read_table(&mut self, table: &Table, depth: usize) -> Result<Option<Reply>> {
        if let Value::String(text) = table.raw_get("err")? {
            let text = self.bytes(&text)?;
            return Ok(Some(Reply::Error(ClientError::new(String::from_utf8_lossy(&text)))));
        }
        if let Value::String(text) = table.raw_get("ok")? {
            return Ok(Some(Reply::StatusText(one_line(&self.bytes(&text)?))));
        }
        match table.raw_get("double")? {
            Value::Number(value) => return Ok(Some(Reply::Double(value))),
            Value::Integer(value) => return Ok(Some(Reply::Double(value as f64))),
            _ => {}
        }
        if let Value::Table(map) = table.raw_get("map")? {
            let mut pairs = Vec::new();
            for key in keys(self.lua, &map)?.sequence_values::<Value>() {
                let key = key?;
                let value: Value = map.raw_get(&key)?;
                let (Some(key), Some(value)) = (self.read(&key, depth + 1)?, self.read(&value, depth + 1)?)
                else {
                    return Ok(None);
                };
                pairs.push((key, value));
            }
            return Ok(Some(Reply::Map(pairs)));
        }
        if let Value::Table(set) = table.raw_get("set")? {
            let mut members = Vec::new();
            for key in keys(self.lua, &set)?.sequence_values::<Value>() {
                let Some(member) = self.read(&key?, depth + 1)? else { return Ok(None) };
                members.push(member);
            }
            return Ok(Some(Reply::Set(members)));
        }
        if let Value::String(digits) = table.raw_get("big_number")? {
            return Ok(Some(Reply::BigNumber(one_line(&self.bytes(&digits)?))));
        }
        if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
            && let (Value::String(text), Value::String(format)) =
                (verbatim.raw_get("string")?, verbatim.raw_get("format")?)
        {
            let (text, mut name) = (self.bytes(&text)?, [b' '; 3]);
            for (to, from) in name.iter_mut().zip(format.as_bytes().iter()) {
                *to = *from;
            }
            return Ok(Some(Reply::VerbatimAs(name, text)));
        }
        let mut replies = Vec::new();
        for place in 1_i64.. {
            let value: Value = table.raw_get(place)?;
            if value.is_nil() {
                break;
            }
            let Some(reply) = self.read(&value, depth + 1)? else { return Ok(None) };
            replies.push(reply);
        }
        Ok(Some(Reply::Array(replies)))
    }

    fn bytes(&mut self, text: &mlua::String) -> Result<Bytes> {
        let bytes = text.as_bytes();
        self.spend(bytes.len())?;
        budget::charge_bytes(self.lua, bytes.len())?;
        Ok(Bytes::copy_from_slice(&bytes))
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or_else(|| budget::abort(self.lua, Abort::Memory))?;
        Ok(())
    }
}

/// A number as C converts it to a 64-bit integer on the machines Redis runs on.
fn to_integer(number: f64) -> i64 {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if fits { number as i64 } else { i64::MIN }
}

/// Line ends would break the protocol.
fn one_line(text: &Bytes) -> Bytes {
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
    } else {
        text.clone()
    }
}

/// A list of the keys of a table, in the order of `next`. It is a table itself: Rust can refer to a few thousand values
/// at once, no more.
///
/// # Errors
/// The script has used up what it may.
pub fn keys(lua: &Lua, table: &Table) -> Result<Table> {
    let keys = lua.create_table()?;
    for (place, pair) in (1_i64..).zip(table.pairs::<Value, Value>()) {
        budget::charge(lua, VALUE_STEPS)?;
        keys.raw_set(place, pair?.0)?;
    }
    Ok(keys)
}
