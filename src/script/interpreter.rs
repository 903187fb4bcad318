//! One Lua state: what is in it, and how a script runs in it.
//!
//! Making one takes some hundred microseconds, so a thread keeps one warm. A script must not be able to tell.
//! What it can change is its own, but there are three things it can *feel*: how much memory there is until the
//! limit, how deep calls may nest, and when garbage is collected. So a warm interpreter collects no garbage
//! while a script runs, and gives up on a script that reaches any of its limits, which are small; that script
//! starts again in a new interpreter, with the real ones. Where one node gives up and another does not, both
//! come to the same end: the limits of a new interpreter are far from those of a warm one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use bytes::Bytes;
use mlua::{ChunkMode, Error, Function, Lua, LuaOptions, Result, StdLib, Table, Value, Variadic};

use super::budget::{self, Abort, Budget, Limits};
use super::failure::{self, PRELUDE};
use super::random::Random;
use super::{Caller, FUNCTION_NAME_CHARS_MAX, Program, convert, lib};
use crate::error::{ClientError, StoreError};
use crate::resp::{Protocol, Reply};
use crate::types::libraries;

/// What every interpreter runs first: one chunk, whose parts are files.
const PRELUDE_TEXT: &str = concat!(
    include_str!("prelude/start.lua"),
    include_str!("prelude/order.lua"),
    include_str!("prelude/base.lua"),
    include_str!("prelude/text_and_tables.lua"),
    include_str!("prelude/redis.lua"),
    include_str!("prelude/run.lua"),
);

/// The limits of a warm interpreter.
const SOFT: Limits = Limits { steps: 500_000, bytes: 4 << 20, collect_from: usize::MAX >> 1, exact: false };
/// The limits of a script. They decide what a log entry does, so they are the same in every version.
const HARD: Limits = Limits { steps: 16_000_000, bytes: 64 << 20, collect_from: 8 << 20, exact: true };

/// Garbage is collected between scripts when an interpreter holds this much more than at first.
const GARBAGE_BYTES: usize = 1 << 20;
/// How many compiled scripts an interpreter keeps, and of how many bytes of source altogether. Each takes one of
/// 8000 references, of which a single call can need 7500.
const COMPILED_MAX: usize = 200;
const COMPILED_BYTES: usize = 1 << 20;
/// What compiling costs, in steps, beside those for each byte.
const COMPILE_STEPS: usize = 100;
/// What a call of a command costs, in steps, beside its own work.
const CALL_STEPS: usize = 50;

/// What `redis.call` and its like ask of the host.
const CALL: i64 = 0;
const CHECK: i64 = 1;
/// As [`CALL`], with the words in a table, and how many they are: Rust can refer to some thousands at once.
const CALL_LIST: i64 = 2;

/// A Lua state that scripts run in.
pub struct Interpreter {
    lua: Lua,
    /// What scripts see as their globals.
    environment: Table,
    /// What the code of a library sees as its globals.
    library_environment: Table,
    run: Function,
    call: Function,
    list_functions: Function,
    call_function: Function,
    failure: Function,
    compiled: HashMap<String, Function>,
    compiled_bytes: usize,
    /// How much memory it needs without any script.
    empty_bytes: usize,
}

/// What is particular to the script that runs; app data of the interpreter.
struct Running {
    protocol: Cell<Protocol>,
    random: Random,
}

/// How a script ended.
enum Ending {
    /// With a reply, or with an error of its own.
    Whole {
        reply: Reply,
        failed: bool,
    },
    Aborted(Abort),
}

thread_local! {
    static WARM: RefCell<Option<Interpreter>> = const { RefCell::new(None) };
}

/// Runs a program with its keys and arguments. `seed` is what its chance comes from. One that fails has called for
/// nothing: its writes are undone.
///
/// # Errors
/// The node's storage failed under a command.
pub fn evaluate(
    program: Program,
    keys: &[Bytes],
    argv: &[Bytes],
    seed: u32,
    caller: &mut dyn Caller,
) -> std::result::Result<Reply, StoreError> {
    let warm = WARM.with_borrow_mut(Option::take);
    let mut warm = warm.map_or_else(|| Interpreter::new().map_err(broken), Ok)?;
    let mut ending = warm.attempt(program, (keys, argv), seed, SOFT, caller)?;
    if let Ending::Whole { .. } = ending {
        WARM.set(Some(warm));
    } else {
        drop(warm);
        let mut fresh = Interpreter::new().map_err(broken)?;
        ending = fresh.attempt(program, (keys, argv), seed, HARD, caller)?;
    }
    Ok(match ending {
        Ending::Whole { reply, .. } => reply,
        Ending::Aborted(why) => program.aborted(why).into(),
    })
}

/// Whether a program compiles.
///
/// # Errors
/// It does not.
pub fn compiles(program: Program) -> std::result::Result<(), ClientError> {
    let warm = WARM.with_borrow_mut(Option::take);
    let mut warm = match warm {
        Some(warm) => warm,
        None => Interpreter::new().map_err(|error| ClientError::new(format!("ERR {error}")))?,
    };
    let compiled = warm.compile(program).map(drop);
    WARM.set(Some(warm));
    compiled
}

/// An interpreter that cannot be made, or that breaks outside of a script: this node has no memory.
fn broken(error: Error) -> StoreError {
    StoreError::Io(std::io::Error::other(format!("the script interpreter failed: {error}")))
}

impl Interpreter {
    /// A new one.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self> {
        let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
        lua.gc_stop();
        lua.set_app_data(Budget::new());
        lua.set_app_data(Running { protocol: Cell::new(Protocol::Resp2), random: Random::default() });
        let globals = lua.globals();
        lib::open(&lua, &globals)?;
        open_random(&lua, &globals.get("math")?)?;
        let (environment, run, libraries): (Table, Function, Table) =
            lua.load(PRELUDE_TEXT).set_name(PRELUDE).call((natives(&lua)?, &globals))?;
        lua.set_named_registry_value(ENVIRONMENT, &environment)?;
        let failure = lua.create_function(failure::describe)?;
        let library_environment = libraries.raw_get("environment")?;
        let call = libraries.raw_get("call")?;
        let list_functions = libraries.raw_get("list_functions")?;
        let call_function = libraries.raw_get("call_function")?;
        drop(libraries);
        lua.gc_collect()?;
        lua.gc_stop();
        let empty_bytes = lua.used_memory();
        Ok(Self {
            lua,
            environment,
            library_environment,
            run,
            call,
            list_functions,
            call_function,
            failure,
            compiled: HashMap::new(),
            compiled_bytes: 0,
            empty_bytes,
        })
    }

    /// Runs a program within `limits`, and undoes what it did if it failed or was aborted.
    fn attempt(
        &mut self,
        program: Program,
        (keys, argv): (&[Bytes], &[Bytes]),
        seed: u32,
        limits: Limits,
        caller: &mut dyn Caller,
    ) -> std::result::Result<Ending, StoreError> {
        let function = match self.compile(program) {
            Ok(function) => function,
            Err(error) => return Ok(Ending::Whole { reply: error.into(), failed: true }),
        };
        self.tidy().map_err(broken)?;
        caller.save();
        let mut host = Host { caller, failed: None };
        let result = self.run(&function, program, (keys, argv), seed, limits, &mut host);
        let aborted = budget::close(&self.lua).map_err(broken)?;
        if let Some(error) = host.failed {
            return Err(error);
        }
        let ending = match (result, aborted) {
            (_, Some(why)) => Ending::Aborted(why),
            (Ok((reply, failed)), None) => Ending::Whole { reply, failed },
            // It failed outside of the script: on the way in, or on the way out.
            (Err(error), None) => match failure::root(error) {
                Error::MemoryError(_) => Ending::Aborted(Abort::Memory),
                error => {
                    let text = failure::text(&error);
                    let error = program.failed(&format!("ERR {text}"), None);
                    Ending::Whole { reply: error.into(), failed: true }
                }
            },
        };
        match ending {
            Ending::Whole { failed: false, .. } => caller.keep(),
            Ending::Whole { .. } | Ending::Aborted(_) => caller.undo(),
        }
        Ok(ending)
    }

    /// The reply, and whether the script failed.
    fn run(
        &self,
        function: &Function,
        program: Program,
        (keys, argv): (&[Bytes], &[Bytes]),
        seed: u32,
        limits: Limits,
        host: &mut Host,
    ) -> Result<(Reply, bool)> {
        let lua = &self.lua;
        let running = running(lua);
        running.protocol.set(Protocol::Resp2);
        running.random.seed(seed);
        drop(running);
        lib::reset(lua);
        budget::open(lua, limits)?;
        let (keys, argv) = (strings(lua, keys)?, strings(lua, argv)?);
        let (whole, value): (bool, Value) = lua.scope(|scope| {
            let invoke = scope.create_function_mut(|lua, words: Variadic<Value>| host.invoke(lua, &words))?;
            let (failure, list) = (&self.failure, &self.list_functions);
            match program {
                Program::Script(_) => self.run.call((function, invoke, failure, keys, argv)),
                Program::Library(_) => self.call.call((list, invoke, failure, function)),
                Program::Function(_, name) => {
                    let callee = &self.call_function;
                    self.call.call((callee, invoke, failure, function, name, keys, argv))
                }
            }
        })?;
        budget::check(lua)?;
        match value {
            value if whole => {
                let protocol = self::running(lua).protocol.get();
                Ok((convert::to_reply(lua, &value, protocol)?, false))
            }
            Value::Table(error) => Ok((uncaught(&error, program)?.into(), true)),
            // The handler itself failed: the stack was too deep for it, or there was no memory.
            error => {
                failure::plain(lua, error)?;
                Ok((program.failed("ERR error in error handling", None).into(), true))
            }
        }
    }

    /// Runs a chunk without commands, within `limits`, and says whether it was aborted.
    #[cfg(test)]
    pub fn evaluate<R: mlua::FromLuaMulti>(
        &self,
        source: &str,
        limits: Limits,
    ) -> (Result<R>, Option<Abort>) {
        lib::reset(&self.lua);
        let chunk = self.lua.load(source).set_name("@user_script").set_environment(self.environment.clone());
        let result = budget::open(&self.lua, limits).and_then(|()| chunk.eval());
        (result, budget::close(&self.lua).expect("there is memory"))
    }

    /// How many steps the last chunk left of its limit.
    #[cfg(test)]
    pub fn steps_left(&self) -> u64 {
        budget::steps_left(&self.lua)
    }

    /// The program's code as a function.
    fn compile(&mut self, program: Program) -> std::result::Result<Function, ClientError> {
        let (key, body) = (program.key(), program.body());
        if let Some(function) = self.compiled.get(&key) {
            return Ok(function.clone());
        }
        let environment = match program {
            Program::Script(_) => &self.environment,
            Program::Library(_) | Program::Function(..) => &self.library_environment,
        };
        let function = load(&self.lua, body, program.chunk(), environment)
            .map_err(|text| program.does_not_compile(&text))?;
        if self.compiled.len() >= COMPILED_MAX || self.compiled_bytes + body.len() > COMPILED_BYTES {
            self.compiled.clear();
            self.compiled_bytes = 0;
        }
        self.compiled_bytes += body.len();
        self.compiled.insert(key, function.clone());
        Ok(function)
    }

    /// Collects what earlier scripts left.
    fn tidy(&mut self) -> Result<()> {
        if self.lua.used_memory() > self.empty_bytes + GARBAGE_BYTES {
            self.lua.gc_collect()?;
            self.lua.gc_stop();
            self.empty_bytes = self.lua.used_memory();
        }
        Ok(())
    }
}

/// Speaks for a script to whoever runs it.
struct Host<'c> {
    caller: &'c mut dyn Caller,
    /// What the caller failed with.
    failed: Option<StoreError>,
}

impl Host<'_> {
    /// What the prelude's `invoke` does. The first value is what is asked, the others are a command's words.
    fn invoke(&mut self, lua: &Lua, values: &[Value]) -> Result<(bool, Value)> {
        const NO_WORDS: ClientError =
            ClientError::fixed("ERR Please specify at least one argument for this redis lib call");
        const NOT_WORDS: ClientError =
            ClientError::fixed("ERR Lua redis lib command arguments must be strings or integers");
        budget::charge(lua, CALL_STEPS)?;
        let Some((&Value::Integer(what), values)) = values.split_first() else {
            return Err(Error::runtime("the prelude says what it asks"));
        };
        if values.is_empty() {
            return Ok((true, convert::error_table(lua, &NO_WORDS)?));
        }
        let words = match values {
            [Value::Table(list), Value::Integer(count)] if what == CALL_LIST => {
                convert::words(lua, (1..=*count).map(|place| list.raw_get::<Value>(place)))?
            }
            values => convert::words(lua, values.iter().map(Ok))?,
        };
        let Some(words) = words else {
            return Ok((true, convert::error_table(lua, &NOT_WORDS)?));
        };
        if what == CHECK {
            return Ok((false, Value::Boolean(self.caller.knows(&words))));
        }
        let before = self.caller.work();
        match self.caller.call(words) {
            Ok(reply) => {
                // Values may be large, and a script may call for the same one again and again.
                let work = self.caller.work().saturating_sub(before);
                budget::charge_bytes(lua, usize::try_from(work).unwrap_or(usize::MAX))?;
                let protocol = running(lua).protocol.get();
                let failed = reply.is_error();
                Ok((failed, convert::to_lua(lua, reply, protocol)?))
            }
            Err(error) => {
                self.failed = Some(error);
                Err(budget::abort(lua, Abort::Caller))
            }
        }
    }
}

/// The registry's name for what scripts see as their globals.
const ENVIRONMENT: &str = "environment";

fn running(lua: &Lua) -> mlua::AppDataRef<'_, Running> {
    lua.app_data_ref::<Running>().expect("an interpreter is made with it")
}

/// Compiles source text; the error is Lua's text.
fn load(lua: &Lua, source: &[u8], name: &str, environment: &Table) -> std::result::Result<Function, String> {
    // Lua is a program in C, to which a name ends at its first zero.
    let name = name.split('\0').next().unwrap_or_default();
    if source.first() == Some(&0x1b) {
        return Err("attempt to load a binary chunk".to_owned());
    }
    let chunk =
        lua.load(source).set_name(name).set_mode(ChunkMode::Text).set_environment(environment.clone());
    chunk.into_function().map_err(|error| match error {
        Error::SyntaxError { message, .. } => message,
        error => error.to_string(),
    })
}

/// The text of an error that nobody caught.
fn uncaught(error: &Table, program: Program) -> Result<ClientError> {
    let text: mlua::String = error.raw_get("err")?;
    let text = text.to_string_lossy();
    Ok(match (error.raw_get("source")?, error.raw_get("line")?) {
        (Value::String(source), Value::Integer(line)) => {
            program.failed(&text, Some(&format!("{}:{line}", source.to_string_lossy())))
        }
        _ => program.failed_somewhere(&text),
    })
}

fn strings(lua: &Lua, words: &[Bytes]) -> Result<Table> {
    let table = lua.create_table_with_capacity(words.len(), 0)?;
    for (place, word) in (1_i64..).zip(words) {
        table.raw_set(place, lua.create_string(word)?)?;
    }
    Ok(table)
}

/// Replaces Lua's chance by the log entry's.
fn open_random(lua: &Lua, math: &Table) -> Result<()> {
    let random = super::function(lua, "random", |lua, arguments| {
        let drawn = running(lua).random.next();
        let (low, high) = match arguments.len() {
            0 => return Ok(drawn),
            1 => (1.0, arguments.number(0)?.trunc()),
            2 => (arguments.number(0)?.trunc(), arguments.number(1)?.trunc()),
            _ => return Err(Error::runtime("wrong number of arguments")),
        };
        if low > high {
            return Err(arguments.bad(arguments.len() - 1, "interval is empty"));
        }
        Ok((drawn * (high - low + 1.0)).floor() + low)
    })?;
    let randomseed = super::function(lua, "randomseed", |lua, arguments| {
        running(lua).random.seed(arguments.integer(0)? as i32 as u32);
        Ok(())
    })?;
    math.raw_set("random", random)?;
    math.raw_set("randomseed", randomseed)
}

/// What the prelude needs of Rust.
fn natives(lua: &Lua) -> Result<Table> {
    let natives = lua.create_table()?;
    let charge = |steps: f64| steps.clamp(0.0, f64::from(u32::MAX)) as usize;
    natives.raw_set("charge", lua.create_function(move |lua, steps| budget::charge(lua, charge(steps)))?)?;
    let charge_bytes = lua.create_function(move |lua, bytes| budget::charge_bytes(lua, charge(bytes)))?;
    natives.raw_set("charge_bytes", charge_bytes)?;
    natives.raw_set("plain", lua.create_function(failure::plain)?)?;
    natives.raw_set("place", lua.create_function(|lua, level| Ok(super::arguments::place(lua, level)))?)?;
    natives.raw_set("compile", lua.create_function(compile_text)?)?;
    natives.raw_set("expose", lua.create_function(expose)?)?;
    let sha1 = lua.create_function(|lua, text: mlua::String| {
        budget::charge_bytes(lua, text.as_bytes().len() * 16)?;
        Ok(super::source::sha1_hex(&text.as_bytes()))
    })?;
    natives.raw_set("sha1hex", sha1)?;
    let set_protocol = lua.create_function(|lua, version: f64| {
        let protocol = match version as i64 {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Ok(false),
        };
        running(lua).protocol.set(protocol);
        Ok(true)
    })?;
    natives.raw_set("setresp", set_protocol)?;
    natives.raw_set("log", lua.create_function(log)?)?;
    for (name, value) in [
        ("CALL", CALL),
        ("CHECK", CHECK),
        ("CALL_LIST", CALL_LIST),
        ("COROUTINE_STEPS", budget::COROUTINE_STEPS as i64),
        ("NAME_CHARS_MAX", FUNCTION_NAME_CHARS_MAX as i64),
    ] {
        natives.raw_set(name, value)?;
    }
    let flags = (0..).zip(libraries::FLAGS).map(|(bit, flag)| (flag, 1 << bit));
    natives.raw_set("FLAGS", lua.create_table_from::<_, u8>(flags)?)?;
    natives.raw_set("redis", constants(lua)?)?;
    Ok(natives)
}

/// A function of the prelude as a script gets it: of C, like all of the library, so that a script's call of it is
/// still there to be seen when it fails, though nothing follows it.
fn expose(lua: &Lua, function: Function) -> Result<Function> {
    if function.info().what == "C" {
        Ok(function)
    } else {
        super::arguments::through_c::<{ i32::MAX }>(lua, function)
    }
}

/// `loadstring`: the function, or nil and why there is none.
fn compile_text(lua: &Lua, (source, name): (mlua::String, mlua::String)) -> Result<(Value, Value)> {
    let environment: Table = lua.named_registry_value(ENVIRONMENT)?;
    budget::charge(lua, COMPILE_STEPS + source.as_bytes().len())?;
    match load(lua, &source.as_bytes(), &name.to_string_lossy(), &environment) {
        Ok(function) => Ok((Value::Function(function), Value::Nil)),
        Err(text) => Ok((Value::Nil, Value::String(lua.create_string(text)?))),
    }
}

/// `redis.log`. Every node that runs the script writes it.
fn log(_: &Lua, (level, text): (i64, mlua::String)) -> Result<()> {
    let text = text.to_string_lossy();
    match level {
        0 | 1 => tracing::debug!(script = text),
        2 => tracing::info!(script = text),
        _ => tracing::warn!(script = text),
    }
    Ok(())
}

/// The constants in the table `redis`.
fn constants(lua: &Lua) -> Result<Table> {
    let redis = lua.create_table()?;
    for (name, value) in [
        ("LOG_DEBUG", 0),
        ("LOG_VERBOSE", 1),
        ("LOG_NOTICE", 2),
        ("LOG_WARNING", 3),
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        redis.raw_set(name, value)?;
    }
    redis.raw_set("REDIS_VERSION", super::REDIS_VERSION)?;
    redis.raw_set("REDIS_VERSION_NUM", super::REDIS_VERSION_NUMBER)?;
    Ok(redis)
}
