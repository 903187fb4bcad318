//! What crashed other servers that run scripts, and what is made to: published flaws, and arguments at the ends of what
//! numbers can say.

use super::{MEMORY, STEPS, check, check_script, shown};

/// Published flaws of Lua 5.1.5 and of the libraries that Redis adds: most are in cases/scripting/eval-extremes.txt, too.
#[test]
fn known_flaws_are_not_here() {
    // CVE-2025-46817: there are more results than an int can count.
    for range in ["0, 2147483647", "-1, 2147483646", "-2147483648, 2147483647", "1, 2147483647", "1, 1e8"] {
        check_script(
            &format!("return {{unpack({{0, 0}}, {range})}}"),
            "ERR user_script:1: too many results to unpack",
        );
    }
    check("select('#', unpack({}, 2147483640, 2147483647))", "8");
    check("select('#', unpack({}, -2147483648, -2147483640))", "9");
    // CVE-2025-46819: delimiters of long strings.
    check("#loadstring('return [' .. ('='):rep(1e5) .. '[x]' .. ('='):rep(1e5) .. ']')()", "1");
    check(
        "select(2, loadstring('return [==a'))",
        "[string \"return [==a\"]:1: invalid long string delimiter near '[=='",
    );
    // CVE-2025-46818: metatables of types.
    for value in ["nil", "true", "1.5", "pcall", "coroutine.create(function() end)", "cjson.null"] {
        check(&format!("getmetatable({value})"), "nil");
    }
    // CVE-2014-5461: more parameters than arguments, at any depth of the stack.
    check(
        "(function()
            local names = {} for i = 1, 190 do names[i] = 'p' .. i end
            local f = loadstring('return function(' .. table.concat(names, ',') .. ', ...) return 1 end')()
            local function g(n) return n > 0 and g(n - 1) + f() or f() end
            return g(1000)
        end)()",
        "1001",
    );
}

/// CVE-2025-49844: what a chunk is called must outlive the garbage that its reader makes, though nothing else refers to it yet.
#[test]
fn a_chunks_name_is_not_garbage() {
    check(
        "(function()
            local pieces = 0
            local chunk = load(function()
                pieces = pieces + 1
                local garbage = 'x' .. pieces
                while #garbage < 2^20 do garbage = garbage .. garbage end
                return pieces < 20 and ' local x' .. pieces .. ' = ' .. pieces or pieces == 20 and ' error(x19)' or nil
            end, '=a name that is nowhere else ' .. string.rep('x', 20) .. #KEYS)
            return select(2, pcall(chunk))
        end)()",
        "a name that is nowhere else xxxxxxxxxxxxxxxxxxxx1:1: 19",
    );
}

/// All functions with arguments at the ends of what ints and floats can say. What they answer is compared in the case files.
#[test]
fn extreme_arguments_are_survived() {
    const VALUES: [&str; 24] = [
        "0",
        "1",
        "-1",
        "2147483647",
        "-2147483648",
        "2147483648",
        "-2147483649",
        "4294967295",
        "4294967297",
        "2^53",
        "2^63",
        "-2^63",
        "2^64",
        "1e308",
        "-1e308",
        "0/0",
        "1/0",
        "-1/0",
        "''",
        "'abc'",
        "'%99.99f'",
        "{}",
        "{1, 2, 3}",
        "nil",
    ];
    const FUNCTIONS: [&str; 74] = [
        "unpack",
        "select",
        "tonumber",
        "tostring",
        "error",
        "rawget",
        "rawset",
        "next",
        "ipairs",
        "setmetatable",
        "assert",
        "loadstring",
        "load",
        "string.rep",
        "string.sub",
        "string.byte",
        "string.char",
        "string.format",
        "string.find",
        "string.match",
        "string.gmatch",
        "string.gsub",
        "string.len",
        "string.reverse",
        "string.upper",
        "string.dump",
        "table.concat",
        "table.insert",
        "table.remove",
        "table.sort",
        "table.getn",
        "table.maxn",
        "table.foreachi",
        "math.random",
        "math.randomseed",
        "math.ldexp",
        "math.frexp",
        "math.fmod",
        "math.modf",
        "math.floor",
        "math.pow",
        "math.max",
        "bit.tobit",
        "bit.tohex",
        "bit.lshift",
        "bit.rshift",
        "bit.arshift",
        "bit.rol",
        "bit.ror",
        "bit.bswap",
        "bit.bnot",
        "bit.band",
        "struct.pack",
        "struct.unpack",
        "struct.size",
        "cmsgpack.pack",
        "cmsgpack.unpack",
        "cmsgpack.unpack_one",
        "cmsgpack.unpack_limit",
        "cjson.encode",
        "cjson.decode",
        "cjson.encode_max_depth",
        "cjson.decode_max_depth",
        "cjson.encode_sparse_array",
        "cjson.encode_number_precision",
        "cjson.encode_keep_buffer",
        "cjson.encode_invalid_numbers",
        "cjson.decode_invalid_numbers",
        "redis.sha1hex",
        "redis.log",
        "redis.setresp",
        "redis.set_repl",
        "coroutine.wrap",
        "redis.call",
    ];
    let mut chance = 1_u32;
    let mut pick = || {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        VALUES[(chance >> 8) as usize % VALUES.len()]
    };
    for function in FUNCTIONS {
        for first in ["'abc'", "{1, 2, 3}", "'i4'", "255", ""] {
            for _ in 0..6 {
                let first = if first.is_empty() { pick() } else { first };
                let call = format!("{function}, {first}, {}, {}, {}", pick(), pick(), pick());
                let shown = shown(&format!("return type(pcall({call}))"));
                assert!(shown == "boolean" || shown == STEPS || shown == MEMORY, "{call}: {shown}");
            }
        }
    }
}

/// Made by comparing with what Lua's quicksort does to it: each division splits off next to nothing.
#[test]
fn sorting_is_never_quadratic() {
    let script = "local count, n, value, solid, candidate, gas = 0, 2000, {}, 0, 1, 2000
        for i = 1, n do value[i] = gas end
        local places = {} for i = 1, n do places[i] = i end
        table.sort(places, function(a, b)
            count = count + 1
            if value[a] == gas and value[b] == gas then
                if a == candidate then value[a] = solid else value[b] = solid end
                solid = solid + 1
            end
            if value[a] == gas then candidate = a elseif value[b] == gas then candidate = b end
            return value[a] < value[b]
        end)
        table.sort(value)
        for i = 2, n do if value[i - 1] > value[i] then return 'out of order' end end
        return count < 250000 and 'sorted' or 'compared ' .. count";
    check_script(script, "sorted");
}
