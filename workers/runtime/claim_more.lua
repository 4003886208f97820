-- Claim more waiting jobs for a run in progress. Claims nothing if the run has lost its job, because the worker that has
-- taken over that job would not know of them, and nothing while the handler is paused or its pause is being probed.
--
-- KEYS, ARGV  as in coalesce.lua, then
-- ARGV  5 the name of the run's worker
-- Returns {has_forgotten(), {id, progress, finished, items}, …}
result = {has_forgotten()}
local own = redis.call('HMGET', KEYS[3], 'status', 'worker_name', 'deaths', 'failures', 'isolated')
if redis.call('HEXISTS', KEYS[3], 'data') == 0 or own[1] ~= 'started' or own[2] ~= ARGV[5] then return result end
-- A job with which a worker died, or that failed, runs alone, as in claim.lua: others would count as its progress.
if own[3] or own[4] or own[5] then return result end
if KEYS[4] and read_pause(KEYS[4]) then return result end
if redis.call('LLEN', KEYS[1]) == 0 then return result end

for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do claimed[prefix .. id] = true end
claim_waiting()
return result
