-- Fragment for the script that settles: appends entries to the delivery log. Behind arguments.lua and clock.lua.
--
-- The log is two rings, of strings each: `cb:deliveries:<ring>:<number>`. The hash `cb:deliveries` has the number of the
-- newest string of each ring, and since when it is the newest. A string that is full or a day old is followed by another
-- one, and the oldest ones are deleted as far as the ring is too large. Redis deletes a string after a month.
local LOG_RINGS = {'delivered', 'failed'}
local LOG_DAY_MS, LOG_SECONDS = 86400000, 31 * 86400

local function read_log_texts()
  local log = {chunk_bytes = next_number(), ring_bytes = next_number()}
  for _, ring in ipairs(LOG_RINGS) do log[ring] = next_text() end
  return log
end

-- Keeps those of the strings before `number` that fit into a ring with two full ones, and deletes the others.
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
local function append_log(index, log, now)
  for _, ring in ipairs(LOG_RINGS) do
    if log[ring] ~= '' then
      local prefix = index .. ':' .. ring .. ':'
      local found = redis.pcall('HMGET', index, ring, ring .. '_since_ms')
      local number, since = tonumber(found[1] or 0), tonumber(found[2] or 0)
      if not found.err and number then
        local size = number > 0 and redis.pcall('STRLEN', prefix .. number) or 0
        if type(size) == 'number' then
          if number == 0 or size >= log.chunk_bytes or size == 0 or now - (since or 0) >= LOG_DAY_MS then
            number, size = number + 1, 0
            redis.call('HSET', index, ring, number, ring .. '_since_ms', now)
            trim_log(prefix, number, log)
          end
          redis.pcall('APPEND', prefix .. number, log[ring])
          if size == 0 then redis.call('EXPIRE', prefix .. number, LOG_SECONDS) end
        end
      end
    end
  end
end

