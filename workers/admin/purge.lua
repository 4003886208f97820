-- Purge jobs that wait for a handler, in its queue or scheduled, each with the jobs coalesced into it. If a job or one of
-- those has made progress since it was read, or the job no longer waits, none of them is changed.
--
-- KEYS  1 the queue's list   2 registry of jobs scheduled for it   3 counters
-- ARGV  prefix of a job's hash, prefix of a list of coalesced jobs, then for each job:
--       its id; number of parts, then for each part: id, progress (the job itself is the first part)
--       number of counters, then for each counter: name, change
-- Returns for each job 1, or 0 if it was not changed
local prefix, coalesced_prefix = next_text(), next_text()
require_type('list', KEYS[1])
require_type('zset', KEYS[2])
require_counters(KEYS[3])
local done = {}
while position < #ARGV do
  local id = next_text()
  local parts, is_as_read = {}, true
  for i = 1, next_number() do
    parts[i] = next_text()
    if (redis.call('HGET', prefix .. parts[i], 'progress') or '0') ~= next_text() then is_as_read = false end
  end
  if redis.call('LLEN', coalesced_prefix .. id) ~= #parts - 1 then is_as_read = false end
  local is_there = is_as_read and (redis.call('LREM', KEYS[1], 1, id) + redis.call('ZREM', KEYS[2], id)) > 0
  if is_there then
    for _, part in ipairs(parts) do
      release_portions(prefix .. part, redis.call('HGET', prefix .. part, 'portions'))
      redis.call('UNLINK', prefix .. part)
    end
    redis.call('DEL', coalesced_prefix .. id)
  end
  for _ = 1, next_number() do
    local counter, number = next_text(), next_text()
    if is_there then redis.call('HINCRBY', KEYS[3], counter, number) end
  end
  done[#done + 1] = is_there and 1 or 0
end
return done
