//! `string.find`, `match`, `gmatch` and `gsub`, in place of Lua's own.

mod matcher;

use mlua::{Error, Function, Lua, Result, Table, Value, Variadic};

use super::{Meter, Output};
use crate::script::arguments::{bounded, inner};
use crate::script::failure::PATTERNS;
use crate::script::{Arguments, function, type_name};
use matcher::{Captured, Matcher};

/// The characters that make a pattern more than a text.
const SPECIALS: &[u8] = b"^$*+?.([%-";

/// Puts the functions into the table of `string`.
pub fn open(lua: &Lua, string: &Table) -> Result<()> {
    string.raw_set("find", function(lua, "find", find)?)?;
    string.raw_set("match", function(lua, "match", match_)?)?;
    let native = lua.create_table()?;
    // The script calls a function of C, that one of Lua, and this what is here.
    native.raw_set("prepare_gmatch", inner(lua, "gmatch", 3, prepare_gmatch)?)?;
    native.raw_set("prepare_gsub", inner(lua, "gsub", 3, prepare_gsub)?)?;
    native.raw_set("find", inner(lua, "gmatch", 2, gmatch_next)?)?;
    native.raw_set("next_match", inner(lua, "gsub", 3, gsub_next)?)?;
    native.raw_set("text", inner(lua, "gsub", 4, gsub_text)?)?;
    native.raw_set("rest", inner(lua, "gsub", 3, gsub_rest)?)?;
    let globals = lua.globals();
    let concat: Function = globals.raw_get::<Table>("table")?.raw_get("concat")?;
    let type_: Function = globals.raw_get("type")?;
    let chunk = lua.load(include_str!("replace.lua")).set_name(PATTERNS);
    let (gmatch, gsub): (Function, Function) = chunk.call((native, concat, type_))?;
    let gmatch = bounded(lua, gmatch)?;
    string.raw_set("gmatch", &gmatch)?;
    string.raw_set("gfind", gmatch)?;
    string.raw_set("gsub", bounded(lua, gsub)?)
}

/// `find(s, pattern [, init [, plain]])`: the two ends of the first match, and its captures.
fn find(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (subject, pattern) = (args.string(0)?, args.string(1)?);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let from = first(args, subject.len())?;
    let is_explicit = !matches!(args.get(3), None | Some(Value::Nil | Value::Boolean(false)));
    let mut meter = Meter::new(lua);
    if is_explicit || !has_specials(&pattern) {
        let found = find_text(&mut meter, &subject[from..], &pattern)?;
        meter.settle()?;
        return Ok(match found {
            Some(at) => ends(from + at, from + at + pattern.len()),
            None => nothing(),
        });
    }
    let mut matcher = Matcher::new(&subject, &pattern, meter);
    let anchored = matcher.take_anchor();
    let Some(whole) = matcher.search(from, anchored)? else {
        matcher.meter.settle()?;
        return Ok(nothing());
    };
    let mut values = ends(whole.0, whole.1);
    for index in 0..matcher.captures() {
        values.push(capture(lua, &mut matcher, &subject, index, whole)?);
    }
    matcher.meter.settle()?;
    Ok(values)
}

/// `match(s, pattern [, init])`: the captures of the first match, or all of it.
fn match_(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (subject, pattern) = (args.string(0)?, args.string(1)?);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let from = first(args, subject.len())?;
    let mut matcher = Matcher::new(&subject, &pattern, Meter::new(lua));
    let anchored = matcher.take_anchor();
    let found = matcher.search(from, anchored)?;
    let values = match found {
        Some(whole) => captures(lua, &mut matcher, &subject, whole)?,
        None => nothing(),
    };
    matcher.meter.settle()?;
    Ok(values)
}

fn nothing() -> Variadic<Value> {
    Variadic::from_iter([Value::Nil])
}

fn ends(start: usize, end: usize) -> Variadic<Value> {
    Variadic::from_iter([Value::Integer(start as i64 + 1), Value::Integer(end as i64)])
}

/// Where to begin: the third argument, which counts from 1, or from the end if it is negative.
fn first(args: &Arguments, length: usize) -> Result<usize> {
    let init = args.integer_or(2, 1)?;
    let from = if init < 0 { init.saturating_add(length as i64 + 1) } else { init };
    Ok(usize::try_from(from - 1).unwrap_or(0).min(length))
}

fn has_specials(pattern: &[u8]) -> bool {
    pattern.iter().take_while(|byte| **byte != 0).any(|byte| SPECIALS.contains(byte))
}

/// Where a text first stands in another.
fn find_text(meter: &mut Meter, subject: &[u8], text: &[u8]) -> Result<Option<usize>> {
    let Some((first, others)) = text.split_first() else { return Ok(Some(0)) };
    let mut at = 0;
    while let Some(passed) = subject[at..].iter().position(|byte| byte == first) {
        meter.bytes(passed + others.len())?;
        at += passed;
        if subject[at + 1..].starts_with(others) {
            return Ok(Some(at));
        }
        at += 1;
    }
    meter.bytes(subject.len() - at)?;
    Ok(None)
}

/// All captures of a match, or all of it.
fn captures(
    lua: &Lua,
    matcher: &mut Matcher,
    subject: &[u8],
    whole: (usize, usize),
) -> Result<Variadic<Value>> {
    (0..matcher.captures().max(1)).map(|index| capture(lua, matcher, subject, index, whole)).collect()
}

fn capture(
    lua: &Lua,
    matcher: &mut Matcher,
    subject: &[u8],
    index: usize,
    whole: (usize, usize),
) -> Result<Value> {
    match matcher.capture(index, whole)? {
        Captured::Part(from, to) => {
            matcher.meter.bytes(to - from)?;
            Ok(Value::String(lua.create_string(&subject[from..to])?))
        }
        Captured::Position(at) => Ok(Value::Integer(at as i64 + 1)),
    }
}

fn prepare_gmatch(_: &Lua, args: &Arguments) -> Result<(mlua::String, mlua::String)> {
    Ok((args.string(0)?, args.string(1)?))
}

/// From a place on: where to go on after the next match, and its captures.
fn gmatch_next(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (subject, pattern, from) = (args.string(0)?, args.string(1)?, args.integer(2)? as usize - 1);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    if from > subject.len() {
        return Ok(Variadic::new());
    }
    let mut matcher = Matcher::new(&subject, &pattern, Meter::new(lua));
    let Some(whole) = matcher.search(from, false)? else {
        matcher.meter.settle()?;
        return Ok(Variadic::new());
    };
    let (start, end) = whole;
    let mut values = captures(lua, &mut matcher, &subject, whole)?;
    // After an empty match, at least one character further.
    let after = if start == end { end + 1 } else { end };
    values.insert(0, Value::Integer(after as i64 + 1));
    matcher.meter.settle()?;
    Ok(values)
}

/// Checks the arguments. A string replaces at once: the result and how often; otherwise, what it takes to
/// go on.
fn prepare_gsub(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (subject, pattern) = (args.string(0)?, args.string(1)?);
    let most = args.integer_or(3, subject.as_bytes().len() as i64 + 1)?;
    // An int, to Lua.
    let most = i64::from(most as i32);
    match args.get(2) {
        Some(Value::String(_) | Value::Integer(_) | Value::Number(_)) => {
            let replacement = args.string(2)?;
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            let matcher = Matcher::new(&subject, &pattern, Meter::new(lua));
            let (result, count) = replace(lua, matcher, &subject, &replacement.as_bytes(), most)?;
            Ok(Variadic::from_iter([Value::String(result), Value::Integer(count)]))
        }
        Some(replacement @ (Value::Function(_) | Value::Table(_))) => {
            let anchored = Value::Boolean(pattern.as_bytes().starts_with(b"^"));
            let (subject, pattern) = (Value::String(subject), Value::String(pattern));
            Ok(Variadic::from_iter([subject, pattern, replacement.clone(), Value::Integer(most), anchored]))
        }
        _ => Err(args.bad(2, "string/function/table expected")),
    }
}

/// The subject with the first `most` matches replaced, and how many there were.
fn replace(
    lua: &Lua,
    mut matcher: Matcher,
    subject: &[u8],
    replacement: &[u8],
    most: i64,
) -> Result<(mlua::String, i64)> {
    let mut output = Output::new(lua);
    let anchored = matcher.take_anchor();
    let (mut copied, mut from, mut count) = (0, 0, 0);
    while count < most && from <= subject.len() {
        let Some(whole) = matcher.search(from, anchored)? else { break };
        let (start, end) = whole;
        count += 1;
        output.put(&subject[copied..start])?;
        put_replacement(&mut output, &matcher, subject, replacement, whole)?;
        copied = end;
        from = if start == end { end + 1 } else { end };
        if anchored {
            break;
        }
    }
    output.put(&subject[copied..])?;
    matcher.meter.settle()?;
    Ok((output.finish()?, count))
}

/// Writes the replacement, with `%1` and so on replaced by captures.
fn put_replacement(
    output: &mut Output,
    matcher: &Matcher,
    subject: &[u8],
    replacement: &[u8],
    whole: (usize, usize),
) -> Result<()> {
    let mut rest = replacement;
    while let Some(plain) = rest.iter().position(|byte| *byte == b'%') {
        output.put(&rest[..plain])?;
        // Behind the last character Lua sees a zero.
        let escaped = rest.get(plain + 1).copied().unwrap_or(0);
        match escaped {
            b'0' => output.put(&subject[whole.0..whole.1])?,
            b'1'..=b'9' => match matcher.capture(usize::from(escaped - b'1'), whole)? {
                Captured::Part(from, to) => output.put(&subject[from..to])?,
                Captured::Position(at) => output.put((at + 1).to_string().as_bytes())?,
            },
            same => output.put(&[same])?,
        }
        rest = rest.get(plain + 2..).unwrap_or_default();
    }
    output.put(rest)
}

/// The next match: what stands between it and what is copied, the match, where it ends, and its captures.
fn gsub_next(lua: &Lua, args: &Arguments) -> Result<Variadic<Value>> {
    let (subject, pattern) = (args.string(0)?, args.string(1)?);
    let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
    let (copied, from) = (args.integer(2)? as usize - 1, args.integer(3)? as usize - 1);
    if from > subject.len() {
        return Ok(Variadic::new());
    }
    let mut matcher = Matcher::new(&subject, &pattern, Meter::new(lua));
    let anchored = matcher.take_anchor();
    let Some(whole) = matcher.search(from, anchored)? else {
        matcher.meter.settle()?;
        return Ok(Variadic::new());
    };
    let (start, end) = whole;
    let mut values = Variadic::new();
    matcher.meter.bytes(end - copied)?;
    values.push(Value::String(lua.create_string(&subject[copied..start])?));
    values.push(Value::String(lua.create_string(&subject[start..end])?));
    values.push(Value::Integer(end as i64 + 1));
    values.extend(captures(lua, &mut matcher, &subject, whole)?);
    matcher.meter.settle()?;
    Ok(values)
}

/// What a match becomes: the value, or itself if that is nil or false.
fn gsub_text(_: &Lua, args: &Arguments) -> Result<Value> {
    match args.any(0)? {
        Value::Nil | Value::Boolean(false) => args.any(1).cloned(),
        value @ (Value::String(_) | Value::Integer(_) | Value::Number(_)) => Ok(value.clone()),
        other => Err(Error::runtime(format!("invalid replacement value (a {})", type_name(other)))),
    }
}

/// What is behind all matches.
fn gsub_rest(lua: &Lua, args: &Arguments) -> Result<mlua::String> {
    let (subject, copied) = (args.string(0)?, args.integer(1)? as usize - 1);
    let subject = subject.as_bytes();
    crate::script::budget::charge_bytes(lua, subject.len() - copied)?;
    lua.create_string(&subject[copied..])
}
