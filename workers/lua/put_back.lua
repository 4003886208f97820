-- End a job's run and put the job back into its queue, unless the run was ended before: by its success, or by
-- somebody who put the job back already. So a job put back by several at once is in the queue once.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the jobs taken along
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs
-- ARGV  1 the job's id   2 the run's id   3 'front' or 'back'   4 '1' if the run died, so that it counts as a death
--       5 '1' if the jobs that it took along wait in the queue again, behind it, instead of for its own next run
--       then what the run's handler had finished beyond what is settled: a job's hash and the places in it, and so on
-- Gives 1 if the job is in the queue by this, else 0
local member = ARGV[1] .. ':' .. ARGV[2]
-- Redis undoes nothing: a key of another type has to fail here, before anything is changed.
redis.call('LLEN', KEYS[3])
redis.call('LLEN', KEYS[4])
redis.call('HEXISTS', KEYS[2], 'data')
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('SREM', KEYS[7], member)
-- That stays true whoever has moved the job meanwhile, so it is written down in any case.
for i = 6, #ARGV, 2 do
  if redis.call('HEXISTS', ARGV[i], 'data') == 1 then
    redis.call('HSET', ARGV[i], 'finished', (redis.call('HGET', ARGV[i], 'finished') or '') .. ARGV[i + 1] .. ';')
  end
end
local is_held = redis.call('ZREM', KEYS[1], member) == 1
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  redis.call('DEL', KEYS[2])  -- RQ may have noted a heartbeat of a job that was gone
  while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
  return 0
end
if not is_held then return 0 end
redis.call('HSET', KEYS[2], 'status', 'queued')
if ARGV[4] == '1' then redis.call('HINCRBY', KEYS[2], 'deaths', 1) end
if ARGV[5] == '1' then
  while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
end
redis.call(ARGV[3] == 'front' and 'LPUSH' or 'RPUSH', KEYS[3], ARGV[1])
return 1
