-- What every interpreter runs first: it turns Lua's own library into the one that scripts see.
--
-- It is Lua where Lua is better at it: errors keep being Lua's, and coroutines can yield through it. Its
-- functions have no line of their own in the errors a script sees: see failure.rs.
--
-- A script calls each of these functions through one of C, `expose`: so the level of its call, for `error`, is 3.
--
-- Three rules. Nothing that outlives a script can be changed by one (protect). Nothing shows an address, or
-- an order that depends on one (tostring, order). No loop that Lua's machine does not count goes unpaid
-- (charge).

local native, globals = ...

local error, getmetatable, next, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type, unpack =
    error, getmetatable, next, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type, unpack
local xpcall = xpcall
local create, resume = coroutine.create, coroutine.resume
local byte, find, format, lower, rep, reverse, sub, upper = string.byte, string.find, string.format, string.lower,
    string.rep, string.reverse, string.sub, string.upper
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local frexp = math.frexp
local charge, charge_bytes, charge_instructions, expose, plain, place =
    native.charge, native.charge_bytes, native.charge_instructions, native.expose, native.plain, native.place

-- Loops shorter than this are not worth a charge.
local SHORT = 64
-- How many values Lua can return.
local RESULTS_MAX = 8000
local READONLY = "Attempt to modify a readonly table"

-- Fails as Redis' own functions do.
local function fail(text)
  error({err = text}, 0)
end

-- Charges for going from one place to another.
local function charge_range(first, last)
  first, last = tonumber(first), tonumber(last)
  if first and last and last - first > SHORT then
    charge(last - first)
  end
end

local function charge_text(text)
  if type(text) == "string" and #text > SHORT then
    charge_bytes(#text)
  end
end

-- Protection ---------------------------------------------------------------------------------------------

-- What stands behind each table that scripts see and cannot change.
local protected = {}

local function refuse()
  error(READONLY, 2)
end

local function protect(real)
  local shown = setmetatable({}, {__index = real, __newindex = refuse})
  protected[shown] = real
  return shown
end

local function check_writable(table)
  if protected[table] then
    error(READONLY, 0)
  end
end

-- Order --------------------------------------------------------------------------------------------------

-- The keys of a table in an order of their own: numbers, strings, booleans, each ascending. Lua's order
-- depends on addresses as soon as a table has had keys that are tables, functions or coroutines. Those
-- themselves have no order that all nodes could agree on. What is done, and how many instructions it takes,
-- must not depend on Lua's order either.
local function order(real)
  local keys, count = {}, 0
  local strings, strings_count = {}, 0
  local has_false, has_true, has_other = false, false, false
  for key in next, real do
    local kind = type(key)
    if kind == "number" then
      count = count + 1
      keys[count] = key
    elseif kind == "string" then
      strings_count = strings_count + 1
      strings[strings_count] = key
    elseif key == true then
      has_true = true
    elseif key == false then
      has_false = true
    else
      has_other = true
    end
  end
  if has_other then
    error("keys that are tables, functions or coroutines have no order", 4)
  end
  if count > 1 then
    charge_instructions(count * 8)
    sort(keys)
  end
  if strings_count > 1 then
    charge_instructions(strings_count * 8)
    sort(strings)
  end
  for index = 1, strings_count do
    count = count + 1
    keys[count] = strings[index]
  end
  if has_false then
    count = count + 1
    keys[count] = false
  end
  if has_true then
    count = count + 1
    keys[count] = true
  end
  return keys, count
end

local function check_table(value, given, name)
  if type(value) ~= "table" then
    local got = given == 0 and "no value" or type(value)
    error(format("bad argument #1 to '%s' (table expected, got %s)", name, got), 4)
  end
end

local function ordered_pairs(...)
  local shown = ...
  check_table(shown, select("#", ...), "pairs")
  local real = protected[shown] or shown
  local keys, count = order(real)
  local index = 0
  return function()
    while index < count do
      index = index + 1
      local key = keys[index]
      local value = rawget(real, key)
      if value ~= nil then
        return key, value
      end
    end
  end, shown, nil
end

-- Where the last traversal by hand is: `next` is told a key, and finds it here.
local walk_table, walk_keys, walk_count, walk_index

local function ordered_next(...)
  local shown, after = ...
  check_table(shown, select("#", ...), "next")
  local real = protected[shown] or shown
  if after == nil then
    walk_keys, walk_count = order(real)
    walk_table, walk_index = real, 0
  elseif walk_table ~= real or walk_keys[walk_index] ~= after then
    walk_keys, walk_count = order(real)
    walk_table, walk_index = real, nil
    for index = 1, walk_count do
      if walk_keys[index] == after then
        walk_index = index
        break
      end
    end
    if not walk_index then
      walk_table = nil
      error("invalid key to 'next'", 0)
    end
  end
  while walk_index < walk_count do
    walk_index = walk_index + 1
    local key = walk_keys[walk_index]
    local value = rawget(real, key)
    if value ~= nil then
      return key, value
    end
  end
  walk_table = nil
  return nil
end

-- Errors -------------------------------------------------------------------------------------------------

-- What a failed call hands to the one who caught it. `plain` never returns in an aborted script.
local function caught(ok, ...)
  if ok then
    return true, ...
  end
  return false, plain((...))
end

-- As `caught`; an error of Redis' functions is its text.
local function caught_text(ok, ...)
  if ok then
    return true, ...
  end
  local err = plain((...))
  if type(err) == "table" then
    local text = rawget(err, "err")
    if type(text) == "string" or type(text) == "number" then
      return false, text
    end
    return false, err, text
  end
  return false, err
end

-- Calls within calls of C need C's stack, of which Lua does not know how much there is, and a coroutine begins
-- to count anew. So they are counted here, each by what it may need; none ends but by returning here.
local DEPTH_MAX, PCALL_DEPTH, RESUME_DEPTH = 160, 1, 20
local depth = 0

local function enter(cost)
  if depth + cost > DEPTH_MAX then
    error("C stack overflow", 4)
  end
  depth = depth + cost
end

local function back(cost, ...)
  depth = depth - cost
  return ...
end

globals.pcall = function(...)
  enter(PCALL_DEPTH)
  return caught_text(back(PCALL_DEPTH, pcall(...)))
end

globals.xpcall = function(run, handler)
  enter(PCALL_DEPTH)
  return caught(back(PCALL_DEPTH, xpcall(run, function(err)
    return handler(plain(err))
  end)))
end

-- Base ---------------------------------------------------------------------------------------------------

globals.pairs = ordered_pairs
globals.next = ordered_next

globals.rawget = function(...)
  local shown, key = ...
  local real = protected[shown]
  if real then
    return rawget(real, key)
  end
  return rawget(...)
end

globals.rawset = function(...)
  check_writable((...))
  return rawset(...)
end

globals.setmetatable = function(...)
  check_writable((...))
  return setmetatable(...)
end

local globals_metatable, string_metatable

globals.getmetatable = function(...)
  local value = ...
  if type(value) == "string" then
    return string_metatable
  end
  if protected[value] then
    return protected[value] == globals and globals_metatable or nil
  end
  return getmetatable(...)
end

globals.tostring = function(...)
  local value = ...
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "thread" or kind == "userdata" then
    local metatable = not protected[value] and getmetatable(value)
    if type(metatable) ~= "table" or rawget(metatable, "__tostring") == nil then
      -- The only userdata that a script can have is cjson.null, which is nowhere.
      return kind == "userdata" and "userdata: (nil)" or kind .. ": 0x00000000"
    end
  end
  return tostring(...)
end

globals.unpack = function(...)
  local values, first, last = ...
  if type(values) == "table" then
    first, last = tonumber(first or 1), tonumber(last or #values)
    -- More than that fails at once.
    if first and last and last - first < RESULTS_MAX then
      charge_range(first, last)
    end
  end
  return unpack(...)
end

globals.collectgarbage = function()
  return 0
end

globals.gcinfo = function()
  return 0, 0
end

globals.loadstring = function(source, name)
  return native.compile(source, name or source)
end

globals.load = function(reader, name)
  local parts, count = {}, 0
  while true do
    local part = reader()
    if part == nil or part == "" then
      break
    end
    if type(part) ~= "string" then
      return nil, "reader function must return a string"
    end
    count = count + 1
    parts[count] = part
  end
  return native.compile(concat(parts), name or "=(load)")
end

for _, name in next, {
  "dofile", "getfenv", "loadfile", "module", "newproxy", "print", "require", "setfenv", "package", "debug",
  "io", "os",
} do
  globals[name] = nil
end

-- Coroutines ---------------------------------------------------------------------------------------------

local function charge_coroutine()
  charge(native.COROUTINE_STEPS)
  charge_instructions(native.COROUTINE_INSTRUCTIONS)
end

globals.coroutine.create = function(...)
  charge_coroutine()
  return create(...)
end

globals.coroutine.resume = function(...)
  enter(RESUME_DEPTH)
  return caught(back(RESUME_DEPTH, resume(...)))
end

local function passed_on(ok, ...)
  if ok then
    return ...
  end
  local err = plain((...))
  error(type(err) == "string" and place(4) .. err or err, 0)
end

globals.coroutine.wrap = function(run)
  charge_coroutine()
  local thread = create(run)
  return expose(function(...)
    enter(RESUME_DEPTH)
    return passed_on(back(RESUME_DEPTH, resume(thread, ...)))
  end)
end

-- Strings ------------------------------------------------------------------------------------------------

local function charged(run)
  return function(...)
    charge_text((...))
    return run(...)
  end
end

globals.string.lower = charged(lower)
globals.string.upper = charged(upper)
globals.string.reverse = charged(reverse)

globals.string.sub = function(...)
  local text = sub(...)
  charge_text(text)
  return text
end

globals.string.byte = function(...)
  local text, first, last = ...
  if last and type(text) == "string" then
    charge_range(0, #text)
  end
  return byte(...)
end

globals.string.rep = function(...)
  local text, times = ...
  times = tonumber(times) or 0
  if times > 0 then
    charge(times)
    charge_bytes(times * (type(text) == "string" and #text or SHORT))
  end
  return rep(...)
end

-- A number of hundreds of digits takes C as long as its digits are many, each; longer texts are copied.
local DIGITS_MAX, DIGIT_STEPS = 16384, 8

globals.string.format = function(...)
  local text = format(...)
  if #text > SHORT then
    charge((#text < DIGITS_MAX and #text or DIGITS_MAX) * DIGIT_STEPS)
  end
  charge_text(text)
  return text
end

-- Tables -------------------------------------------------------------------------------------------------

globals.table.concat = function(...)
  local values, separator, first, last = ...
  -- A first value that is missing ends it at once.
  if type(values) == "table" and rawget(values, tonumber(first) or 1) ~= nil then
    charge_range(first or 1, last or #values)
  end
  local text = concat(...)
  charge_text(text)
  return text
end

globals.table.insert = function(...)
  local values, position = ...
  check_writable(values)
  if select("#", ...) > 2 and type(values) == "table" then
    charge_range(position, #values)
  end
  return insert(...)
end

globals.table.remove = function(...)
  local values, position = ...
  check_writable(values)
  if position and type(values) == "table" then
    charge_range(position, #values)
  end
  return remove(...)
end

globals.table.sort = function(...)
  local values = ...
  check_writable(values)
  if type(values) == "table" then
    local _, doublings = frexp(#values)
    charge_instructions(#values * doublings)
  end
  return sort(...)
end

globals.table.maxn = function(...)
  local values = ...
  check_table(values, select("#", ...), "maxn")
  local largest = 0
  for key in next, values do
    if type(key) == "number" and key > largest then
      largest = key
    end
  end
  return largest
end

globals.table.foreach = function(values, visit)
  check_table(values, 1, "foreach")
  for key, value in ordered_pairs(values) do
    local result = visit(key, value)
    if result ~= nil then
      return result
    end
  end
end

-- Redis --------------------------------------------------------------------------------------------------

-- Runs a command for the script that runs now: whether it failed, and what it answered.
local invoke
local CALL, CALL_LIST, CHECK = native.CALL, native.CALL_LIST, native.CHECK
-- More words than these are handed over in a table.
local MANY = 1000
local redis = native.redis
globals.redis = redis

local function ask(...)
  local count = select("#", ...)
  if count > MANY then
    return invoke(CALL_LIST, {...}, count)
  end
  return invoke(CALL, ...)
end

redis.call = function(...)
  local failed, reply = ask(...)
  if failed then
    error(reply, 0)
  end
  return reply
end

redis.pcall = function(...)
  local _, reply = ask(...)
  return reply
end

redis.error_reply = function(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return {err = "ERR wrong number or type of arguments"}
  end
  if sub(text, 1, 1) == "-" then
    text = sub(text, 2)
  end
  if not find(text, " ", 1, true) then
    text = "ERR " .. text
  end
  return {err = text}
end

redis.status_reply = function(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then
    return {err = "ERR wrong number or type of arguments"}
  end
  return {ok = text}
end

redis.sha1hex = function(...)
  if select("#", ...) ~= 1 then
    fail("ERR wrong number of arguments")
  end
  local text = ...
  if type(text) ~= "string" then
    text = type(text) == "number" and tostring(text) or ""
  end
  return native.sha1hex(text)
end

redis.setresp = function(...)
  if select("#", ...) ~= 1 then
    fail("ERR redis.setresp() requires one argument.")
  end
  if not native.setresp(tonumber((...)) or 0) then
    fail("ERR RESP version must be 2 or 3.")
  end
end

redis.set_repl = function(...)
  if select("#", ...) ~= 1 then
    fail("ERR redis.set_repl() requires two arguments.")
  end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags >= 4 then
    fail("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end

redis.replicate_commands = function()
  return true
end

redis.breakpoint = function()
  return false
end

redis.debug = function() end

redis.log = function(...)
  local level = ...
  if select("#", ...) < 2 then
    fail("ERR redis.log() requires two arguments or more.")
  end
  if type(level) ~= "number" then
    fail("ERR First argument must be a number (log level).")
  end
  if level < redis.LOG_DEBUG or level > redis.LOG_WARNING then
    fail("ERR Invalid debug level.")
  end
  local words = {}
  for index = 2, select("#", ...) do
    local word = select(index, ...)
    if type(word) == "string" or type(word) == "number" then
      words[#words + 1] = word
    end
  end
  native.log(level, concat(words, " "))
end

redis.acl_check_cmd = function(...)
  if select("#", ...) == 0 then
    fail("ERR Please specify at least one argument for this redis lib call")
  end
  for index = 1, select("#", ...) do
    local word = select(index, ...)
    if type(word) ~= "string" and type(word) ~= "number" then
      fail("ERR redis.acl_check_cmd() require string or integer arguments")
    end
  end
  if select("#", ...) > MANY then
    fail("ERR too many arguments")
  end
  local _, answer = invoke(CHECK, ...)
  if not answer then
    fail("ERR Invalid command passed to redis.acl_check_cmd()")
  end
  return true
end

-- The script ---------------------------------------------------------------------------------------------

local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end

-- Scripts see what is behind `globals`, which they cannot change; its tables neither.
local function expose_all(library)
  for name, value in next, library do
    if type(value) == "function" then
      library[name] = expose(value)
    end
  end
end

expose_all(globals)
for name, value in next, globals do
  if type(value) == "table" and value ~= globals then
    expose_all(value)
    globals[name] = protect(value)
  end
end
string_metatable = protect({__index = globals.string})
globals_metatable = protect({__index = missing})
globals._G = protect(setmetatable(globals, {__index = missing}))

-- Libraries of functions --------------------------------------------------------------------------------

-- While a library loads, all it sees is a `redis` to register its functions with; when one of them runs, what
-- scripts see. The library is loaded for each call: nothing is left of the one before.

-- What the library that loads has registered, by name; nil when none loads.
local registered
local FLAGS, NAME_CHARS_MAX = native.FLAGS, native.NAME_CHARS_MAX

local function text_of(value)
  if type(value) == "string" or type(value) == "number" then
    return tostring(value)
  end
end

-- The bits of the flags in a list, or nil if one is unknown.
local function flags_of(list)
  local bits, index = {}, 1
  while list[index] ~= nil do
    local bit = FLAGS[lower(text_of(list[index]) or "")]
    if not bit then
      return nil
    end
    bits[bit], index = true, index + 1
  end
  local sum = 0
  for bit in next, bits do
    sum = sum + bit
  end
  return sum
end

local function register(name, callback, description, flags)
  if not find(name, "^[%w_]+$") then
    fail("ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one " ..
      "character long")
  end
  if #name > NAME_CHARS_MAX then
    fail("ERR Function names can have no more than " .. NAME_CHARS_MAX .. " characters")
  end
  -- Functions are found in any case.
  local key = lower(name)
  if registered[key] then
    fail("ERR Function already exists in the library")
  end
  registered[key] = {name = name, callback = callback, description = description, flags = flags}
end

-- Readers of what `register_function` can be told by name.
local named = {
  function_name = function(found, value)
    found.name = text_of(value) or fail("ERR function_name argument given to redis.register_function must be a string")
  end,
  description = function(found, value)
    found.description = text_of(value) or
      fail("ERR description argument given to redis.register_function must be a string")
  end,
  callback = function(found, value)
    if type(value) ~= "function" then
      fail("ERR callback argument given to redis.register_function must be a function")
    end
    found.callback = value
  end,
  flags = function(found, value)
    if type(value) ~= "table" then
      fail("ERR flags argument to redis.register_function must be a table representing function flags")
    end
    found.flags = flags_of(value) or fail("ERR unknown flag given")
  end,
}

local function register_named(arguments)
  if type(arguments) ~= "table" then
    fail("ERR calling redis.register_function with a single argument is only applicable to Lua table " ..
      "(representing named arguments).")
  end
  for key in next, arguments do
    if not text_of(key) then
      fail("ERR named argument key given to redis.register_function is not a string")
    end
  end
  local found = {flags = 0}
  local keys, count = order(arguments)
  for index = 1, count do
    local read = named[lower(text_of(keys[index]))]
    if not read then
      fail("ERR unknown argument given to redis.register_function")
    end
    read(found, rawget(arguments, keys[index]))
  end
  if not found.name then
    fail("ERR redis.register_function must get a function name argument")
  end
  if not found.callback then
    fail("ERR redis.register_function must get a callback argument")
  end
  register(found.name, found.callback, found.description, found.flags)
end

local function register_function(...)
  if not registered then
    fail("ERR redis.register_function can only be called on FUNCTION LOAD command")
  end
  local count, name, callback = select("#", ...), ...
  if count < 1 or count > 2 then
    fail("ERR wrong number of arguments to redis.register_function")
  end
  if count == 1 then
    return register_named(name)
  end
  if not text_of(name) then
    fail("ERR first argument to redis.register_function must be a string")
  end
  if type(callback) ~= "function" then
    fail("ERR second argument to redis.register_function must be a function")
  end
  register(text_of(name), callback, nil, 0)
end

local loading_redis = {register_function = expose(register_function)}
for _, name in next, {
  "log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM",
} do
  loading_redis[name] = redis[name]
end
local loading_globals = {redis = protect(setmetatable(loading_redis, {__index = missing}))}
setmetatable(loading_globals, {__index = missing})
local library_metatable = {__index = globals, __newindex = refuse}
local library_environment = setmetatable({}, library_metatable)

local function load_library(library)
  registered = {}
  library_metatable.__index = loading_globals
  library()
  library_metatable.__index = globals
  local found = registered
  registered = nil
  return found
end

-- What FUNCTION LOAD keeps of a library's functions: name, description or false, and flags of each.
local function list_functions(library)
  local found = load_library(library)
  local keys, count = order(found)
  local list = {}
  for index = 1, count do
    local entry = found[keys[index]]
    list[3 * index - 2] = entry.name
    list[3 * index - 1] = entry.description or false
    list[3 * index] = entry.flags
  end
  return list
end

local function call_function(library, name, keys, argv)
  return load_library(library)[name].callback(keys, argv)
end

-- Rust takes one value: a script can return more than Rust could refer to.
local function leave(ok, value)
  depth = 0
  walk_table, walk_keys = nil, nil
  globals.KEYS, globals.ARGV = nil, nil
  library_metatable.__index, registered = globals, nil
  return ok, value
end

-- Runs a script for whoever `host` speaks to; `failure` is handed what it fails with.
local function run(script, host, failure, keys, argv)
  invoke = host
  globals.KEYS, globals.ARGV = keys, argv
  return leave(xpcall(script, failure))
end

-- Calls a function with arguments, in the same way.
local function call(callee, host, failure, ...)
  local arguments, count = {...}, select("#", ...)
  invoke = host
  return leave(xpcall(function()
    return callee(unpack(arguments, 1, count))
  end, failure))
end

return globals._G, order, run, {
  call = call,
  environment = library_environment,
  list_functions = list_functions,
  call_function = call_function,
}
