-- Write from when and until when handlers are offered all events: see subscriptions.py for the format of a field.
--
-- KEYS  1 the subscriptions
-- ARGV  how many ms ago this supervisor started, '1' if no expand worker is older than it, the handlers' names
local now = now_ms()
local is_subscribed = {}

for i = 3, #ARGV do
  local name = ARGV[i]
  is_subscribed[name] = true
  local text = redis.call('HGET', KEYS[1], name)
  if not text then
    text = '?'
  elseif text:match('%d$') then
    text = text .. ',?'
  end
  if ARGV[2] == '1' then text = text:gsub('%?$', string.format('%.0f-', now)) end
  redis.call('HSET', KEYS[1], name, text)
end

local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, text = all[i], all[i + 1]
  if not is_subscribed[name] then
    if text == '?' then
      redis.call('HDEL', KEYS[1], name)
    elseif text:match('%?$') then
      redis.call('HSET', KEYS[1], name, (text:gsub(',%?$', '')))
    elseif text:match('%-$') then
      local ended = math.max(now - ARGV[1], tonumber(text:match('(%d+)%-$')))
      redis.call('HSET', KEYS[1], name, text .. string.format('%.0f', ended))
    end
  end
end
