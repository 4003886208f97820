-- Put an orphan, a job that was popped and never started, back to the front of its queue. Safe at any time: a worker that
-- tries to start it after all finds that it is gone (see start.lua).
--
-- KEYS  1 RQ's intermediate list   2 the job's hash   3 the queue's list   4 list of the coalesced jobs
-- ARGV  1 the job's id
-- Returns 1 if this has put the job into the queue, else 0
require_type('list', KEYS[1], KEYS[3], KEYS[4])
require_type('hash', KEYS[2])
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  requeue_coalesced(KEYS[4], KEYS[3])  -- it was deleted by hand, and the jobs that it had coalesced run without it
  return 0
end
redis.call('LPUSH', KEYS[3], ARGV[1])
return 1
