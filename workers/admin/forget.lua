-- Forget a handler for which nothing waits and that no worker runs: its counters, subscription, filters, metrics, pause
-- and empty queue. Its dead letters stay, and stay counted as queued for it and dead.
--
-- KEYS  1 counters   2 subscriptions   3 filters   4 metrics   5 its pause   6 RQ's set of queues   7 its queue's list
--       8 RQ's set of the workers of its queue   9 of the expand workers   10 the generations of marks
--       11 … what holds its jobs: the queue's list, popped, started, scheduled and failed jobs
-- ARGV  the handler's name, separator of the parts of a metric's name, the parts that are of a handler
-- Returns 'forgotten', or why not: 'workers', 'subscribed' or 'jobs'
local name, separator = next_text(), next_text()
require_counters(KEYS[1])
require_type('hash', KEYS[2], KEYS[3], KEYS[4], KEYS[10])

local function any_alive(workers)
  for _, worker in ipairs(redis.call('SMEMBERS', workers)) do
    if redis.call('EXISTS', worker) == 1 then return true end
  end
  return false
end

for i = 11, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return 'jobs' end
end
if any_alive(KEYS[8]) then return 'workers' end
local subscription = redis.call('HGET', KEYS[2], name)
if subscription and not subscription:match('%d$') and any_alive(KEYS[9]) then return 'subscribed' end

for _, kind in ipairs({'report', 'reply', 'unknown'}) do
  local dead = redis.call('HGET', KEYS[1], kind .. '.dead:' .. name)
  for _, outcome in ipairs({'delivered', 'filtered', 'dropped', 'forgotten'}) do
    redis.call('HDEL', KEYS[1], kind .. '.' .. outcome .. ':' .. name)
  end
  if dead and tonumber(dead) > 0 then
    redis.call('HSET', KEYS[1], kind .. '.queued:' .. name, dead)
  else
    redis.call('HDEL', KEYS[1], kind .. '.dead:' .. name, kind .. '.queued:' .. name)
  end
end
redis.call('HDEL', KEYS[2], name)

-- A later handler with this name was offered nothing: `callbacks backfill` may give it all.
local generations = redis.call('HGETALL', KEYS[10])
for i = 1, #generations, 2 do
  local words = {}
  for word in generations[i + 1]:gmatch('%S+') do
    if #words < 2 or word ~= name then words[#words + 1] = word end
  end
  redis.call('HSET', KEYS[10], generations[i], table.concat(words, ' '))
end

local filters = redis.call('HGETALL', KEYS[3])
for i = 1, #filters, 2 do
  local is_read, found = pcall(cjson.decode, filters[i + 1])
  -- An entry may be a module with several handlers; its filters stay as long as it has another.
  if is_read and type(found) == 'table' and #found == 1 and found[1].name == name then
    redis.call('HDEL', KEYS[3], filters[i])
  end
end

local parts = {}
for part in next_text():gmatch('%S+') do parts[part .. separator .. name] = true end
for _, metric in ipairs(redis.call('HKEYS', KEYS[4])) do
  -- The first two words of its name, of which a histogram has more.
  local first = metric:find(separator, 1, true)
  local second = first and metric:find(separator, first + 1, true)
  if parts[metric:sub(1, second and second - 1)] then redis.call('HDEL', KEYS[4], metric) end
end
redis.call('DEL', KEYS[5], KEYS[8])
redis.call('SREM', KEYS[6], KEYS[7])
return 'forgotten'
