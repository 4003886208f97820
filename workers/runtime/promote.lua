-- Move the jobs whose time has come into their queue. A job that somebody else has moved is not moved again.
--
-- KEYS  1 registry of jobs scheduled for the queue, by unix time in seconds   2 the queue's list
-- ARGV  1 unix time in seconds   2 most jobs   3 prefix of a job's hash
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then require_type('list', KEYS[2]) end
for _, id in ipairs(due) do
  -- Else it was deleted by hand, or is not a job: then HEXISTS is an error, which must not keep the others waiting.
  if redis.pcall('HEXISTS', ARGV[3] .. id, 'data') == 1 then
    redis.call('RPUSH', KEYS[2], id)  -- should this fail, the job stays where it is
    redis.call('HSET', ARGV[3] .. id, 'status', 'queued')
  end
  redis.call('ZREM', KEYS[1], id)
end
