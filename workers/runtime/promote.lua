-- Move the jobs that are due into their queue. A job that another supervisor has moved is not moved again.
--
-- KEYS  1 registry of jobs scheduled for the queue, by unix time in seconds   2 the queue's list
-- ARGV  1 unix time in seconds   2 max jobs   3 prefix of a job's hash
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then require_type('list', KEYS[2]) end
for _, id in ipairs(due) do
  -- Otherwise it was deleted by hand, or is not a job: then HEXISTS fails, which must not delay the others.
  if redis.pcall('HEXISTS', ARGV[3] .. id, 'data') == 1 then
    redis.call('RPUSH', KEYS[2], id)  -- should this fail, the job stays where it is
    redis.call('HSET', ARGV[3] .. id, 'status', 'queued')
  end
  redis.call('ZREM', KEYS[1], id)
end
