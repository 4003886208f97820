-- The feed of live events (shared/live.py): published at the end of a fan-out to those who listen.
--
-- While nobody listens, this costs one command. Nothing here may make the fan-out fail: an error, such as a missing
-- permission, only leaves the feed silent.
local function is_watched(channel)
  local reply = redis.pcall('PUBSUB', 'NUMSUB', channel)
  return not reply.err and reply[2] > 0
end

-- Publish the events at these positions of ARGV, up to a number and bytes per second of all workers together, and how
-- many events were left out. `key` is the hash that counts this second's.
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
