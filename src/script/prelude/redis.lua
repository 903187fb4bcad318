-- The table `redis`.

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
