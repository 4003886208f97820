-- Replace what a waiting job holds, or delete the job, if it is as it was read and no run holds it. Other jobs keep the
-- portions that it shared with them. Behind types.lua, arguments.lua, requeue_coalesced.lua and portions.lua.
--
-- KEYS  1 the queue's list   2 registry of scheduled jobs   3 registry of failed jobs   4 counters
-- ARGV  prefix of a job's hash, prefix of a list of coalesced jobs, the job's id, the id of the job that holds it (itself,
--       or the waiting job whose earlier run coalesced it), SHA-1 of its data, its progress, finished and portions as read,
--       the fields to set (none: the job is deleted), counters with their changes
-- Returns 1, or 0 if it was not changed
local prefix, coalesced_prefix, id, holder = next_text(), next_text(), next_text(), next_text()
local key, coalesced = prefix .. id, coalesced_prefix .. id
require_type('list', KEYS[1])
require_type('zset', KEYS[2], KEYS[3])
require_counters(KEYS[4])

local job = redis.call('HMGET', key, 'data', 'progress', 'finished', 'portions')
if not job[1] or redis.sha1hex(job[1]) ~= next_text() then return 0 end
for i = 2, 4 do
  if (job[i] or '') ~= next_text() then return 0 end
end
local function waits(job_id)
  return redis.call('ZSCORE', KEYS[2], job_id) or redis.call('ZSCORE', KEYS[3], job_id) or redis.call('LPOS', KEYS[1], job_id)
end
if not waits(holder) then return 0 end
if holder ~= id and not redis.call('LPOS', coalesced_prefix .. holder, id) then return 0 end

local fields = next_list()
release_portions(key, redis.call('HGET', key, 'portions'))
if #fields > 0 then
  redis.call('HDEL', key, 'progress', 'finished')
  redis.call('HSET', key, unpack(fields))
else
  redis.call('LREM', holder == id and KEYS[1] or coalesced_prefix .. holder, 1, id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
  requeue_coalesced(coalesced, KEYS[1])
  redis.call('UNLINK', key)
end
for _ = 1, next_number() do
  local counter = next_text()
  redis.call('HINCRBY', KEYS[4], counter, next_text())
end
return 1
