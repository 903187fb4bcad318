-- How a script runs, and a function of a library: the last part, and what the whole prelude answers.

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
  for key, value in next, arguments do
    local read = named[lower(text_of(key))]
    if not read then
      fail("ERR unknown argument given to redis.register_function")
    end
    read(found, value)
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
  local list = {}
  for _, entry in next, found do
    local count = #list
    list[count + 1] = entry.name
    list[count + 2] = entry.description or false
    list[count + 3] = entry.flags
  end
  return list
end

local function call_function(library, name, keys, argv)
  return load_library(library)[name].callback(keys, argv)
end

-- Rust takes one value: a script can return more than Rust could refer to.
local function leave(ok, value)
  depth = 0
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

return globals._G, run, {
  call = call,
  environment = library_environment,
  list_functions = list_functions,
  call_function = call_function,
}
