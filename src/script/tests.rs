//! What scripts see, and what they cannot get past.

mod extremes;

use bytes::Bytes;
use mlua::{Error, Value};

use super::budget::Limits;
use super::{Caller, Program, Script, evaluate as run};
use crate::error::{ClientError, StoreError};
use crate::resp::Reply;

/// Answers a command with its own words, and FAIL with an error. HEAVY looks at a lot.
#[derive(Default)]
struct Echo {
    calls: u64,
    undone: u64,
    work: u64,
}

impl Caller for Echo {
    fn call(&mut self, mut argv: Vec<Bytes>) -> Result<Reply, StoreError> {
        self.calls += 1;
        Ok(match &argv[0][..] {
            b"FAIL" => ClientError::fixed("ERR failed").into(),
            b"HEAVY" => {
                self.work += 32 << 20;
                Reply::Ok
            }
            b"WORD" => Reply::Bulk(argv.swap_remove(1)),
            b"MAP" => Reply::Map(vec![
                (Reply::text("k"), Reply::Double(1.5)),
                (Reply::text("l"), Reply::Bool(true)),
            ]),
            _ => Reply::Array(argv.into_iter().map(Reply::Bulk).collect()),
        })
    }

    fn work(&self) -> u64 {
        self.work
    }

    fn knows(&self, argv: &[Bytes]) -> bool {
        argv[0] == "WORD"
    }

    fn save(&mut self) {}

    fn undo(&mut self) {
        self.undone += 1;
    }

    fn keep(&mut self) {}
}

fn reply(source: &str, seed: u32) -> Reply {
    let script = Script::new(Bytes::copy_from_slice(source.as_bytes())).expect("no first line is wrong");
    let words = |words: &[&'static str]| words.iter().copied().map(Bytes::from).collect::<Vec<_>>();
    run(Program::Script(&script), &words(&["k"]), &words(&["a", "b"]), seed, &mut Echo::default())
        .expect("nothing is stored")
}

/// What `return {source}` gives, as `tostring` has it, or the text of the error it ends with.
pub(crate) fn evaluate(source: &str) -> String {
    shown(&format!("return tostring(({source}))"))
}

/// What a script replies, as text.
pub(crate) fn shown(source: &str) -> String {
    match reply(source, 0) {
        Reply::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
        Reply::Error(error) => error.to_string().split(" script: ").next().unwrap_or_default().to_owned(),
        reply => format!("{reply:?}"),
    }
}

/// Checks [`evaluate`].
#[track_caller]
pub(crate) fn check(source: &str, expect: &str) {
    assert_eq!(evaluate(source), expect, "{source}");
}

/// Checks what a whole script replies.
#[track_caller]
pub(crate) fn check_script(source: &str, expect: &str) {
    assert_eq!(shown(source), expect, "{source}");
}

pub(crate) const STEPS: &str = "ERR Script exceeded its limit of instructions; nothing it did remains";
const MEMORY: &str = "ERR Script exceeded its limit of memory; nothing it did remains";

#[test]
fn expressions_have_values() {
    check("1 + 1", "2");
    check("('x'):rep(3)", "xxx");
    check("KEYS[1] .. #KEYS .. ARGV[2] .. #ARGV", "k1b2");
    check("nil + 1", "ERR user_script:1: attempt to perform arithmetic on a nil value");
    check("tostring(2^53) .. ' ' .. 1e15 .. ' ' .. -0 .. ' ' .. 0.1", "9.007199254741e+15 1e+15 -0 0.1");
}

#[test]
fn commands_answer() {
    check("redis.call('WORD', 'x')", "x");
    check(
        "redis.call('WORD', 0.1) .. redis.call('WORD', -7) .. redis.call('WORD', 1e17)",
        "0.10000000000000001-71e+17",
    );
    check("#redis.call('a', 'b', 'c')", "3");
    check("#redis.call('MAP')", "4");
    check_script("redis.setresp(3) return redis.call('MAP').map.k.double", "Int(1)");
    check("redis.pcall('FAIL').err", "ERR failed");
    check("select(2, pcall(redis.call, 'FAIL'))", "ERR failed");
    check("redis.call()", "ERR Please specify at least one argument for this redis lib call");
    check("redis.call({})", "ERR Lua redis lib command arguments must be strings or integers");
    check("redis.acl_check_cmd('WORD', 'x')", "true");
    check("redis.acl_check_cmd('x')", "ERR Invalid command passed to redis.acl_check_cmd()");
    check_script(
        "local t = {} for i = 1, 7990 do t[i] = i end return #redis.call('x', unpack(t))",
        "Int(7991)",
    );
}

#[test]
fn values_become_replies() {
    let check = |source: &str, expect: Reply| assert_eq!(reply(source, 0), expect, "{source}");
    check("return nil", Reply::Nil);
    check("return true", Reply::Int(1));
    check("return false", Reply::Nil);
    check("redis.setresp(3) return false", Reply::Bool(false));
    check("return -3.99", Reply::Int(-3));
    check("return 1e300", Reply::Int(i64::MIN));
    check(
        "return {1, {'a'}, nil, 2}",
        Reply::Array(vec![Reply::Int(1), Reply::Array(vec![Reply::text("a")])]),
    );
    check("return {ok = 'a\\nb'}", Reply::StatusText(Bytes::from_static(b"a b")));
    check("return {double = 2}", Reply::Double(2.0));
    check(
        "return {map = {b = 1, a = 2}}",
        Reply::Map(vec![(Reply::text("a"), Reply::Int(2)), (Reply::text("b"), Reply::Int(1))]),
    );
    check("return {set = {[2] = true, [1] = true}}", Reply::Set(vec![Reply::Int(2), Reply::Int(1)]));
    check("return {big_number = '12'}", Reply::BigNumber(Bytes::from_static(b"12")));
    check(
        "return {verbatim_string = {string = 'x', format = 'mkd'}}",
        Reply::VerbatimAs(*b"mkd", Bytes::from_static(b"x")),
    );
    check("return function() end", Reply::Nil);
    check_script("local t = {} for i = 1, 200 do t = {t} end return t", "ERR reached lua stack limit");
    check_script("local t = {} t[1] = t return t", "ERR reached lua stack limit");
    check("return {map = {[{}] = 1}}", Reply::Map(vec![(Reply::Array(Vec::new()), Reply::Int(1))]));
    check_script(
        "return {set = {[print or 1] = 1, [pcall] = 2}}",
        "ERR user_script:1: Script attempted to access nonexistent global variable 'print'",
    );
}

#[test]
fn errors_read_as_in_redis() {
    check_script("error('x')", "ERR user_script:1: x");
    check_script("error('x', 0)", "ERR x");
    check_script("error({err = 'My Err'})", "My Err");
    check_script("error()", "ERR nil");
    check_script("error(true)", "ERR true");
    check_script("error(5)", "ERR user_script:1: 5");
    check_script("\n\nredis.call('FAIL')", "ERR failed");
    check("pcall(error, 'x')", "false");
    check("select(2, pcall(error, {err = 'x'}))", "x");
    check(
        "select(2, xpcall(function() error('x') end, function(e) return 'H:' .. e end))",
        "H:user_script:1: x",
    );
    check("select(2, xpcall(function() redis.call('FAIL') end, function(e) return e.err end))", "ERR failed");
    check("coroutine.wrap(function() error('x') end)()", "ERR user_script:1: user_script:1: x");
    check("coroutine.wrap(function() redis.call('FAIL') end)()", "ERR failed");
    check("type(select(2, coroutine.resume(coroutine.create(function() redis.call('FAIL') end))))", "table");
    check_script("table.sort({3, 1, 'x'})", "ERR attempt to compare string with number");
    check_script(
        "return select(-5, 1)",
        "ERR user_script:1: bad argument #1 to 'select' (index out of range)",
    );
    check_script("pairs(nil)", "ERR user_script:1: bad argument #1 to 'pairs' (table expected, got nil)");
    check_script("pairs()", "ERR user_script:1: bad argument #1 to 'pairs' (table expected, got no value)");
    let place = |source| match reply(source, 0) {
        Reply::Error(error) => error.to_string().split(", on ").nth(1).unwrap_or_default().to_owned(),
        reply => format!("{reply:?}"),
    };
    assert_eq!(place("\n\nredis.call('FAIL')"), "@user_script:3.");
    assert_eq!(place("\nlocal f = function() error('x') end\nf()"), "@user_script:2.");
    assert_eq!(place("#!lua\nstring.rep()"), "@user_script:2.");
    assert_eq!(place("loadstring('x()')()"), "x():1.");
    assert_eq!(place("\nreturn redis.call('FAIL')"), "@user_script:2.");
    assert_eq!(place("\nreturn string.rep('x')"), "@user_script:2.");
}

#[test]
fn shared_tables_cannot_be_changed() {
    const READONLY: &str = "ERR user_script:1: Attempt to modify a readonly table";
    for source in [
        "x = 1",
        "_G.x = 1",
        "redis.x = 1",
        "redis.call = nil",
        "string.rep = nil",
        "math.pi = 3",
        "KEYS = nil",
        "getmetatable('').__index = nil",
        "getmetatable('').__index.rep = nil",
        "getmetatable(_G).__index = nil",
        "loadstring('return _G')().x = 1",
    ] {
        check_script(source, READONLY);
    }
    for source in [
        "rawset(_G, 'x', 1)",
        "setmetatable(_G, {})",
        "setmetatable(string, {})",
        "table.insert(string, 1)",
        "table.sort(_G)",
    ] {
        check_script(source, &READONLY.replace("user_script:1: ", ""));
    }
    check("getmetatable(redis)", "nil");
    check_script(
        "return print",
        "ERR user_script:1: Script attempted to access nonexistent global variable 'print'",
    );
    for name in [
        "dofile", "loadfile", "require", "module", "debug", "io", "os", "package", "getfenv", "setfenv",
        "newproxy",
    ] {
        check(&format!("rawget(_G, '{name}')"), "nil");
    }
    check_script("ARGV[1] = 'x' return ARGV[1]", "x");
}

#[test]
fn nothing_of_a_script_is_left() {
    for _ in 0..2 {
        check_script(
            "local t = {} setmetatable(t, {__index = function() return 1 end}) return tostring(t.x)",
            "1",
        );
        check("rawget(_G, 'KEYS')[1]", "k");
        check_script("KEYS[1] = 'other' return KEYS[1]", "other");
    }
}

#[test]
fn bytecode_is_refused() {
    check("loadstring(string.dump(function() end))", "nil");
    check("select(2, loadstring('\\27Lua'))", "attempt to load a binary chunk");
    check(
        "load((function() local code = string.dump(pcall and function() end) return function() local part = code code = nil return part end end)())",
        "nil",
    );
    check("select(2, load(function() return nil end))", "nil");
    check(
        "load((function() local n = 0 return function() n = n + 1 return ({'return ', '4'})[n] end end)())()",
        "4",
    );
}

#[test]
fn no_address_is_seen() {
    check("{}", "table: 0x00000000");
    check(
        "print == nil and 1 or pcall",
        "ERR user_script:1: Script attempted to access nonexistent global variable 'print'",
    );
    check("pcall", "function: 0x00000000");
    check("coroutine.create(function() end)", "thread: 0x00000000");
    check(
        "string.format('%s', {})",
        "ERR user_script:1: bad argument #2 to 'format' (string expected, got table)",
    );
    check("setmetatable({}, {__tostring = function() return 'mine' end})", "mine");
    check("collectgarbage('count')", "0");
}

#[test]
fn tables_have_an_order() {
    // The same as in redis-server.
    let walk = "local s = '' for k in pairs({z = 1, a = 1, [3] = 1, [1] = 1, [2.5] = 1, [true] = 1, [false] = 1, b = 1}) do \
                s = s .. tostring(k) .. ' ' end return s";
    check_script(walk, "a true 2.5 z 1 b false 3 ");
    check_script(&walk.replace("pairs(", "next, ("), "a true 2.5 z 1 b false 3 ");
    check("next({})", "nil");
    check("next({b = 1, a = 2}, 'a')", "b");
    check("next({b = 1, a = 2}, 'x')", "ERR invalid key to 'next'");
    check("next(redis)", "LOG_DEBUG");
    check("next(redis, 'x')", "ERR invalid key to 'next'");
    check_script(
        "local t = {a = 1, b = 2, c = 3} for k in pairs(t) do t[k] = nil end return tostring(next(t))",
        "nil",
    );
    check("next(_G)", "ARGV");
}

/// The order of keys that are objects is the same whatever ran before, and in an interpreter that is new.
#[test]
fn objects_have_an_order_that_is_their_scripts() {
    let walk =
        "local keys = {pairs, {}, coroutine.create(pairs), string.rep, function() end, {}, next, {}, {}}
        local t, names = {}, {}
        for i = 1, #keys do t[keys[i]] = i end
        t[keys[2]] = nil
        t[{}] = 'last'
        for _, place in pairs(t) do names[#names + 1] = place end
        return table.concat(names, ' ')";
    let first = shown(walk);
    let heavy = format!("for i = 1, 1e6 do end {walk}"); // More than a warm interpreter allows.
    for other in [walk, "local t = {} for i = 1, 99 do t[{}] = pairs t[string.find] = {} end", &heavy, walk] {
        let shown = shown(other);
        assert!(!other.contains("names") || shown == first, "{shown} {first}");
    }
}

/// A value of megabytes costs as much as it takes to look at, whatever the script does with it.
#[test]
fn what_commands_look_at_is_paid() {
    let mut caller = Echo::default();
    let script =
        Script::new(Bytes::from_static(b"while true do redis.pcall('HEAVY') end")).expect("a script");
    let reply = run(Program::Script(&script), &[], &[], 0, &mut caller).expect("nothing is stored");
    assert!(matches!(&reply, Reply::Error(error) if error.to_string().starts_with(STEPS)), "{reply:?}");
    assert!(caller.calls < 60, "{} calls", caller.calls);
}

#[test]
fn chance_is_the_seed() {
    let draw = "return math.random(1000) .. ' ' .. math.random(5, 6) .. ' ' .. math.random()";
    assert_eq!(reply(draw, 7), reply(draw, 7));
    assert_ne!(reply(draw, 7), reply(draw, 8));
    check_script(
        "math.randomseed(1) local a = math.random() math.randomseed(1) return tostring(a == math.random())",
        "true",
    );
    check_script(
        "return math.random(0)",
        "ERR user_script:1: bad argument #1 to 'random' (interval is empty)",
    );
}

#[test]
fn an_endless_script_is_aborted() {
    for source in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() return 1 end) end",
        "local function f() return pcall(f) or f() end return f()",
        "while true do coroutine.wrap(function() while true do pcall(error) end end)() end",
        "while true do coroutine.resume(coroutine.create(function() end)) end",
        "while true do redis.pcall('FAIL') end",
        "while true do pcall(redis.call, 'FAIL') end",
        "while true do string.rep('', 1e9) end",
        "while true do local t = {} table.insert(t, -1e9, 1) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t) end",
        "local t = {} for i = 1, 1e4 do t[i] = i end while true do table.remove(t, 1) table.insert(t, 1, 1) end",
        "while true do unpack({}, 1, 7000) end",
        "while true do unpack({}, 2^32 + 1, 7000) end",
        "table.insert({}, 2^31, 1)", // An int less than all others, for C.
        "string.rep('', -2^31 - 1)",
        "string.rep('x', -2^31 - 1)",
        "local t = {} for i = 1, 1e5 do t[i] = '' end while true do table.concat(t, '', 2^32 + 1) end",
        "local t = {} for i = 1, 1e5 do t[i] = '' end while true do table.remove(t, 2^32 + 1) end",
        "local t = {} for i = 1, 1e5 do t[i] = '' end while true do table.foreachi(t, coroutine.running) end",
        "local s = string.rep('1', 1e5) while true do tonumber(s, 16) end",
        "local function f() return load(f) end f()",
        "load(function() return 'x = 1 ' end)",
        "local s = string.rep('x', 1e5) while true do s:upper() end",
        "local s = string.rep('x = 1 ', 1e4) while true do loadstring(s) end",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) while true do pcall(function() return t[1] end) end",
        "local t = {} for i = 1, 30 do t = {t, t} end return t",
    ] {
        let shown = shown(source);
        assert!(shown == STEPS || shown == MEMORY, "{source}: {shown}");
    }
}

#[test]
fn memory_is_bounded() {
    for source in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "return string.rep('x', 2^27)",
        "local s = 'x' while true do pcall(function() while true do s = s .. s end end) end",
        "local s = string.rep('x', 2^23) local t = {} for i = 1, 100 do t[i] = s end return t",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
    ] {
        let shown = shown(source);
        assert!(shown == STEPS || shown == MEMORY, "{source}: {shown}");
    }
    // Garbage does not count.
    check_script(
        "local x = string.rep('x', 1000) for i = 1, 2000 do string.rep(x .. i, 50) end return 'x'",
        "x",
    );
}

#[test]
fn deep_calls_fail_where_they_should() {
    let deep = "local function f(n) return n == 0 and 0 or 1 + f(n - 1) end ";
    check_script(&format!("{deep} return f(15000)"), "Int(15000)");
    check_script(&format!("{deep} return f(100000)"), "ERR user_script:1: stack overflow");
    check_script(&format!("{deep} return select(2, pcall(f, 100000))"), "user_script:1: stack overflow");
    // And again, in what may be the same interpreter.
    check_script(&format!("{deep} return f(15000)"), "Int(15000)");
    check_script(&format!("{deep} return f(18000)"), "ERR user_script:1: stack overflow");
}

#[test]
fn the_stack_of_c_does_not_overflow() {
    for source in [
        "local function f() return pcall(f) end f() return 'x'",
        "local function f() return coroutine.wrap(f)() end f() return 'x'",
        "local function f() return coroutine.resume(coroutine.create(f)) end f() return 'x'",
        "local function f() return string.gsub('x', 'x', f) end f() return 'x'",
        "local function f() return table.sort({1, 2}, f) end f() return 'x'",
        "local function f() local t = setmetatable({}, {__index = f}) return t.x end f() return 'x'",
        "local function f() return loadstring('return (...)(...)')(f) end f() return 'x'",
        "local function f(t, k) local u = setmetatable({}, {__index = f}) return k == 150 and coroutine.wrap(f)(u, 0) or u[k + 1] end
         f(nil, 0) return 'x'",
    ] {
        let shown = shown(source);
        let expected = shown == "x" || shown == STEPS || shown.contains("overflow");
        assert!(expected, "{source}: {shown}");
    }
}

#[test]
fn many_errors_and_values_are_survived() {
    check_script("for i = 1, 9000 do pcall(error, {}) end return 'x'", "x");
    check_script("return unpack({}, 1, 7990)", "Nil");
    check_script("local t = {} for i = 1, 9000 do t['k' .. i] = i end return #{map = t}", "Int(0)");
    check_script("local t = {} for i = 1, 9000 do t[i] = coroutine.wrap(function() end) end return 'x'", "x");
    let map = reply("local t = {} for i = 1, 9000 do t['k' .. i] = i end return {map = t}", 0);
    assert!(matches!(map, Reply::Map(pairs) if pairs.len() == 9000));
}

#[test]
fn an_aborted_script_runs_twice_and_undoes_both() {
    let script =
        Script::new(Bytes::from_static(b"while true do redis.call('x') end")).expect("it has no first line");
    let mut caller = Echo::default();
    let reply = run(Program::Script(&script), &[], &[], 0, &mut caller).expect("nothing is stored");
    assert!(reply.is_error());
    assert_eq!(caller.undone, 2);
    assert!(caller.calls > 10_000);
}

pub(crate) const LIMITS: Limits =
    Limits { steps: 1_000_000, bytes: 16 << 20, collect_from: 4 << 20, exact: true };

/// The value or the error's text, of a chunk that ran outside of a script.
pub(crate) fn text(result: mlua::Result<Value>) -> String {
    match result {
        Ok(value) => value.to_string().expect("it is a string"),
        Err(mut error) => {
            while let Error::CallbackError { cause, .. } = error {
                error = (*cause).clone();
            }
            match error {
                Error::RuntimeError(text) => {
                    text.split("\nstack traceback").next().unwrap_or_default().into()
                }
                other => other.to_string(),
            }
        }
    }
}

/// Each of both takes references; without any left, the process would end.
#[test]
fn many_compiled_scripts_leave_room_for_many_arguments() {
    let many = "local words = {} for i = 1, 7498 do words[i] = 'w' .. i end return #redis.call('LIST', unpack(words))";
    for number in 0..498 {
        check_script(&format!("return tostring({number})"), &number.to_string());
        if [197, 497].contains(&number) {
            assert_eq!(shown(many), "Int(7499)");
        }
    }
}
