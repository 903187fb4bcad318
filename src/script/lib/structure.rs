//! `struct`: values to bytes and back by a format, as Roberto Ierusalimschy's library does it for C's types on a
//! 64-bit little-endian machine.
//!
//! | format | |
//! | --- | --- |
//! | `>` `<` | big endian; little endian, as it is to begin with |
//! | `!n` | alignment up to `n`, a power of 2; 8 without a number, 1 to begin with |
//! | `b` `h` `i` `l`; unsigned in capitals | integers of 1, 2, 4 and 8 bytes; `in`: of `n` bytes |
//! | `T` | as `L` |
//! | `f` `d` | floating point numbers of 4 and 8 bytes |
//! | `cn` | `n` bytes, 1 without a number; `c0`: all there are, or as many as the number read before says |
//! | `s` | a string that a zero byte ends |
//! | `x` | a byte of padding |

use mlua::{Error, Lua, Result, String, Table, Value, Variadic};

use super::{Meter, Output, VALUES_MAX};
use crate::script::{Arguments, function, to_integer};

/// Integers have at most that many bytes.
const INTEGER_BYTES_MAX: usize = 32;
/// How `!` aligns without a number.
const ALIGNMENT: usize = 8;

/// The library's table.
pub fn open(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("pack", function(lua, "pack", pack)?)?;
    library.raw_set("unpack", function(lua, "unpack", unpack)?)?;
    library.raw_set("size", function(lua, "size", size)?)?;
    Ok(library)
}

/// A format, read from left to right.
struct Format<'a> {
    args: &'a Arguments<'a>,
    rest: &'a [u8],
    is_big: bool,
    alignment: usize,
}

impl<'a> Format<'a> {
    fn new(args: &'a Arguments, text: &'a [u8]) -> Self {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        Self { args, rest: &text[..end], is_big: false, alignment: 1 }
    }

    /// The next option and how many bytes it takes; 0 where that depends, and of what takes none.
    fn next(&mut self) -> Result<Option<(u8, usize)>> {
        let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'I' | b'i' => {
                let size = self.number(4)?;
                if size > INTEGER_BYTES_MAX {
                    let text = format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}");
                    return Err(Error::runtime(text));
                }
                size
            }
            _ => 0,
        };
        Ok(Some((*option, size)))
    }

    /// The number that follows, or `default`.
    fn number(&mut self, default: i32) -> Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(digits);
        if digits.is_empty() {
            return Ok(default as usize);
        }
        self.rest = rest;
        let number = digits
            .iter()
            .try_fold(0_i32, |number, digit| number.checked_mul(10)?.checked_add(i32::from(digit - b'0')));
        number.map(|number| number as usize).ok_or_else(|| Error::runtime("integral size overflow"))
    }

    /// How many bytes of padding the option needs at `position`.
    const fn padding(&self, position: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = if size > self.alignment { self.alignment } else { size };
        size.wrapping_sub(position & (size - 1)) & (size - 1)
    }

    /// Follows an option that says how others are meant.
    fn control(&mut self, option: u8) -> Result<()> {
        match option {
            b' ' => {}
            b'>' => self.is_big = true,
            b'<' => self.is_big = false,
            b'!' => {
                let alignment = self.number(ALIGNMENT as i32)?;
                if !alignment.is_power_of_two() {
                    return Err(Error::runtime(format!("alignment {alignment} is not a power of 2")));
                }
                self.alignment = alignment;
            }
            other => {
                let shown = std::string::String::from_utf8_lossy(&[other]).into_owned();
                return Err(self.args.bad(0, &format!("invalid format option '{shown}'")));
            }
        }
        Ok(())
    }

    /// Bytes that begin with the lowest in the format's order, and the other way round.
    fn ordered<const BYTES: usize>(&self, mut bytes: [u8; BYTES]) -> [u8; BYTES] {
        if self.is_big {
            bytes.reverse();
        }
        bytes
    }
}

fn pack(lua: &Lua, args: &Arguments) -> Result<String> {
    let text = args.string(0)?;
    let text = text.as_bytes();
    let mut format = Format::new(args, &text);
    let mut output = Output::new(lua);
    let mut index = 1;
    while let Some((option, size)) = format.next()? {
        let padding = format.padding(output.len(), option, size);
        output.put(&[0; INTEGER_BYTES_MAX][..padding])?;
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..8].copy_from_slice(&to_unsigned(number(args, index)?).to_le_bytes());
                if format.is_big {
                    bytes[..size].reverse();
                }
                output.put(&bytes[..size])?;
            }
            b'f' => output.put(&format.ordered((number(args, index)? as f32).to_le_bytes()))?,
            b'd' => output.put(&format.ordered(number(args, index)?.to_le_bytes()))?,
            b'c' | b's' => {
                let string = string(args, index)?;
                let string = string.as_bytes();
                let size = if size == 0 { string.len() } else { size };
                let Some(packed) = string.get(..size) else {
                    return Err(args.bad(index + 1, "string too short"));
                };
                output.put(packed)?;
                if option == b's' {
                    output.put(&[0])?;
                }
            }
            b'x' => {
                output.put(&[0])?;
                continue;
            }
            _ => {
                output.meter().steps(1)?;
                format.control(option)?;
                continue;
            }
        }
        index += 1;
    }
    output.finish()
}

fn number(args: &Arguments, index: usize) -> Result<f64> {
    if index == args.len() { Err(args.bad(index, "number expected, got nil")) } else { args.number(index) }
}

/// The original puts a nil behind its arguments, and names it when one is missing.
fn string(args: &Arguments, index: usize) -> Result<String> {
    if index == args.len() { Err(args.bad(index, "string expected, got nil")) } else { args.string(index) }
}

fn unpack(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (text, data) = (args.string(0)?, args.string(1)?);
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let mut position = args.integer_or(2, 1)?.cast_unsigned() as usize;
    if position == 0 {
        return Err(args.bad(2, "offset must be 1 or greater"));
    }
    position -= 1;
    let mut format = Format::new(args, &text);
    let mut meter = Meter::new(lua);
    let mut values = Variadic::new();
    while let Some((option, mut size)) = format.next()? {
        position = position.wrapping_add(format.padding(position, option, size));
        let mut field = bytes_at(args, &data, position, size)?;
        meter.bytes(size)?;
        if args.len() + values.len() + 2 > VALUES_MAX {
            return Err(Error::runtime("stack overflow (too many results)"));
        }
        match option {
            b'b' | b'h' | b'l' | b'i' => values.push(Value::Number(signed(field, format.is_big))),
            b'B' | b'H' | b'L' | b'T' | b'I' => {
                values.push(Value::Number(unsigned(field, format.is_big) as f64));
            }
            b'f' => {
                let bytes = field.try_into().expect("that is the size of the option");
                values.push(Value::Number(f32::from_le_bytes(format.ordered(bytes)).into()));
            }
            b'd' => {
                let bytes = field.try_into().expect("that is the size of the option");
                values.push(Value::Number(f64::from_le_bytes(format.ordered(bytes))));
            }
            b'c' => {
                if size == 0 {
                    let length = values.pop().and_then(|value| lua.coerce_number(value).ok().flatten());
                    let length = length.ok_or_else(|| Error::runtime("format 'c0' needs a previous size"))?;
                    size = to_unsigned(length) as usize;
                    field = bytes_at(args, &data, position, size)?;
                    meter.bytes(size)?;
                }
                values.push(Value::String(lua.create_string(field)?));
            }
            b's' => {
                let rest = &data[position..];
                let end = rest.iter().position(|byte| *byte == 0);
                let end = end.ok_or_else(|| Error::runtime("unfinished string in data"))?;
                meter.bytes(end)?;
                values.push(Value::String(lua.create_string(&rest[..end])?));
                size = end + 1;
            }
            b'x' => {}
            _ => format.control(option)?,
        }
        position += size;
    }
    meter.settle()?;
    values.push(Value::Integer(position.wrapping_add(1) as i64));
    Ok(values)
}

fn bytes_at<'a>(args: &Arguments, data: &'a [u8], position: usize, size: usize) -> Result<&'a [u8]> {
    let end = position.checked_add(size);
    let field = end.and_then(|end| data.get(position..end));
    field.ok_or_else(|| args.bad(1, "data string too short"))
}

fn size(lua: &Lua, args: &Arguments) -> Result<i64> {
    let text = args.string(0)?;
    let text = text.as_bytes();
    let mut format = Format::new(args, &text);
    let mut meter = Meter::new(lua);
    let mut position = 0_usize;
    while let Some((option, size)) = format.next()? {
        meter.steps(1)?;
        position = position.wrapping_add(format.padding(position, option, size));
        match option {
            b's' => return Err(args.bad(0, "option 's' has no fixed size")),
            b'c' if size == 0 => return Err(args.bad(0, "option 'c0' has no fixed size")),
            // An unknown letter is let pass, here only.
            option if option.is_ascii_alphanumeric() => {}
            option => format.control(option)?,
        }
        position = position.wrapping_add(size);
    }
    Ok(position as i64)
}

/// The lowest 8 bytes of an integer of any size.
fn unsigned(bytes: &[u8], is_big: bool) -> u64 {
    let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if is_big { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) }
}

/// The same in two's complement. Of more than 8 bytes, the original extends the wrong bit, and so does this.
fn signed(bytes: &[u8], is_big: bool) -> f64 {
    let value = unsigned(bytes, is_big);
    let mask = u64::MAX << ((8 * bytes.len() as u32).wrapping_sub(1) % 64);
    let value = if value & mask == 0 { value } else { value | mask };
    value.cast_signed() as f64
}

/// A number as an integer of 64 bits, as a cast in C makes it on the usual processors.
fn to_unsigned(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number >= HALF {
        to_integer(number - HALF).cast_unsigned() ^ (1 << 63)
    } else {
        to_integer(number).cast_unsigned()
    }
}
