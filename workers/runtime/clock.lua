-- Fragment for the scripts that need the time. It is Redis's own, because the hosts' clocks need not agree.
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

