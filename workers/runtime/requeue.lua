-- End a job's run and put the job back into its queue. Does nothing if the run has ended before, by its success or because
-- another has requeued the job: a job that several requeue at once is in the queue once.
--
-- A run that failed by an error in this service is retried later, after a longer time for each failure, and alone: each job
-- that it coalesced goes back to the queue, to run alone too. So the one that fails next is the cause.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the coalesced jobs
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs   8 registry of jobs scheduled for
--       the queue
-- ARGV  1 the job's id   2 the run's id   3 'front', 'back', 'later', or 'waiting': later, as nobody here can read it yet
--       4 '1' if the run died: that counts as a death, unless its worker had been asked to stop (see renew.lua) and was
--       killed because it took too long
--       5 '1' if the coalesced jobs go back to the queue too, behind it, instead of waiting for its own next run
--       6 unix time in seconds   7 max seconds to wait after a failure   8 prefix of a job's hash
--       then what the run's handler had finished beyond what is settled: a job's hash and the positions in it, and so on
-- Returns 1 if this has put the job into the queue, or scheduled it, else 0
require_type('zset', KEYS[1], KEYS[6], KEYS[8])
require_type('list', KEYS[3], KEYS[4])
require_type('set', KEYS[7])
require_type('hash', KEYS[2])
local member = ARGV[1] .. ':' .. ARGV[2]
local is_death = ARGV[4] == '1' and redis.call('HEXISTS', KEYS[5], 'stopping') == 0
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('SREM', KEYS[7], member)
-- What is finished stays finished, even if another has moved the job meanwhile, so it is always written down.
for i = 9, #ARGV, 2 do
  if redis.pcall('HEXISTS', ARGV[i], 'data') == 1 then  -- otherwise it is gone, or is not a job
    redis.call('HSET', ARGV[i], 'finished', (redis.call('HGET', ARGV[i], 'finished') or '') .. ARGV[i + 1] .. ';')
  end
end
local is_running = redis.call('ZREM', KEYS[1], member) == 1
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  redis.call('DEL', KEYS[2])  -- RQ may have written the heartbeat of a job that was gone
  requeue_coalesced(KEYS[4], KEYS[3])
  return 0
end
if not is_running then return 0 end
local has_failed = ARGV[3] == 'later' or ARGV[3] == 'waiting'
redis.call('HSET', KEYS[2], 'status', has_failed and 'scheduled' or 'queued')
if is_death then redis.call('HINCRBY', KEYS[2], 'deaths', 1) end
if has_failed then
  requeue_coalesced(KEYS[4], KEYS[3], function(id)
    if redis.pcall('HEXISTS', ARGV[8] .. id, 'data') == 1 then redis.call('HSET', ARGV[8] .. id, 'isolated', 1) end
  end)
elseif ARGV[5] == '1' then
  requeue_coalesced(KEYS[4], KEYS[3])
end
if has_failed then
  local failures = redis.call('HINCRBY', KEYS[2], 'failures', 1)
  if ARGV[3] == 'waiting' then redis.call('HINCRBY', KEYS[2], 'waits', 1) end  -- it is no sign that the job is bad
  local seconds = math.min(4 ^ math.min(failures - 1, 9), tonumber(ARGV[7]))
  redis.call('ZADD', KEYS[8], ARGV[6] + seconds, ARGV[1])
else
  redis.call(ARGV[3] == 'front' and 'LPUSH' or 'RPUSH', KEYS[3], ARGV[1])
end
return 1
