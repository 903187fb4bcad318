-- What calls a script back, or is called by its loops, is Lua: so an error or a coroutine in between is none of
-- our business.

local native, concat, type = ...
local find, prepare_gmatch, prepare_gsub, next_match, text =
    native.find, native.prepare_gmatch, native.prepare_gsub, native.next_match, native.text

local function gmatch(...)
    local subject, pattern = prepare_gmatch(...)
    local from = 1
    local function take(after, ...)
        if after then
            from = after
            return ...
        end
    end
    return function()
        return take(find(subject, pattern, from))
    end
end

local function gsub(...)
    local subject, pattern, replacement, most, anchored = prepare_gsub(...)
    if not most then
        return subject, pattern -- A string replaces, and has: the result, and how often.
    end
    local pieces, count, copied, from = {}, 0, 1, 1
    local is_function = type(replacement) == 'function'

    local function put(before, whole, after, ...)
        if not whole then
            return false
        end
        count = count + 1
        local value
        if is_function then
            value = replacement(...)
        else
            value = replacement[(...)]
        end
        pieces[2 * count - 1] = before
        pieces[2 * count] = text(value, whole)
        copied = after
        from = whole == '' and after + 1 or after
        return not anchored
    end

    while count < most and put(next_match(subject, pattern, copied, from)) do end
    pieces[2 * count + 1] = native.rest(subject, copied)
    return concat(pieces), count
end

return gmatch, gsub
