-- Fragment for the scripts that read a handler's pause (`keys.paused`; its fields are in pause.py). Behind clock.lua.
local function read_pause(key)
  local fields = redis.call('HMGET', key, 'by', 'until_ms', 'after_ms', 'probe', 'since_ms')
  if not fields[1] then return nil end
  return {
    by = fields[1],
    until_ms = tonumber(fields[2] or 0),
    after_ms = tonumber(fields[3] or 0),
    probe = fields[4],
    since_ms = tonumber(fields[5] or 0),
  }
end

-- Returns whether `run` may not call the handler now. The probe may.
local function is_paused_for(pause, run)
  return pause.by == 'operator' or (pause.until_ms > now_ms() and pause.probe ~= run)
end

local function extend_until(key, ms, kept_ms)
  redis.call('HSET', key, 'until_ms', ms)
  redis.call('PEXPIREAT', key, ms + kept_ms)
end

