-- Fragment for the scripts that promote scheduled jobs. One that is no longer in the registry is not moved again.
local function promote_job(registry, queue, prefix, id)
  if not redis.call('ZSCORE', registry, id) then return 0 end
  local is_moved = 0
  -- Otherwise it was deleted by hand, or is not a job: then HEXISTS fails, which must not delay the others.
  if redis.pcall('HEXISTS', prefix .. id, 'data') == 1 then
    redis.call('RPUSH', queue, id)  -- should this fail, the job stays where it is
    redis.call('HSET', prefix .. id, 'status', 'queued')
    is_moved = 1
  end
  redis.call('ZREM', registry, id)
  return is_moved
end

