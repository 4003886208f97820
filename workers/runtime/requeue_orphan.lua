-- Put a job that was popped and never started back to the front of its queue. Safe at any time: a worker that would
-- start it after all finds it gone (see start.lua).
--
-- KEYS  1 RQ's intermediate list   2 the job's hash   3 the queue's list   4 list of the jobs taken along
-- ARGV  1 the job's id
-- Gives 1 if the job is in the queue by this, else 0
require_type('list', KEYS[1], KEYS[3], KEYS[4])
require_type('hash', KEYS[2])
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  -- Deleted by hand: what it had taken along before goes on without it.
  while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
  return 0
end
redis.call('LPUSH', KEYS[3], ARGV[1])
return 1
