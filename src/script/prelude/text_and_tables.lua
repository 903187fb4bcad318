-- `string` and `table`: Lua's own functions, which are paid for by the length of what they go through.

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
  times = as_int(times)
  if type(times) == "number" and times > 0 then
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
  first, last = as_int(first), as_int(last)
  -- A first value that is missing ends it at once.
  if type(values) == "table" and rawget(values, first or 1) ~= nil then
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
    charge_range(as_int(position), #values)
  end
  return insert(...)
end

globals.table.remove = function(...)
  local values, position = ...
  check_writable(values)
  position = as_int(position)
  if type(position) == "number" and position > 0 and type(values) == "table" then
    charge_range(position, #values)
  end
  return remove(...)
end

globals.table.sort = function(...)
  local values = ...
  check_writable(values)
  if type(values) == "table" then
    local _, doublings = frexp(#values)
    charge(#values * doublings)
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
  for key, value in shown_pairs(values) do
    local result = visit(key, value)
    if result ~= nil then
      return result
    end
  end
end

globals.table.foreachi = function(...)
  local values = ...
  if type(values) == "table" then
    charge_range(0, #values)
  end
  return foreachi(...)
end
