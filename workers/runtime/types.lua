-- Fragment for the scripts that write. Redis rolls nothing back, so what would fail half-way through a script, such as a key
-- of another type, is found here before the first write.
local function require_type(kind, ...)
  for _, key in ipairs({...}) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then
      error('WRONGTYPE ' .. key .. ' is a ' .. found .. ' and must be a ' .. kind .. ': rename or delete it', 0)
    end
  end
end

-- HINCRBY and INCRBY fail if the value is not an integer, or would exceed 64 bits.
local function require_integer(value, where)
  if value and (not value:match('^%-?%d+$') or #value > 18) then
    error('ERR ' .. where .. ' holds a value that is not a count: correct or delete it', 0)
  end
end

local function require_counters(key)
  require_type('hash', key)
  for _, value in ipairs(redis.call('HVALS', key)) do require_integer(value, key) end
end

