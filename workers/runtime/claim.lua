-- Give a running job, and as many of the jobs waiting behind it as fit, to the worker that runs it.
-- What was taken along before a crash comes first. A job in whose run a worker died, or that failed, takes no more along:
-- something in it may be what does it. While the handler is paused nobody takes anything; who comes first after that is
-- the probe, alone until its lease runs out, and takes no more along either.
--
-- KEYS, ARGV  as in coalesce.lua, then
-- ARGV  5 the probe's lease in ms   6 how long a pause is kept after its end, in ms
-- Gives {progress of the running job, false if it is gone, or 0 if the handler is paused, how many workers died of it,
-- what a dead worker's handler had finished of it (see requeue.lua), 1 if this is the probe, how many items it
-- has ('' if nobody counted them), {id, progress, data, finished, items}, …}
local own = redis.call('HMGET', KEYS[3], 'data', 'items', 'progress', 'deaths', 'finished', 'isolated', 'failures')
if not own[1] then return {false} end

local probes = 0
local pause = KEYS[4] and read_pause(KEYS[4])
if pause then
  if is_paused_for(pause, '') then return {0} end
  extend_until(KEYS[4], now_ms() + tonumber(ARGV[5]), tonumber(ARGV[6]))
  redis.call('HSET', KEYS[4], 'probe', KEYS[3])
  probes = 1
end

local deaths = tonumber(own[4] or 0)
result = {own[3] or '0', deaths, own[5] or '', probes, own[2] or ''}
items = tonumber(own[2] or 1)
bytes = #own[1]

for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local job = read_job(id)
  if job.data and not claimed[prefix .. id] then
    add(id, job)
  else
    redis.call('LREM', KEYS[2], 1, id)
  end
end

if deaths == 0 and probes == 0 and not own[6] and not own[7] then claim_waiting() end
return result
