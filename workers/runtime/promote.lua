-- Move the jobs that are due into their queue.
--
-- KEYS  1 registry of jobs scheduled for the queue, by unix time in seconds   2 the queue's list
-- ARGV  1 unix time in seconds   2 max jobs   3 prefix of a job's hash
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then require_type('list', KEYS[2]) end
for _, id in ipairs(due) do promote_job(KEYS[1], KEYS[2], ARGV[3], id) end
