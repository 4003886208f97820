-- Start a job that was popped: move it from RQ's intermediate list into its registry of running jobs in one step, and only
-- if it is still in that list. If it is not, it was given to another worker and must not run here.
--
-- KEYS  1 the intermediate list   2 the job's hash   3 the queue's list   4 list of the coalesced jobs
--       5 registry of running jobs
-- ARGV  1 the job's id   2 the run in the registry   3 lease in seconds, then the commands that enter it as running, see
--       run_commands.lua
-- Returns 1, or 0 if it must not run
if not redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  redis.call('LREM', KEYS[1], 1, ARGV[1])
  requeue_coalesced(KEYS[4], KEYS[3])  -- it was deleted by hand, and the jobs that it had coalesced run without it
  return 0
end
run_commands(4)
redis.call('ZADD', KEYS[5], math.floor(now_ms() / 1000) + ARGV[3], ARGV[2])
-- Last: if one of the commands fails, the job is still in the list, where maintenance finds it.
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1
