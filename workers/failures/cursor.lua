-- Give the members of an index that come after a place, newest first, each with its time.
--
-- KEYS  1 the index
-- ARGV  the place, as the time and the id of an entry ('' and '': from the newest on), and limit members
local time, id, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first = 0
if id ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], id)
  if rank and tonumber(redis.call('ZSCORE', KEYS[1], id)) == tonumber(time) then
    first = rank + 1
  else
    -- It is gone, or here anew. Where did it stand? Those of one time are sorted by their ids, lower-case hexadecimal.
    first = redis.call('ZCOUNT', KEYS[1], '(' .. time, '+inf')
    local last = first + redis.call('ZCOUNT', KEYS[1], time, time)
    while first < last do
      local middle = math.floor((first + last) / 2)
      if redis.call('ZREVRANGE', KEYS[1], middle, middle)[1] > id then first = middle + 1 else last = middle end
    end
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + limit - 1, 'WITHSCORES')
