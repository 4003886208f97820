-- Claim the running job, and as many of the jobs waiting behind it as fit, for the worker that runs it.
--
-- First come the jobs that an earlier run of it coalesced. A job with which a worker died, or whose run failed, coalesces
-- no more: something in it may be the cause. While the handler is paused nothing is claimed. The first job after that is
-- the probe: until its lease ends it is the only one, and it coalesces no more either.
--
-- KEYS, ARGV  as in coalesce.lua, then
-- ARGV  6 the probe's lease in ms   7 how long a pause is kept after its end, in ms
-- Returns {progress of the running job, false if the run has lost it, or 0 if the handler is paused, how many workers
-- died with it, what the handlers of dead workers had finished of it (see requeue.lua), 1 if it is the probe, how many
-- items it has ('' if unknown), 1 if it has portions, has_forgotten(), {id, progress, finished, items}, …}
if not holds_job() then return {false} end
local own = redis.call('HMGET', KEYS[3], 'items', 'progress', 'deaths', 'finished', 'isolated', 'failures', 'portions')

local is_probe = 0
local pause = KEYS[4] and read_pause(KEYS[4])
if pause then
  if is_paused_for(pause, '') then return {0} end
  extend_until(KEYS[4], now_ms() + tonumber(ARGV[6]), tonumber(ARGV[7]))
  redis.call('HSET', KEYS[4], 'probe', KEYS[3])
  is_probe = 1
end

local deaths = tonumber(own[3] or 0)
local portion_bytes = count_portion_bytes(own[7])
result = {own[2] or '0', deaths, own[4] or '', is_probe, own[1] or '', own[7] and 1 or 0, has_forgotten()}
items = tonumber(own[1] or 1)
bytes = redis.call('HSTRLEN', KEYS[3], 'data') + (portion_bytes or 0)

for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local job = read_job(id)
  if job.exists and not claimed[prefix .. id] then
    add(id, job)
  else
    redis.call('LREM', KEYS[2], 1, id)
  end
end

if deaths == 0 and is_probe == 0 and not own[5] and not own[6] and portion_bytes then claim_waiting() end
return result
