//! `cmsgpack`: MessagePack, as lua-cmsgpack 0.4.0 writes and reads it.

use mlua::{Error, Lua, Result, String, Table, Value, Variadic};

use super::{Meter, Output, VALUES_MAX};
use crate::script::{Arguments, budget, function, keys, to_integer};

/// Tables that nest deeper than this are written as nil.
const NESTING_MAX: usize = 16;
/// `pack` takes no more arguments.
const ARGUMENTS_MAX: usize = 4000;

/// The library's table.
pub fn open(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("pack", function(lua, "pack", pack)?)?;
    let unpack_all = |lua: &Lua, args: &Arguments| unpack(lua, args, Part { limit: 0, offset: 0 });
    library.raw_set("unpack", function(lua, "unpack", unpack_all)?)?;
    let unpack_one = |lua: &Lua, args: &Arguments| {
        let offset = args.integer_or(1, 0)?;
        unpack(lua, args, Part { limit: 1, offset })
    };
    library.raw_set("unpack_one", function(lua, "unpack_one", unpack_one)?)?;
    let unpack_limit = |lua: &Lua, args: &Arguments| {
        let limit = args.integer(1)?;
        let offset = args.integer_or(2, 0)?;
        unpack(lua, args, Part { limit, offset })
    };
    library.raw_set("unpack_limit", function(lua, "unpack_limit", unpack_limit)?)?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(library)
}

/// The arguments as messages, one after another.
fn pack(lua: &Lua, args: &Arguments) -> Result<String> {
    match args.len() {
        0 => Err(args.bad_call("MessagePack pack needs input.")),
        1..=ARGUMENTS_MAX => {
            let mut output = Output::new(lua);
            for value in args.iter() {
                pack_value(&mut output, value, 0)?;
            }
            output.finish()
        }
        _ => Err(args.bad_call("Too many arguments for MessagePack pack.")),
    }
}

fn pack_value(output: &mut Output, value: &Value, level: usize) -> Result<()> {
    match value {
        Value::Boolean(false) => output.put(&[0xc2]),
        Value::Boolean(true) => output.put(&[0xc3]),
        Value::Integer(number) => pack_integer(output, *number),
        Value::Number(number) => pack_number(output, *number),
        Value::String(string) => pack_string(output, &string.as_bytes()),
        Value::Table(table) if level < NESTING_MAX => match array_length(output, table)? {
            Some(length) => pack_array(output, table, length, level),
            None => pack_map(output, table, level),
        },
        _ => output.put(&[0xc0]),
    }
}

fn pack_number(output: &mut Output, number: f64) -> Result<()> {
    let integer = to_integer(number);
    if integer as f64 == number {
        pack_integer(output, integer)
    } else if f64::from(number as f32) == number {
        put(output, 0xca, &(number as f32).to_be_bytes())
    } else {
        put(output, 0xcb, &number.to_be_bytes())
    }
}

fn pack_integer(output: &mut Output, number: i64) -> Result<()> {
    let bytes = number.to_be_bytes();
    match number {
        -32..=0x7f => output.put(&bytes[7..]),
        0x80..=0xff => put(output, 0xcc, &bytes[7..]),
        0x100..=0xffff => put(output, 0xcd, &bytes[6..]),
        0x1_0000..=0xffff_ffff => put(output, 0xce, &bytes[4..]),
        0x1_0000_0000.. => put(output, 0xcf, &bytes),
        -0x80..=-33 => put(output, 0xd0, &bytes[7..]),
        -0x8000..=-0x81 => put(output, 0xd1, &bytes[6..]),
        -0x8000_0000..=-0x8001 => put(output, 0xd2, &bytes[4..]),
        ..-0x8000_0000 => put(output, 0xd3, &bytes),
    }
}

fn put(output: &mut Output, kind: u8, bytes: &[u8]) -> Result<()> {
    output.put(&[kind])?;
    output.put(bytes)
}

fn pack_string(output: &mut Output, string: &[u8]) -> Result<()> {
    let length = (string.len() as u32).to_be_bytes();
    match string.len() {
        0..=31 => output.put(&[0xa0 | length[3]])?,
        32..=0xff => put(output, 0xd9, &length[3..])?,
        0x100..=0xffff => put(output, 0xda, &length[2..])?,
        _ => put(output, 0xdb, &length)?,
    }
    output.put(string)
}

/// Writes the beginning of an array or a map: the short form, or one of the two long ones.
fn pack_length(output: &mut Output, length: usize, short: u8, long: [u8; 2]) -> Result<()> {
    let bytes = (length as u32).to_be_bytes();
    match length {
        0..=15 => output.put(&[short | bytes[3]]),
        16..=0xffff => put(output, long[0], &bytes[2..]),
        _ => put(output, long[1], &bytes),
    }
}

/// How many elements there are, if the keys are all from 1 to their number.
fn array_length(output: &mut Output, table: &Table) -> Result<Option<usize>> {
    let (mut count, mut last) = (0, 0);
    for pair in table.pairs::<Value, bool>() {
        output.meter().steps(budget::VALUE_STEPS)?;
        match pair?.0 {
            Value::Integer(place) if (1..=i32::MAX.into()).contains(&place) => last = place.max(last),
            _ => return Ok(None),
        }
        count += 1;
    }
    Ok((last == count).then_some(count as usize))
}

fn pack_array(output: &mut Output, table: &Table, length: usize, level: usize) -> Result<()> {
    pack_length(output, length, 0x90, [0xdc, 0xdd])?;
    for place in 1..=length {
        pack_value(output, &table.raw_get(place)?, level + 1)?;
    }
    Ok(())
}

fn pack_map(output: &mut Output, table: &Table, level: usize) -> Result<()> {
    let keys = keys(output.meter().lua(), table)?;
    pack_length(output, keys.raw_len(), 0x80, [0xde, 0xdf])?;
    for key in keys.sequence_values::<Value>() {
        let key = key?;
        pack_value(output, &key, level + 1)?;
        pack_value(output, &table.raw_get(key)?, level + 1)?;
    }
    Ok(())
}

/// Which of the messages in a string to read.
struct Part {
    limit: i64,
    offset: i64,
}

/// The messages' values; before them, if a part was asked for, where the next begins, or -1.
fn unpack(lua: &Lua, args: &Arguments, part: Part) -> Result<Variadic<Value>> {
    let Part { limit, offset } = part;
    let string = args.string(0)?;
    let bytes = string.as_bytes();
    let (shown, length) = (offset as i32, bytes.len() as i32);
    if offset < 0 || limit < 0 {
        // Redis, too, tells the length where it says limit.
        let text = format!("Invalid request to unpack with offset of {shown} and limit of {length}.");
        return Err(Error::runtime(text));
    }
    let Some(rest) = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..) else {
        return Err(Error::runtime(format!("Start offset {shown} greater than input length {length}.")));
    };
    let is_whole = limit == 0 && offset == 0;
    let limit = if is_whole { i64::MAX } else { limit };
    let mut reader = Reader { lua, rest, meter: Meter::new(lua), slots: args.len() };
    let mut values = Variadic::new();
    for _ in 0..limit {
        if reader.rest.is_empty() {
            break;
        }
        values.push(reader.message()?);
        reader.slots += 1;
    }
    if !is_whole {
        let next = bytes.len() - reader.rest.len();
        values.insert(0, Value::Integer(if reader.rest.is_empty() { -1 } else { next as i64 }));
    }
    reader.meter.settle()?;
    Ok(values)
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
    meter: Meter<'a>,
    /// How many slots of Lua's stack redis-server would use by now.
    slots: usize,
}

/// A table of which a part is read.
enum Open {
    Array { table: Table, read: i64, left: u32 },
    Map { table: Table, key: Option<Value>, left: u32 },
}

impl Open {
    fn add(&mut self, value: Value) -> Result<()> {
        match self {
            Self::Array { table, read, left } => {
                *read += 1;
                *left -= 1;
                table.raw_set(*read, value)
            }
            Self::Map { table, key, left } => match key.take() {
                None => {
                    *key = Some(value);
                    Ok(())
                }
                Some(key) => {
                    *left -= 1;
                    table.raw_set(key, value)
                }
            },
        }
    }

    const fn is_whole(&self) -> bool {
        match self {
            Self::Array { left, .. } | Self::Map { left, .. } => *left == 0,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Array { table, .. } | Self::Map { table, .. } => Value::Table(table),
        }
    }
}

/// What a message begins with.
enum Head {
    Value(Value),
    Array(u32),
    Map(u32),
}

impl<'a> Reader<'a> {
    /// The next message's value.
    fn message(&mut self) -> Result<Value> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            match (self.head()?, open.last_mut()) {
                (Head::Value(value), None) => return Ok(value),
                (Head::Value(value), Some(innermost)) => innermost.add(value)?,
                (Head::Array(left), _) => {
                    self.slots += 2;
                    open.push(Open::Array { table: self.lua.create_table()?, read: 0, left });
                }
                (Head::Map(left), _) => {
                    self.slots += 2;
                    open.push(Open::Map { table: self.lua.create_table()?, key: None, left });
                }
            }
            while let Some(whole) = open.pop_if(|innermost| innermost.is_whole()) {
                self.slots -= 2;
                match open.last_mut() {
                    None => return Ok(whole.into_value()),
                    Some(innermost) => innermost.add(whole.into_value())?,
                }
            }
        }
    }

    fn head(&mut self) -> Result<Head> {
        let kind = self.take(1)?[0];
        if self.slots + 1 > VALUES_MAX {
            let text = "too many return values at once; use unpack_one or unpack_limit instead.";
            return Err(Error::runtime(format!("stack overflow ({text})")));
        }
        let value = match kind {
            0x00..=0x7f => Value::Integer(kind.into()),
            0x80..=0x8f => return Ok(Head::Map(u32::from(kind & 0xf))),
            0x90..=0x9f => return Ok(Head::Array(u32::from(kind & 0xf))),
            0xa0..=0xbf => return self.string(usize::from(kind & 0x1f)),
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f32::from_be_bytes(self.array()?).into()),
            0xcb => Value::Number(f64::from_be_bytes(self.array()?)),
            0xcc => Value::Integer(u8::from_be_bytes(self.array()?).into()),
            0xcd => Value::Integer(u16::from_be_bytes(self.array()?).into()),
            0xce => Value::Integer(u32::from_be_bytes(self.array()?).into()),
            // What is beyond an integer of Lua's C interface comes out negative.
            0xcf | 0xd3 => Value::Integer(i64::from_be_bytes(self.array()?)),
            0xd0 => Value::Integer(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Value::Integer(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Value::Integer(i32::from_be_bytes(self.array()?).into()),
            0xd9 => return self.length::<1>().and_then(|length| self.string(length as usize)),
            0xda => return self.length::<2>().and_then(|length| self.string(length as usize)),
            0xdb => return self.length::<4>().and_then(|length| self.string(length as usize)),
            0xdc => return self.length::<2>().map(Head::Array),
            0xdd => return self.length::<4>().map(Head::Array),
            0xde => return self.length::<2>().map(Head::Map),
            0xdf => return self.length::<4>().map(Head::Map),
            0xe0..=0xff => Value::Integer(i64::from(kind.cast_signed())),
            _ => return Err(Error::runtime("Bad data format in input.")),
        };
        Ok(Head::Value(value))
    }

    fn string(&mut self, length: usize) -> Result<Head> {
        let bytes = self.take(length)?;
        Ok(Head::Value(Value::String(self.lua.create_string(bytes)?)))
    }

    /// A length in that many bytes.
    fn length<const BYTES: usize>(&mut self) -> Result<u32> {
        Ok(self.take(BYTES)?.iter().fold(0, |length, byte| length << 8 | u32::from(*byte)))
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES]> {
        Ok(self.take(BYTES)?.try_into().expect("that many were taken"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        self.meter.bytes(count.min(self.rest.len()))?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(missing)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cold]
fn missing() -> Error {
    Error::runtime("Missing bytes in input.")
}
