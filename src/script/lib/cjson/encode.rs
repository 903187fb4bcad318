//! `cjson.encode`.

use mlua::{Error, Lua, Result, String, Table, Value};

use super::{Invalid, Settings};
use crate::script::lib::{Output, VALUES_MAX, number};
use crate::script::{budget, keys, type_name};

/// A value as JSON.
pub fn encode(lua: &Lua, value: &Value, settings: Settings) -> Result<String> {
    let mut encoder = Encoder { settings, output: Output::new(lua), open: Vec::new(), slots: 1 };
    encoder.value(value.clone())?;
    while let Some(value) = encoder.next_value()? {
        encoder.value(value)?;
    }
    encoder.output.finish()
}

struct Encoder<'a> {
    settings: Settings,
    output: Output<'a>,
    /// What is being written, from the outermost on.
    open: Vec<Open>,
    /// How many slots of Lua's stack redis-server would use by now.
    slots: usize,
}

/// A table of which a part is written.
enum Open {
    Array { table: Table, written: i64, length: i64 },
    Object { table: Table, keys: Table, written: i64 },
}

impl Encoder<'_> {
    fn value(&mut self, value: Value) -> Result<()> {
        match value {
            Value::Nil => self.output.put(b"null"),
            Value::Boolean(true) => self.output.put(b"true"),
            Value::Boolean(false) => self.output.put(b"false"),
            Value::Integer(number) => self.number(number as f64),
            Value::Number(number) => self.number(number),
            Value::String(string) => self.string(&string.as_bytes()),
            Value::Table(table) => self.table(table),
            null if null.is_null() => self.output.put(b"null"),
            other => Err(refuse(&other, "type not supported")),
        }
    }

    /// Goes on with the innermost table: what is next in it, or next in the one around it.
    fn next_value(&mut self) -> Result<Option<Value>> {
        loop {
            match self.open.last_mut() {
                None => return Ok(None),
                Some(Open::Array { table, written, length }) if *written < *length => {
                    *written += 1;
                    let (place, value) = (*written, table.raw_get(*written)?);
                    if place > 1 {
                        self.output.put(b",")?;
                    }
                    return Ok(Some(value));
                }
                Some(Open::Object { table, keys, written }) => {
                    *written += 1;
                    let (place, key): (i64, Value) = (*written, keys.raw_get(*written)?);
                    if !key.is_nil() {
                        let value = table.raw_get(&key)?;
                        if place > 1 {
                            self.output.put(b",")?;
                        }
                        self.key(&key)?;
                        return Ok(Some(value));
                    }
                    self.output.put(b"}")?;
                    self.slots -= 2;
                }
                Some(Open::Array { .. }) => {
                    self.output.put(b"]")?;
                    self.slots -= 1;
                }
            }
            self.open.pop();
        }
    }

    fn table(&mut self, table: Table) -> Result<()> {
        let depth = self.open.len() + 1;
        if depth as i64 > self.settings.encode_depth_max.into() || self.slots + 3 > VALUES_MAX {
            return Err(Error::runtime(format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_length(&table)? {
            Some(length) if length > 0 => {
                self.slots += 1;
                self.open.push(Open::Array { table, written: 0, length });
                self.output.put(b"[")
            }
            _ => {
                self.slots += 2;
                let keys = keys(self.output.meter().lua(), &table)?;
                self.open.push(Open::Object { table, keys, written: 0 });
                self.output.put(b"{")
            }
        }
    }

    /// The last place of a table that has nothing but places, and is not too sparse.
    fn array_length(&mut self, table: &Table) -> Result<Option<i64>> {
        let (mut last, mut count) = (0_i32, 0_i32);
        for pair in table.pairs::<Value, bool>() {
            self.output.meter().steps(budget::VALUE_STEPS)?;
            let place = match pair?.0 {
                Value::Integer(place) => place as f64,
                Value::Number(place) => place,
                _ => return Ok(None),
            };
            if place < 1.0 || place.fract() != 0.0 {
                return Ok(None);
            }
            if place > last.into() {
                // A cast in C; what does not fit is no place any more.
                last = if place <= i32::MAX.into() { place as i32 } else { i32::MIN };
            }
            count = count.wrapping_add(1);
        }
        let ratio = self.settings.sparse_ratio;
        if ratio > 0 && last > count.wrapping_mul(ratio) && last > self.settings.sparse_safe {
            if !self.settings.sparse_convert {
                return Err(refuse(&Value::Table(table.clone()), "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(last.into()))
    }

    fn key(&mut self, key: &Value) -> Result<()> {
        match key {
            Value::Integer(number) => self.number_key(*number as f64),
            Value::Number(number) => self.number_key(*number),
            Value::String(string) => {
                self.string(&string.as_bytes())?;
                self.output.put(b":")
            }
            other => Err(refuse(other, "table key must be a number or string")),
        }
    }

    fn number_key(&mut self, number: f64) -> Result<()> {
        self.output.put(b"\"")?;
        self.number(number)?;
        self.output.put(b"\":")
    }

    fn number(&mut self, value: f64) -> Result<()> {
        if !value.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refuse => return Err(refuse(&Value::Number(value), "must not be NaN or Inf")),
                Invalid::Number if value.is_nan() => return self.output.put(b"nan"),
                Invalid::Number => {}
                Invalid::Null => return self.output.put(b"null"),
            }
        }
        self.output.put(number::format_general(value, self.settings.precision as usize).as_bytes())
    }

    fn string(&mut self, string: &[u8]) -> Result<()> {
        self.output.put(b"\"")?;
        let mut rest = string;
        while let Some(plain) = rest.iter().position(|byte| needs_escape(*byte)) {
            self.output.put(&rest[..plain])?;
            match rest[plain] {
                b'"' => self.output.put(b"\\\"")?,
                b'\\' => self.output.put(b"\\\\")?,
                b'/' => self.output.put(b"\\/")?,
                8 => self.output.put(b"\\b")?,
                b'\t' => self.output.put(b"\\t")?,
                b'\n' => self.output.put(b"\\n")?,
                12 => self.output.put(b"\\f")?,
                b'\r' => self.output.put(b"\\r")?,
                control => self.output.put(format!("\\u{control:04x}").as_bytes())?,
            }
            rest = &rest[plain + 1..];
        }
        self.output.put(rest)?;
        self.output.put(b"\"")
    }
}

#[cold]
fn refuse(value: &Value, why: &str) -> Error {
    Error::runtime(format!("Cannot serialise {}: {why}", type_name(value)))
}

const fn needs_escape(byte: u8) -> bool {
    byte < b' ' || matches!(byte, b'"' | b'\\' | b'/' | 127)
}
