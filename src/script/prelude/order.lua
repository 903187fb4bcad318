-- `pairs` and `next`, which see what is behind a table that is shown.
--
-- Lua's own order of a table's keys is a function of what was done to it (the interpreter is made so), but not that of
-- tables that outlive scripts: what is shown is gone through in the order of its names.

local function check_table(value, given, name)
  if type(value) ~= "table" then
    local got = given == 0 and "no value" or type(value)
    error(format("bad argument #1 to '%s' (table expected, got %s)", name, got), 4)
  end
end

-- The names in a table that scripts cannot change.
local function names(real)
  local list, count = {}, 0
  for name in next, real do
    count = count + 1
    list[count] = name
  end
  charge(count * 8)
  sort(list)
  return list
end

local function next_shown(real, after)
  local list = names(real)
  local index = 1
  while after ~= nil and list[index] ~= after do
    if list[index] == nil then
      error("invalid key to 'next'", 0)
    end
    index = index + 1
  end
  local name = list[after == nil and 1 or index + 1]
  return name, name and real[name]
end

local function shown_next(...)
  local table = ...
  check_table(table, select("#", ...), "next")
  local real = protected[table]
  if real then
    return next_shown(real, (select(2, ...)))
  end
  return next(...)
end

local function shown_pairs(...)
  local table = ...
  check_table(table, select("#", ...), "pairs")
  return protected[table] and shown_next or next, table, nil
end
