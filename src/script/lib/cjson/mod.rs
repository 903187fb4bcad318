//! `cjson`: JSON, as lua-cjson 2.1.0 writes and reads it.
//!
//! What a script sets (`cjson.encode_max_depth(...)` and so on) holds until it ends; redis-server would keep it
//! until it stops, and so another node would answer otherwise.

mod decode;
mod encode;

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, Result, Table, Value, Variadic};

use crate::script::{Arguments, budget, function};

/// What the functions with `encode_` and `decode_` set. Numbers are C's `int`.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Whether a sparse array becomes an object instead of an error.
    sparse_convert: bool,
    /// An array is sparse if it has more than that many places for each element; 0: never.
    sparse_ratio: i32,
    /// ... and its last place is beyond this one.
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    precision: i32,
    /// Redis keeps a buffer or not; here it only is remembered.
    keep_buffer: bool,
}

impl Settings {
    const DEFAULT: Self = Self {
        sparse_convert: false,
        sparse_ratio: 2,
        sparse_safe: 10,
        encode_depth_max: 1000,
        decode_depth_max: 1000,
        encode_invalid: Invalid::Refuse,
        decode_invalid: true,
        precision: 14,
        keep_buffer: true,
    };
}

/// What infinity and what is not a number are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refuse,
    Number,
    Null,
}

/// The settings behind the `cjson` that every script finds; those of a `cjson.new()` end with the script.
struct Shared(Rc<Cell<Settings>>);

/// The library's table.
pub fn open(lua: &Lua) -> Result<Table> {
    let settings = Rc::new(Cell::new(Settings::DEFAULT));
    lua.set_app_data(Shared(Rc::clone(&settings)));
    instance(lua, &settings)
}

/// Forgets what was set.
pub fn reset(lua: &Lua) {
    if let Some(shared) = lua.app_data_ref::<Shared>() {
        shared.0.set(Settings::DEFAULT);
    }
}

/// What one table of functions costs, in steps.
const INSTANCE_STEPS: usize = 200;

/// A function that looks at settings and changes them.
type Setter = fn(&Arguments, &mut Settings) -> Result<Variadic<Value>>;

const SETTERS: [(&str, Setter); 7] = [
    ("encode_sparse_array", encode_sparse_array),
    ("encode_max_depth", |args, settings| one(args, |args| depth(args, &mut settings.encode_depth_max))),
    ("decode_max_depth", |args, settings| one(args, |args| depth(args, &mut settings.decode_depth_max))),
    ("encode_number_precision", |args, settings| {
        one(args, |args| integer(args, 0, &mut settings.precision, 1, 14))
    }),
    ("encode_keep_buffer", |args, settings| one(args, |args| switch(args, &mut settings.keep_buffer))),
    ("encode_invalid_numbers", |args, settings| {
        one(args, |args| invalid(args, &mut settings.encode_invalid))
    }),
    ("decode_invalid_numbers", |args, settings| one(args, |args| switch(args, &mut settings.decode_invalid))),
];

fn instance(lua: &Lua, settings: &Rc<Cell<Settings>>) -> Result<Table> {
    let library = lua.create_table()?;
    let used = Rc::clone(settings);
    let encode = function(lua, "encode", move |lua, args| {
        only_argument(args)?;
        encode::encode(lua, args.any(0)?, used.get())
    })?;
    library.raw_set("encode", encode)?;
    let used = Rc::clone(settings);
    let decode = function(lua, "decode", move |lua, args| {
        only_argument(args)?;
        let text = args.string(0)?;
        decode::decode(lua, &text, used.get())
    })?;
    library.raw_set("decode", decode)?;
    for (name, setter) in SETTERS {
        let used = Rc::clone(settings);
        let function = function(lua, name, move |_, args| {
            let mut changed = used.get();
            let result = setter(args, &mut changed);
            used.set(changed);
            result
        })?;
        library.raw_set(name, function)?;
    }
    let new = function(lua, "new", |lua, _| {
        budget::charge(lua, INSTANCE_STEPS)?;
        instance(lua, &Rc::new(Cell::new(Settings::DEFAULT)))
    })?;
    library.raw_set("new", new)?;
    library.raw_set("null", Value::NULL)?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    Ok(library)
}

fn only_argument(args: &Arguments) -> Result<()> {
    if args.len() == 1 { Ok(()) } else { Err(args.bad(0, "expected 1 argument")) }
}

fn at_most(args: &Arguments, most: usize) -> Result<()> {
    if args.len() <= most { Ok(()) } else { Err(args.bad(most, "found too many arguments")) }
}

/// The answer of a function with one setting.
fn one(args: &Arguments, set: impl FnOnce(&Arguments) -> Result<Value>) -> Result<Variadic<Value>> {
    at_most(args, 1)?;
    Ok(Variadic::from_iter([set(args)?]))
}

fn encode_sparse_array(args: &Arguments, settings: &mut Settings) -> Result<Variadic<Value>> {
    at_most(args, 3)?;
    let convert = switch(args, &mut settings.sparse_convert)?;
    let ratio = integer(args, 1, &mut settings.sparse_ratio, 0, i32::MAX)?;
    let safe = integer(args, 2, &mut settings.sparse_safe, 0, i32::MAX)?;
    Ok(Variadic::from_iter([convert, ratio, safe]))
}

/// Sets an integer if there is an argument, and answers with what it is then. Errors are about the first
/// argument, wherever it stands.
fn integer(args: &Arguments, index: usize, setting: &mut i32, least: i32, most: i32) -> Result<Value> {
    if !args.is_none_or_nil(index) {
        let value = args.integer(index)? as i32;
        if !(least..=most).contains(&value) {
            return Err(args.bad(0, &format!("expected integer between {least} and {most}")));
        }
        *setting = value;
    }
    Ok(Value::Integer((*setting).into()))
}

fn depth(args: &Arguments, setting: &mut i32) -> Result<Value> {
    integer(args, 0, setting, 1, i32::MAX)
}

/// Sets a switch if there is a first argument, and answers with what it is then.
fn switch(args: &Arguments, setting: &mut bool) -> Result<Value> {
    match args.get(0) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(on)) => *setting = *on,
        _ => *setting = choice(args, &["off", "on"])? == 1,
    }
    Ok(Value::Boolean(*setting))
}

fn invalid(args: &Arguments, setting: &mut Invalid) -> Result<Value> {
    const CHOICES: [Invalid; 3] = [Invalid::Refuse, Invalid::Number, Invalid::Null];
    match args.get(0) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(on)) => *setting = CHOICES[usize::from(*on)],
        _ => *setting = CHOICES[choice(args, &["off", "on", "null"])?],
    }
    match setting {
        Invalid::Null => Ok(Value::String(args.lua().create_string("null")?)),
        other => Ok(Value::Boolean(*other == Invalid::Number)),
    }
}

/// Which of the words the first argument is.
fn choice(args: &Arguments, words: &[&str]) -> Result<usize> {
    let given = args.string(0)?;
    let found = words.iter().position(|word| given == *word);
    found.ok_or_else(|| args.bad(0, &format!("invalid option '{}'", given.to_string_lossy())))
}
