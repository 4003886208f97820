-- The feed of live events (shared/live.py): published at the end of a fan-out to those who listen.
--
-- While nobody listens, this costs one command. Nothing here may make the fan-out fail: an error, such as a missing
-- permission, only leaves the feed silent.
local function is_watched(channel)
  local reply = redis.pcall('PUBSUB', 'NUMSUB', channel)
  return not reply.err and reply[2] > 0
end

-- Publish these events, up to a number and bytes per second of all workers together, and how
-- many events were left out. `key` is the hash that counts this second's.
local function publish(channel, key, events, max_events, max_bytes)
  local second = redis.call('TIME')[1]
  local counted = redis.call('HMGET', key, 'second', 'events', 'bytes')
  local number, bytes = 0, 0
  if counted[1] == second then number, bytes = tonumber(counted[2]), tonumber(counted[3]) end
  local published = {}
  for _, event in ipairs(events) do
    if number >= max_events then break end
    if bytes + #event <= max_bytes then
      published[#published + 1], number, bytes = event, number + 1, bytes + #event
    end
  end
  redis.call('HSET', key, 'second', second, 'events', number, 'bytes', bytes)
  redis.call('EXPIRE', key, 10)
  redis.call('PUBLISH', channel, '[1,' .. #events - #published .. ',[' .. table.concat(published, ',') .. ']]')
end
