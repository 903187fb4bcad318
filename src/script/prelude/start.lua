-- What every interpreter runs first: it turns Lua's own library into the one that scripts see.
--
-- It is one chunk, in parts, of which each sees the locals of those before it: this one, order.lua (the order of
-- tables), base.lua, text_and_tables.lua (the rest of Lua's library), redis.lua, run.lua (how all of it is used).
--
-- It is Lua where Lua is better at it: errors keep being Lua's, and coroutines can yield through it. Its
-- functions have no line of their own in the errors a script sees: see failure.rs.
--
-- A script calls each of these functions through one of C, `expose`: so the level of its call, for `error`, is 3.
--
-- Three rules. Nothing that outlives a script can be changed by one (protect). Nothing shows an address, or
-- an order that depends on one (tostring; tables are the interpreter's). No loop that Lua's machine does not count goes unpaid
-- (charge).

local native, globals = ...

local error, getmetatable, next, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type, unpack =
    error, getmetatable, next, pcall, rawget, rawset, select, setmetatable, tonumber, tostring, type, unpack
local load, setfenv, xpcall = load, setfenv, xpcall
local create, resume = coroutine.create, coroutine.resume
local byte, find, format, lower, rep, reverse, sub, upper = string.byte, string.find, string.format, string.lower,
    string.rep, string.reverse, string.sub, string.upper
local concat, foreachi, insert, remove, sort = table.concat, table.foreachi, table.insert, table.remove, table.sort
local frexp = math.frexp
local charge, charge_bytes, expose, plain, place =
    native.charge, native.charge_bytes, native.expose, native.plain, native.place

-- Loops shorter than this are not worth a charge.
local SHORT = 64
-- How many values Lua can return.
local RESULTS_MAX = 8000
local READONLY = "Attempt to modify a readonly table"

-- Fails as Redis' own functions do.
local function fail(text)
  error({err = text}, 0)
end

-- A number as C takes it for a place or a count, an `int`: the last 32 bits of its whole part. So places that are far apart
-- may be near for C, and the other way round. What is no number stays what it is.
local function as_int(value)
  local number = tonumber(value)
  if not number then
    return value
  end
  if not (number > -9223372036854775808 and number < 9223372036854775808) then
    return 0
  end
  local whole = number - number % 1
  if whole < 0 and whole ~= number then
    whole = whole + 1
  end
  whole = whole % 4294967296
  return whole < 2147483648 and whole or whole - 4294967296
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
