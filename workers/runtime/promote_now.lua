-- Move scheduled jobs into their queue before they are due.
--
-- KEYS  1 registry of jobs scheduled for the queue   2 the queue's list
-- ARGV  1 prefix of a job's hash, then the ids of the jobs
-- Returns how many were moved
require_type('zset', KEYS[1])
require_type('list', KEYS[2])
local moved = 0
for i = 2, #ARGV do moved = moved + promote_job(KEYS[1], KEYS[2], ARGV[1], ARGV[i]) end
return moved
