-- Fragment for the scripts that settle items of jobs. Behind arguments.lua, types.lua and portions.lua.
--
-- A settlement moves the progress of one or more jobs. All of it is refused if any of them is not where the caller
-- believes it to be: then another worker has taken over the job, and what the caller did is void.
--
-- The running job's hash, and the name of this settlement: a second call with that name, after a lost answer, changes
-- nothing.
local run, name = next_text(), next_text()

-- Each: the job's hash, its id, progress before and after, and, if it ends a coalesced job, the list of those ('' if not).
local settlements = {}
for i = 1, next_number() do
  settlements[i] = {job = next_text(), id = next_text(), from = next_text(), to = next_text(), coalesced = next_text()}
end

local function is_repeated()
  return redis.call('HGET', run, 'settlement') == name
end

local function is_current()
  if redis.call('HEXISTS', run, 'data') == 0 then return false end
  for _, s in ipairs(settlements) do
    local progress, items, portions = unpack(redis.call('HMGET', s.job, 'progress', 'items', 'portions'))
    local exists = progress or items or redis.call('EXISTS', s.job) == 1
    if not exists or (progress or '0') ~= s.from then return false end
    s.items, s.portions = items, portions
  end
  return true
end

local function settle()
  redis.call('HSET', run, 'settlement', name)
  -- What kills workers, or fails, is not among these items. Where nothing is settled that is unknown.
  if #settlements > 0 then redis.call('HDEL', run, 'deaths', 'failures', 'waits') end
  for _, s in ipairs(settlements) do
    if s.coalesced == '' then
      redis.call('HSET', s.job, 'progress', s.to)
      -- end.lua deletes the hash after the run, and knows of no portions.
      if s.items == s.to then release_portions(s.job, s.portions) end
    else
      release_portions(s.job, s.portions)
      redis.call('DEL', s.job)
      redis.call('LREM', s.coalesced, 1, s.id)
    end
  end
end

-- To be called before anything is written. `is_current` has read the jobs' own hashes.
local function require_keys(counters, index)
  require_counters(counters)
  require_type('zset', index)
  require_type('string', index .. ':bytes')
  require_integer(redis.call('GET', index .. ':bytes'), index .. ':bytes')
  local lists = {}
  for _, s in ipairs(settlements) do
    if s.coalesced ~= '' then lists[s.coalesced] = true end
  end
  for list in pairs(lists) do require_type('list', list) end
end

local counts = {}

local function count(field, number)
  counts[field] = (counts[field] or 0) + number
end

local function write_counts(key)
  for field, number in pairs(counts) do redis.call('HINCRBY', key, field, number) end
end

-- keys.FAILURE_OVERHEAD_BYTES and keys.failures_bytes. A failure added here counts as many bytes as one that
-- shared/batches.py adds: a test compares the two.
local FAILURE_OVERHEAD_BYTES = 768
local BYTES_SUFFIX = ':bytes'

-- Adds a hash to an index by time, and its bytes (as in shared/batches.py) to those of the index. The lifetime is for
-- the case that it is never dropped.
local function add_failure(index, key, id, time_ms, lifetime_seconds, fields)
  local bytes = FAILURE_OVERHEAD_BYTES
  for _, part in ipairs(fields) do bytes = bytes + #part end
  redis.call('INCRBY', index .. BYTES_SUFFIX, bytes - (redis.call('HGET', key, 'bytes') or 0))
  redis.call('HSET', key, 'bytes', bytes, unpack(fields))
  redis.call('EXPIRE', key, lifetime_seconds)
  redis.call('ZADD', index, time_ms, id)
end

