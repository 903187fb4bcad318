//! Random scripts. They are made to show what could differ between nodes: chance, time, the order of tables, the
//! text of numbers and of values that have an address; and they write what they see.

use compat_tests::dice::Dice;

/// Commands whose arguments are such that they do something, `K` for a key.
const COMMANDS: [&str; 66] = [
    "'SET', K, V",
    "'SET', K, V",
    "'SET', K, V, 'NX', 'GET'",
    "'SET', K, V, 'PX', '30'",
    "'SET', K, V, 'EX', '5000'",
    "'SETNX', K, V",
    "'GETSET', K, V",
    "'GETDEL', K",
    "'GETEX', K, 'PERSIST'",
    "'GET', K",
    "'MSET', K, V, K, V",
    "'MSETNX', K, V, K, V",
    "'MGET', K, K, K",
    "'APPEND', K, V",
    "'INCR', K",
    "'INCRBY', K, I",
    "'DECRBY', K, I",
    "'INCRBYFLOAT', K, F",
    "'SETRANGE', K, '7', V",
    "'GETRANGE', K, '1', '-2'",
    "'STRLEN', K",
    "'LCS', K, K",
    "'DEL', K",
    "'UNLINK', K, K",
    "'EXISTS', K, K",
    "'TYPE', K",
    "'RENAME', K, K",
    "'RENAMENX', K, K",
    "'COPY', K, K, 'REPLACE'",
    "'MOVE', K, '3'",
    "'RANDOMKEY'",
    "'KEYS', '*'",
    "'SCAN', '0', 'COUNT', '5'",
    "'DBSIZE'",
    "'EXPIRE', K, '5000'",
    "'PEXPIRE', K, '20'",
    "'PEXPIREAT', K, '1'",
    "'PERSIST', K",
    "'PTTL', K",
    "'PEXPIRETIME', K",
    "'TOUCH', K",
    "'TIME'",
    "'SELECT', '3'",
    "'PUBLISH', 'channel', V",
    "'OBJECT', 'ENCODING', K",
    "'HSET', K, V, V, V, V",
    "'HSETNX', K, V, V",
    "'HINCRBY', K, 'n', I",
    "'HINCRBYFLOAT', K, 'f', F",
    "'HDEL', K, V",
    "'HGETALL', K",
    "'HKEYS', K",
    "'HRANDFIELD', K, '3', 'WITHVALUES'",
    "'HSCAN', K, '0'",
    "'RPUSH', K, V, V, V",
    "'LPUSH', K, V",
    "'LPOP', K",
    "'RPOP', K, '2'",
    "'LRANGE', K, '0', '-1'",
    "'LINSERT', K, 'BEFORE', V, V",
    "'LSET', K, '0', V",
    "'LREM', K, '0', V",
    "'LTRIM', K, '0', '20'",
    "'LMOVE', K, K, 'LEFT', 'RIGHT'",
    "'LPOS', K, V",
    "'BLPOP', K, '0'",
];

/// Expressions, `E` for another, `X` for a function and arguments that are extreme.
const EXPRESSIONS: [&str; 61] = [
    "math.random()",
    "math.random(1, 1000)",
    "tostring(math.random())",
    "redis.call('TIME')[1]",
    "table.concat(redis.call('TIME'), '.')",
    "os.clock()",
    "tostring(t)",
    "tostring(pairs)",
    "tostring(redis.call)",
    "tostring(coroutine.create(function() end))",
    "#t",
    "cjson.encode(t)",
    "cjson.encode({a = E, b = E, c = {1, 2, E}})",
    "cjson.encode(cjson.decode('{\"z\":1,\"y\":[1.5,null,true],\"x\":\"\\\\u00e4\"}'))",
    "cmsgpack.pack(t)",
    "cmsgpack.unpack(cmsgpack.pack(E))",
    "struct.pack('>I4d', 7, 1.5)",
    "bit.tohex(bit.bxor(12345, E))",
    "redis.sha1hex(tostring(E))",
    "string.format('%.17g', E)",
    "string.format('%q', tostring(E))",
    "string.format('%5.2f|%d|%s', 1/3, 7, tostring(E))",
    "string.rep(tostring(E), 3)",
    "string.rep('ab', 100)",
    "string.reverse(tostring(E))",
    "string.upper(tostring(E))",
    "string.sub(tostring(E), 2, -2)",
    "string.gsub(tostring(E), '%w+', '<%0>')",
    "string.gsub(tostring(E), '.', {a = 'A', ['1'] = 'one'})",
    "string.find(tostring(E), '(%d+)')",
    "string.match(tostring(E), '%a+')",
    "string.byte(tostring(E), 1)",
    "#tostring(E)",
    "tostring(E) .. tostring(E)",
    "(tonumber(E) or 1) + 1",
    "(tonumber(E) or 1) * 1.1",
    "(tonumber(E) or 1) / 3",
    "(tonumber(E) or 1) % 7",
    "(tonumber(E) or 1) ^ 0.5",
    "math.sin(tonumber(E) or 1)",
    "math.exp(0.1)",
    "math.floor(tonumber(E) or 1.5)",
    "math.max(1, tonumber(E) or 2)",
    "1e100",
    "-0.0",
    "0/0",
    "1/0",
    "2^53 + 1",
    "E == E",
    "not E",
    "E and E or E",
    "select('#', unpack(t))",
    "select(2, pcall(X))",
    "select(3, pcall(X))",
    "select('#', pcall(X))",
    "select(2, pcall(error, {code = 7}))",
    "select(2, pcall(error, 'message'))",
    "tostring(select(2, pcall(redis.call, 'INCR', 'k1', 'k2')))",
    "type(E)",
    "KEYS[1]",
    "ARGV[1]",
];

/// Functions of all libraries that take places, counts or sizes.
const FUNCTIONS: [&str; 45] = [
    "unpack",
    "select",
    "tonumber",
    "rawget",
    "rawset",
    "next",
    "error",
    "math.random",
    "math.ldexp",
    "math.fmod",
    "math.modf",
    "math.pow",
    "string.rep",
    "string.sub",
    "string.byte",
    "string.char",
    "string.find",
    "string.match",
    "string.gmatch",
    "string.gsub",
    "string.format",
    "table.concat",
    "table.insert",
    "table.remove",
    "table.sort",
    "table.getn",
    "table.maxn",
    "bit.tobit",
    "bit.tohex",
    "bit.lshift",
    "bit.arshift",
    "bit.rol",
    "bit.bswap",
    "struct.pack",
    "struct.unpack",
    "struct.size",
    "cmsgpack.pack",
    "cmsgpack.unpack",
    "cmsgpack.unpack_one",
    "cmsgpack.unpack_limit",
    "cjson.encode",
    "cjson.encode_max_depth",
    "cjson.encode_sparse_array",
    "cjson.encode_number_precision",
    "redis.setresp",
];

/// What these may be told: the ends of what ints and floats can say, and what has places.
const EXTREMES: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2147483647",
    "-2147483648",
    "2^31",
    "-2^31 - 1",
    "2^32 - 1",
    "2^32 + 1",
    "2^53",
    "-2^53",
    "2^63",
    "-2^63",
    "2^64",
    "1e308",
    "0/0",
    "1/0",
    "-1/0",
    "0.5",
    "'abc'",
    "'%99.99f'",
    "'>I4c0'",
    "{1, 2, 3}",
    "nil",
];

/// Statements, `B` for a block.
const STATEMENTS: [&str; 37] = [
    "note(E)",
    "note(E)",
    "note(E)",
    "t[#t + 1] = E",
    "t[tostring(E)] = E",
    "t[E or 1] = E",
    "t = {E, E, x = E, [tostring(E)] = E}",
    "for k, v in pairs(t) do note(k) note(v) end",
    "for i, v in ipairs(t) do note(v) end",
    "for k, v in pairs({a = 1, b = 2, c = 3, [1] = 4, [2.5] = 5, [true] = 6}) do note(k) end",
    "for k in pairs({[t] = 1, [pairs] = 2, [{}] = 3}) do note(k) end",
    "for k in pairs(redis) do note(k) end",
    "for i = 1, I % 20 do B end",
    "if E then B else B end",
    "pcall(function() B end)",
    "local ok, e = pcall(function() B error(E) end) note(e)",
    "local c = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(E) end end) note(c()) note(c())",
    "table.sort(t, function(a, b) return tostring(a) < tostring(b) end)",
    "table.sort(t, function(a, b) return math.random() < 0.5 end)",
    "table.insert(t, E)",
    "table.remove(t)",
    "for word in string.gmatch(tostring(E), '%w+') do note(word) end",
    "math.randomseed(tonumber(E) or 1) note(math.random())",
    "t = setmetatable({}, {__index = function(_, k) return tostring(k) .. 'x' end, __mode = 'k'}) note(t[E])",
    "note(collectgarbage('count'))",
    "note(gcinfo and gcinfo())",
    "redis.setresp(3) note(redis.call('HGETALL', 'h')) redis.setresp(2)",
    "redis.log(redis.LOG_DEBUG, tostring(E))",
    "error(E)",
    "error({err = 'ERR mine'})",
    "do return E end",
    "undefined_variable = E",
    "local s = 'x' for i = 1, 10 do s = s .. s end note(#s)",
    "loadstring('note = ...')(E)",
    "note(select(2, pcall(X)))",
    "note(select(2, pcall(X)))",
    "local n = 0 note(load(function() n = n + 1 return ({'return ', E, nil})[n] end))",
];

/// Statements that would never end, or would take all memory: they cost so much that few scripts have one.
const ENDLESS: [&str; 8] = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local s = 'x' while true do s = s .. s end",
    "while true do t[#t + 1] = string.rep('x', 1000) end",
    "while true do t[#t + 1] = {} end",
    "local function f() return f() + 1 end f()",
    "coroutine.wrap(function() while true do end end)()",
    "while true do redis.call('APPEND', 'k1', 'xxxxxxxxxxxxxxxx') end",
];

/// One script in so many has such a statement.
const ENDLESS_ONE_IN: usize = 60;

const PRELUDE: &str = "local t, noted = {}, 0
local function note(x)
  noted = noted + 1
  if type(x) == 'table' then x = cjson.encode(x) end
  redis.call('APPEND', 'note:' .. noted % 50, tostring(x) .. ';')
end
";

/// Makes scripts from a seed.
pub struct Generator {
    dice: Dice,
    commands: Vec<String>,
}

impl Generator {
    /// `commands`: the names of all commands there are.
    pub fn new(seed: u64, commands: Vec<String>) -> Self {
        Self { dice: Dice::new(seed), commands }
    }

    /// A script, and what follows it in EVAL.
    pub fn script(&mut self) -> (String, Vec<String>) {
        let mut script = PRELUDE.to_owned();
        for _ in 0..3 + self.dice.below(8) {
            // Most errors are caught, so that most scripts get to their end.
            let caught = self.dice.below(8) > 0;
            script.push_str(if caught { "note(select(2, pcall(function() " } else { "" });
            self.statement(&mut script, 0);
            script.push_str(if caught { "end)))\n" } else { "" });
        }
        if self.dice.below(ENDLESS_ONE_IN) == 0 {
            let &endless = self.dice.pick(&ENDLESS);
            script.push_str(endless);
            script.push('\n');
        }
        if self.dice.below(2) == 0 {
            script.push_str("do return ");
            self.expression(&mut script, 0);
            script.push_str(" end\n");
        }
        let key = format!("k{}", self.dice.below(20));
        (script, vec!["1".to_owned(), key, self.value()])
    }

    fn statement(&mut self, to: &mut String, depth: u32) {
        if self.dice.below(2) == 0 || depth > 3 {
            let call = if self.dice.below(3) == 0 { "redis.call" } else { "redis.pcall" };
            to.push_str(&format!("note({call}("));
            if self.dice.below(12) == 0 {
                self.any_command(to);
            } else {
                let template = self.dice.pick(&COMMANDS);
                self.fill(template, to, depth);
            }
            to.push_str("))\n");
        } else {
            let template = self.dice.pick(&STATEMENTS);
            self.fill(template, to, depth);
            to.push('\n');
        }
    }

    /// Any command that the server has, with arguments that hardly fit.
    fn any_command(&mut self, to: &mut String) {
        let name = self.dice.pick(&self.commands).clone();
        // A subcommand is listed as container|name.
        let words: Vec<_> = name.split('|').map(|word| format!("'{word}'")).collect();
        to.push_str(&words.join(", "));
        for _ in 0..self.dice.below(5) {
            let argument = if self.dice.below(2) == 0 { self.key() } else { self.value() };
            to.push_str(&format!(", '{argument}'"));
        }
    }

    fn expression(&mut self, to: &mut String, depth: u32) {
        if depth > 3 || self.dice.below(3) == 0 {
            let literal = match self.dice.below(3) {
                0 => self.dice.below(1000).to_string(),
                1 => format!("'{}'", self.value()),
                _ => "noted".to_owned(),
            };
            to.push_str(&literal);
        } else {
            let template = self.dice.pick(&EXPRESSIONS);
            to.push('(');
            self.fill(template, to, depth);
            to.push(')');
        }
    }

    /// Writes a template, whose capital letters that stand alone stand for something random.
    fn fill(&mut self, template: &str, to: &mut String, depth: u32) {
        let alone = |byte: Option<&u8>| {
            byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_'%".contains(byte))
        };
        let bytes = template.as_bytes();
        for (i, letter) in template.char_indices() {
            let before = i.checked_sub(1).and_then(|i| bytes.get(i));
            if !(alone(before) && alone(bytes.get(i + 1))) {
                to.push(letter);
                continue;
            }
            match letter {
                'E' => self.expression(to, depth + 1),
                'B' => self.statement(to, depth + 1),
                'X' => self.extreme(to),
                'K' => to.push_str(&format!("'{}'", self.key())),
                'V' => to.push_str(&format!("'{}'", self.value())),
                'I' => to.push_str(&self.dice.below(1000).to_string()),
                'F' => to.push_str(&format!("'{}.{}'", self.dice.below(100), self.dice.below(1000))),
                letter => to.push(letter),
            }
        }
    }

    /// A function, and arguments that it may not be ready for.
    fn extreme(&mut self, to: &mut String) {
        let &function = self.dice.pick(&FUNCTIONS);
        to.push_str(function);
        // Mostly what the function is about comes first, and then places in it.
        let &subject = self.dice.pick(&["'abc'", "{1, 2, 3}", "t", "255", "'>I4c0'"]);
        to.push_str(", ");
        to.push_str(subject);
        for _ in 0..self.dice.below(4) {
            to.push_str(", ");
            let &extreme = self.dice.pick(&EXTREMES);
            to.push_str(extreme);
        }
    }

    fn key(&mut self) -> String {
        // Mostly keys of one type, so that commands find what they are for.
        let kind = self.dice.pick(&["k", "h", "l"]);
        format!("{kind}{}", self.dice.below(12))
    }

    fn value(&mut self) -> String {
        const VALUES: [&str; 12] =
            ["a", "b", "7", "-3", "1.25", "10", "", "long value with spaces", "1e3", "0", "GT", "*"];
        (*self.dice.pick(&VALUES)).to_owned()
    }
}
