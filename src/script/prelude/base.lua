-- Lua's basic functions and coroutines: errors are caught, but not those that end a script; nothing shows an
-- address, and nothing gets out.

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

globals.pairs = shown_pairs
globals.next = shown_next

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
  local kind = type(value)
  if kind == "string" then
    return string_metatable
  elseif kind == "number" then
    return nil
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
    first, last = tonumber(as_int(first or 1)), tonumber(as_int(last or #values))
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

-- What Lua's `load` compiled, or nil and why it did not: like a protected call, it catches what its reader fails with.
local function loaded(compiled, ...)
  if compiled then
    return setfenv(compiled, globals._G)
  end
  return nil, plain((...))
end

globals.load = function(...)
  local reader, name = ...
  if name ~= nil and type(name) ~= "string" and type(name) ~= "number" then
    error(format("bad argument #2 to 'load' (string expected, got %s)", type(name)), 3)
  end
  if type(reader) ~= "function" then
    local got = select("#", ...) == 0 and "no value" or type(reader)
    error(format("bad argument #1 to 'load' (function expected, got %s)", got), 3)
  end
  enter(PCALL_DEPTH)
  return loaded(back(PCALL_DEPTH, load(function()
    local part = reader()
    if type(part) == "string" then
      charge(#part)
    end
    return part
  end, name)))
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
