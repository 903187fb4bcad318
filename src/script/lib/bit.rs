//! `bit`: operations on 32 bits, as LuaBitOp has them.

use mlua::{Lua, Result, Table};

use crate::script::{Arguments, function};

/// The library's table.
pub fn open(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    for (name, change) in CHANGES {
        let function = function(lua, name, move |_, args| Ok(signed(change(bits(args, 0)?))))?;
        library.raw_set(name, function)?;
    }
    for (name, combine) in COMBINATIONS {
        let function = function(lua, name, move |_, args| {
            let mut result = bits(args, 0)?;
            // From the last on: it is the one that an error is about.
            for index in (1..args.len()).rev() {
                result = combine(result, bits(args, index)?);
            }
            Ok(signed(result))
        })?;
        library.raw_set(name, function)?;
    }
    for (name, shift) in SHIFTS {
        let function = function(lua, name, move |_, args| {
            let value = bits(args, 0)?;
            Ok(signed(shift(value, bits(args, 1)? & 31)))
        })?;
        library.raw_set(name, function)?;
    }
    library.raw_set("tohex", function(lua, "tohex", |_, args| to_hex(args))?)?;
    Ok(library)
}

type Change = fn(u32) -> u32;

const CHANGES: [(&str, Change); 3] = [("tobit", |a| a), ("bnot", |a| !a), ("bswap", u32::swap_bytes)];

type Operation = fn(u32, u32) -> u32;

const COMBINATIONS: [(&str, Operation); 3] =
    [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];

const SHIFTS: [(&str, Operation); 5] = [
    ("lshift", |value, by| value << by),
    ("rshift", |value, by| value >> by),
    ("arshift", |value, by| (value.cast_signed() >> by).cast_unsigned()),
    ("rol", u32::rotate_left),
    ("ror", u32::rotate_right),
];

/// The lowest 32 bits of a number, rounded to the nearest integer, in two's complement.
///
/// The sum with 2^52 + 2^51 has no bits left for a fraction, and the integer stands in its lowest bits.
fn bits(args: &Arguments, index: usize) -> Result<u32> {
    let number = args.number(index)?;
    Ok((number + 6_755_399_441_055_744.0).to_bits() as u32)
}

fn signed(bits: u32) -> i32 {
    bits.cast_signed()
}

/// The last digits in base 16, eight of them or as many as the second argument says; capital if that is
/// negative.
fn to_hex(args: &Arguments) -> Result<String> {
    let value = bits(args, 0)?;
    let count = if args.len() < 2 { 8 } else { bits(args, 1)?.cast_signed() };
    let digits = if count < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
    let count = count.unsigned_abs().min(8) as usize;
    Ok(digits[8 - count..].to_owned())
}
