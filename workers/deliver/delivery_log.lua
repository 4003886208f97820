-- Fragment for the script that settles: appends entries to the delivery log. Behind arguments.lua and clock.lua.
--
-- The log is two rings of chunks, each a string: `cb:deliveries:<ring>:<number>`. The hash `cb:deliveries` has the number
-- of the newest chunk of each ring, and since when it is the newest. A chunk that is full or a day old is followed by
-- another, and the oldest are deleted until the ring fits. Redis deletes a chunk after a month.
local LOG_RINGS = {'delivered', 'failed'}
local LOG_DAY_MS, LOG_SECONDS = 86400000, 31 * 86400

-- Another program may have written any value: what is not a number counts as 0.
local function log_number(value)
  return type(value) == 'string' and #value <= 15 and value:match('^%d+$') and tonumber(value) or 0
end

local function read_log_texts()
  local log = {chunk_bytes = next_number(), ring_bytes = next_number()}
  for _, ring in ipairs(LOG_RINGS) do log[ring] = next_text() end
  return log
end

-- Keeps those of the chunks before `number` that fit into a ring with two full ones, and deletes the others.
local function trim_log(prefix, number, log)
  local left = log.ring_bytes - 2 * log.chunk_bytes
  for older = number - 1, 1, -1 do
    local key = prefix .. older
    if redis.call('EXISTS', key) == 0 then return end
    -- What Redis has reserved for the string, which grows. Where the command is forbidden, its length.
    local used = redis.pcall('MEMORY', 'USAGE', key)
    left = left - (type(used) == 'number' and used or redis.call('STRLEN', key))
    if left < 0 then redis.call('DEL', key) end
  end
end

-- The log never makes a settlement fail: what another program wrote into its keys stays as it is, and the log ends.
-- While it takes nothing, by its setting or because Redis is full, attempts are missing: it is complete since then only.
local function append_log(index, log, now)
  if log.chunk_bytes > 0 and log.delivered == '' and log.failed == '' then return end
  local found = redis.pcall(
    'HMGET', index, 'since_ms', 'delivered', 'delivered_since_ms', 'failed', 'failed_since_ms')
  if found.err then return end
  if log.chunk_bytes == 0 or log.is_full then
    if found[1] then redis.call('HSET', index, 'since_ms', now) end
    return
  end
  if log_number(found[1]) == 0 then redis.call('HSET', index, 'since_ms', now) end
  for i, ring in ipairs(LOG_RINGS) do
    if log[ring] ~= '' then
      local prefix = index .. ':' .. ring .. ':'
      local number, since = log_number(found[2 * i]), log_number(found[2 * i + 1])
      local size = number > 0 and redis.pcall('STRLEN', prefix .. number) or 0
      if type(size) == 'number' then
        if number == 0 or size >= log.chunk_bytes or size == 0 or now - since >= LOG_DAY_MS then
          number, size = number + 1, 0
          redis.call('HSET', index, ring, string.format('%.0f', number), ring .. '_since_ms', now)
          redis.call('EXPIRE', index, LOG_SECONDS)
          trim_log(prefix, number, log)
        end
        redis.pcall('APPEND', prefix .. number, log[ring])
        if size == 0 then redis.call('EXPIRE', prefix .. number, LOG_SECONDS) end
      end
    end
  end
end

