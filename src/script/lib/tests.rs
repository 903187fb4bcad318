//! The case files compare the libraries with redis-server's; here are the limits, and what that cannot show.

use mlua::Value;

use crate::script::Interpreter;
use crate::script::budget::{Abort, Limits};
use crate::script::tests::{LIMITS, check};

#[track_caller]
fn check_abort(source: &str) {
    let interpreter = Interpreter::new().expect("there is memory");
    let (result, aborted) = interpreter.evaluate::<Value>(source, LIMITS);
    assert!(result.is_err(), "{source}");
    assert_eq!(aborted, Some(Abort::Steps), "{source}");
}

#[test]
fn work_outside_of_lua_is_counted() {
    let long = "local long = ('a'):rep(4000) ";
    let aborted = |rest: &str| check_abort(&format!("{long}{rest}"));
    aborted("return long:find('(.-).-.-b')");
    aborted("return long:find('.*.*.*b')");
    aborted("return long:find(('a?'):rep(40) .. ('a'):rep(4000))");
    aborted("return long:gsub('[' .. ('b'):rep(4000) .. ']', '')");
    aborted("return ('('):rep(4000):find('%b()')");
    aborted("for i = 1, 10000 do long:find('aaab', 1, true) end");
    aborted("for i = 1, 10000 do long:gsub('b', '') end");
    aborted("local t = {long} for i = 1, 40 do t = {t, t} end return cjson.encode(t)");
    aborted("local t = {long} for i = 1, 15 do t = {t, t, t, t, t} end return cmsgpack.pack(t)");
    aborted("cjson.encode_sparse_array(true, 0) return cjson.encode({[100000000] = 1})");
    aborted("local json = '[' .. ('1,'):rep(10000) .. '1]' while true do cjson.decode(json) end");
    aborted("local packed = cmsgpack.pack(long) while true do cmsgpack.unpack(packed) end");
    aborted("local format = ('b'):rep(2000) while true do struct.unpack(format, long) end");
    aborted("while true do cjson.new() end");
}

#[test]
fn nesting_ends() {
    let nest = |left: &str, right: &str| {
        format!("#cjson.encode(cjson.decode(('{left}'):rep(1000) .. ('{right}'):rep(1000)))")
    };
    check(&nest("[", "]"), "2000");
    let deeper = "pcall(cjson.decode, ('['):rep(1001))";
    check(
        &format!("tostring(select(2, {deeper}))"),
        "Found too many nested data structures (1001) at character 1001",
    );
    let unbounded = "(function() cjson.decode_max_depth(100000) cjson.decode(('['):rep(10000)) end)()";
    check(unbounded, "ERR user_script:1: Found too many nested data structures (6999) at character 6999");
    let table = "(function() local t = {} for i = 1, 5000 do t = {t = t} end
        cjson.encode_max_depth(100000) cjson.encode(t) end)()";
    check(table, "ERR user_script:2: Cannot serialise, excessive nesting (3500)");
    check("#cmsgpack.pack((function() local t = {} for i = 1, 5000 do t = {t} end return t end)())", "17");
    check(
        "cmsgpack.unpack(('\\145'):rep(10000))",
        "ERR user_script:1: stack overflow (too many return values at once; use unpack_one or unpack_limit \
         instead.)",
    );
    check("select('#', struct.unpack(('b'):rep(6000), ('a'):rep(6000)))", "6001");
    check(
        "select('#', struct.unpack(('b'):rep(7000), ('a'):rep(7000)))",
        "ERR user_script:1: stack overflow (too many results)",
    );
}

/// redis-server reads beyond its table of digits here.
#[test]
fn the_smallest_number_of_digits_is_no_trap() {
    check("bit.tohex(255, -2^31)", "000000FF");
}

#[test]
fn settings_end_with_the_script() {
    let interpreter = Interpreter::new().expect("there is memory");
    let run = |source: &str| interpreter.evaluate::<String>(source, LIMITS).0.expect(source);
    assert_eq!(run("cjson.encode_number_precision(3) return cjson.encode(1 / 3)"), "0.333");
    assert_eq!(run("return cjson.encode(1 / 3)"), "0.33333333333333");
}

/// Iterators of scripts must not use up what Rust can refer to.
#[test]
fn iterators_and_instances_are_as_many_as_a_script_likes() {
    check(
        "(function() local t = {} for i = 1, 9000 do t[i] = ('ab'):gmatch('b') end return t[1]() end)()",
        "b",
    );
    let instances = "local t = {} for i = 1, 2000 do t[i] = cjson.new() end return t[2000].encode({})";
    let limits = Limits { steps: 100_000_000, ..LIMITS };
    let interpreter = Interpreter::new().expect("there is memory");
    assert_eq!(interpreter.evaluate::<String>(instances, limits).0.expect("there is no limit"), "{}");
}

/// As for a function of C, errors and places are those of the caller.
#[test]
fn what_replaces_can_fail() {
    check("(('abc'):gsub('b', function(b) return b:upper() .. b end))", "aBbc");
    check(
        "(('abc'):gsub('b', function() return {} end))",
        "ERR user_script:1: invalid replacement value (a table)",
    );
    check("(('abc'):gsub('b', function() (nil)() end))", "ERR user_script:1: attempt to call a nil value");
    check(
        "(('abc'):gsub('b'))",
        "ERR user_script:1: bad argument #2 to 'gsub' (string/function/table expected)",
    );
    check("('abc'):gmatch('[')()", "ERR user_script:1: malformed pattern (missing ']')");
}
