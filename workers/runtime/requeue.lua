-- End a job's run and put the job back into its queue, unless the run was ended before: by its success, or by
-- somebody who put the job back already. So a job put back by several at once is in the queue once.
--
-- A run that failed by an error in this service is tried again after a while, longer each time, and alone: each job that
-- it took along waits in the queue again, to run alone too. What fails then is the one that does it.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the jobs taken along
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs   8 registry of jobs scheduled for
--       the queue
-- ARGV  1 the job's id   2 the run's id   3 'front', 'back' or 'later'
--       4 '1' if the run died: that counts as a death, unless its worker had been asked to stop (see renew.lua), as then
--       it was killed because it took too long for that
--       5 '1' if the jobs that it took along wait in the queue again, behind it, instead of for its own next run
--       6 unix time in seconds   7 longest wait after a failure in seconds   8 prefix of a job's hash
--       then what the run's handler had finished beyond what is settled: a job's hash and the places in it, and so on
-- Gives 1 if the job is in the queue by this, or waits to be, else 0
require_type('zset', KEYS[1], KEYS[6], KEYS[8])
require_type('list', KEYS[3], KEYS[4])
require_type('set', KEYS[7])
require_type('hash', KEYS[2])
local member = ARGV[1] .. ':' .. ARGV[2]
local is_death = ARGV[4] == '1' and redis.call('HEXISTS', KEYS[5], 'stopping') == 0
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('SREM', KEYS[7], member)
-- That stays true whoever has moved the job meanwhile, so it is written down in any case.
for i = 9, #ARGV, 2 do
  if redis.pcall('HEXISTS', ARGV[i], 'data') == 1 then  -- else it is gone, or is no job
    redis.call('HSET', ARGV[i], 'finished', (redis.call('HGET', ARGV[i], 'finished') or '') .. ARGV[i + 1] .. ';')
  end
end
local is_running = redis.call('ZREM', KEYS[1], member) == 1
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  redis.call('DEL', KEYS[2])  -- RQ may have noted a heartbeat of a job that was gone
  while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
  return 0
end
if not is_running then return 0 end
local has_failed = ARGV[3] == 'later'
redis.call('HSET', KEYS[2], 'status', has_failed and 'scheduled' or 'queued')
if is_death then redis.call('HINCRBY', KEYS[2], 'deaths', 1) end
if ARGV[5] == '1' or has_failed then
  while true do
    local other = redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT')
    if not other then break end
    if has_failed and redis.pcall('HEXISTS', ARGV[8] .. other, 'data') == 1 then
      redis.call('HSET', ARGV[8] .. other, 'isolated', 1)
    end
  end
end
if has_failed then
  local failures = redis.call('HINCRBY', KEYS[2], 'failures', 1)
  local seconds = math.min(4 ^ math.min(failures - 1, 9), tonumber(ARGV[7]))
  redis.call('ZADD', KEYS[8], ARGV[6] + seconds, ARGV[1])
else
  redis.call(ARGV[3] == 'front' and 'LPUSH' or 'RPUSH', KEYS[3], ARGV[1])
end
return 1
