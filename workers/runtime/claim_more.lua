-- Claim more waiting jobs for a run in progress. Claims nothing if the run has lost its job, because the worker that has
-- taken over that job would not know of them, and nothing while the handler is paused or its pause is being probed.
--
-- KEYS, ARGV  as in coalesce.lua
-- Returns {has_forgotten(), {id, progress, finished, items}, …}
result = {has_forgotten()}
if not holds_job() then return result end
local own = redis.call('HMGET', KEYS[3], 'deaths', 'failures', 'isolated')
-- A job with which a worker died, or that failed, runs alone, as in claim.lua: others would count as its progress.
if own[1] or own[2] or own[3] then return result end
if KEYS[4] and read_pause(KEYS[4]) then return result end
if redis.call('LLEN', KEYS[1]) == 0 then return result end

for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do claimed[prefix .. id] = true end
claim_waiting()
return result
