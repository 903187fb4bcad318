-- `pairs` and `next`: the keys of a table in an order of their own.

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
    charge(count * 8)
    sort(keys)
  end
  if strings_count > 1 then
    charge(strings_count * 8)
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
