-- Move scheduled jobs into their queue before they are due.
--
-- ARGV  1 registry of jobs scheduled for the queue   2 the queue's list   3 prefix of a job's hash, then the ids of jobs.
--       The first two are no KEYS: the user of the operators' page may not read and write all that these would need.
-- Returns how many were moved
local registry, queue, prefix = ARGV[1], ARGV[2], ARGV[3]
require_type('zset', registry)
require_type('list', queue)
-- As allow_oom.lua does, but on a key that this user may write.
redis.call('ZREM', registry, '')
local moved = 0
for i = 4, #ARGV do moved = moved + promote_job(registry, queue, prefix, ARGV[i]) end
return moved
