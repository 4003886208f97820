-- End the run of a job of which all is settled, and delete the job, in one step. Not if some of it, or jobs that it
-- coalesced, are left, as if Redis fell back during the run: its next run settles them, without it they would be lost.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the coalesced jobs
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs
-- ARGV  1 the job's id   2 the run's id, then the commands that say so of the worker, see run_commands.lua
-- Returns 1, or, if it has not ended, 0 for coalesced jobs that are left and 2 for its own items. Of a run that has lost
-- its job only the traces are deleted.
require_type('zset', KEYS[1], KEYS[6])
require_type('set', KEYS[7])
require_type('hash', KEYS[2])
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
local member = ARGV[1] .. ':' .. ARGV[2]
local job = redis.call('HMGET', KEYS[2], 'items', 'progress')
if redis.call('ZSCORE', KEYS[1], member) and job[1] and job[1] ~= (job[2] or '0') then return 2 end
if redis.call('ZREM', KEYS[1], member) == 1 then redis.call('DEL', KEYS[2], KEYS[6]) end
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('SREM', KEYS[7], member)
-- Last: if one of the commands fails, the run has ended.
run_commands(3)
return 1
