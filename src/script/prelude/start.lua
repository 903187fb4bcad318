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
local xpcall = xpcall
local create, resume = coroutine.create, coroutine.resume
local byte, find, format, lower, rep, reverse, sub, upper = string.byte, string.find, string.format, string.lower,
    string.rep, string.reverse, string.sub, string.upper
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
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
