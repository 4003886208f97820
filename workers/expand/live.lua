-- The feed of live events (shared/live.py), which whoever looks on gets at the end of a fan-out.
--
-- While nobody does, this is one question to Redis itself. Nothing here may go wrong for the fan-out, so whatever does,
-- a right that is missing for one, only leaves the feed silent.
local function is_watched(channel)
  local reply = redis.pcall('PUBSUB', 'NUMSUB', channel)
  return not reply.err and reply[2] > 0
end

-- Publishes the events that stand in ARGV at these positions: so many, and so many bytes, in one second of all workers
-- together, and how many more there were. `key` is where this second's are counted.
local function publish(channel, key, positions, most_events, most_bytes)
  local second = redis.call('TIME')[1]
  local held = redis.call('HMGET', key, 'second', 'events', 'bytes')
  local number, bytes = 0, 0
  if held[1] == second then number, bytes = tonumber(held[2]), tonumber(held[3]) end
  local shown = {}
  for _, position in ipairs(positions) do
    if number >= most_events then break end
    local event = ARGV[position]
    if bytes + #event <= most_bytes then
      shown[#shown + 1], number, bytes = event, number + 1, bytes + #event
    end
  end
  redis.call('HSET', key, 'second', second, 'events', number, 'bytes', bytes)
  redis.call('EXPIRE', key, 10)
  redis.call('PUBLISH', channel, '[1,' .. #positions - #shown .. ',[' .. table.concat(shown, ',') .. ']]')
end
