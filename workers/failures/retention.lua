-- Drop the oldest failures of a list: those of some age, and as many more as it takes to stay within its bytes. At most
-- a few hundred a call, as Redis does nothing else meanwhile. Follows drop_failure.lua.
--
-- ARGV  as there, then the maximum number for this call, the time in ms up to which failures are dropped, maximum bytes
-- Returns {dropped for their age, dropped for lack of room, 1 if there may be more to do}
local limit, until_ms, max_bytes = tonumber(ARGV[position + 1]), tonumber(ARGV[position + 2]), tonumber(ARGV[position + 3])
local total = tonumber(redis.call('GET', bytes_key) or 0)
local old, over = 0, 0
for _ = 1, limit do
  local oldest = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
  local is_old = oldest[1] and tonumber(oldest[2]) <= until_ms
  if not oldest[1] or not (is_old or total > max_bytes) then return {old, over, 0} end
  local bytes = drop(oldest[1])
  if bytes then
    total = total - bytes
    if is_old then old = old + 1 else over = over + 1 end
  end
end
return {old, over, 1}
