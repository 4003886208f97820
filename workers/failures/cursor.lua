-- Return the members of an index that come after a cursor, newest first, each with its time.
--
-- KEYS  1 the index
-- ARGV  the cursor: the time and the id of an item ('' and '': start with the newest); the maximum number of members
local time, id, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first = 0
if id ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], id)
  if rank and tonumber(redis.call('ZSCORE', KEYS[1], id)) == tonumber(time) then
    first = rank + 1
  else
    -- It is gone, or was added again. Find where it was: items of one time are sorted by their ids, in hexadecimal.
    first = redis.call('ZCOUNT', KEYS[1], '(' .. time, '+inf')
    local last = first + redis.call('ZCOUNT', KEYS[1], time, time)
    while first < last do
      local middle = math.floor((first + last) / 2)
      if redis.call('ZREVRANGE', KEYS[1], middle, middle)[1] > id then first = middle + 1 else last = middle end
    end
  end
end
return redis.call('ZREVRANGE', KEYS[1], first, first + limit - 1, 'WITHSCORES')
