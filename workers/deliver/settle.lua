-- Settle events of one handler in one step: count them, write dead letters and retries, and change the handler's pause.
--
-- KEYS  1 counters   2 index of the handler's dead letters   3 registry of jobs scheduled for the handler's queue
--       4 the handler's pause   5 the delivery log
-- ARGV  settlements (see settlement.lua), then
--       counts: counter, number
--       dead letters: the counter of dead letters, that of dropped ones, key, id, time in ms, lifetime in seconds, fields
--       retries: job's hash, its id, unix time in seconds when it is due, fields
--       the pause: '' (no change), 'paused' (the handler asked for it), or of the probe 'resumed', 'failed', 'untried';
--       for how many ms, the reason, by whom, how long a pause is kept after its end, in ms
--       the delivery log (see delivery_log.lua)
-- Returns {1, 1 if the handler is paused now, 'paused' or 'resumed' if this step changed it, ms for which it is or was
-- paused}, or {0} if the settlement is refused
local function answer(changed, ms)
  local pause = read_pause(KEYS[4])
  return {1, pause and is_paused_for(pause, run) and 1 or 0, changed, ms}
end

if is_repeated() then return answer('', 0) end
if not is_current() then return {0} end
require_keys(KEYS[1], KEYS[2])
require_type('zset', KEYS[3])
require_type('hash', KEYS[4])

for _ = 1, next_number() do
  local counter = next_text()
  count(counter, next_number())
end

local letters = {}
for i = 1, next_number() do
  letters[i] = {
    dead = next_text(), dropped = next_text(), key = next_text(), id = next_text(), ms = next_number(),
    seconds = next_number(), fields = next_list(),
  }
  require_type('hash', letters[i].key)
end
for _, letter in ipairs(letters) do
  -- A repeated event whose mark has expired may become a dead letter again: it replaces the earlier one.
  count(redis.call('EXISTS', letter.key) == 1 and letter.dropped or letter.dead, 1)
  add_failure(KEYS[2], letter.key, letter.id, letter.ms, letter.seconds, letter.fields)
end

for _ = 1, next_number() do
  local key, id, due = next_text(), next_text(), next_number()
  redis.call('HSET', key, unpack(next_list()))
  redis.call('ZADD', KEYS[3], due, id)
end

write_counts(KEYS[1])
settle()

local kind, after_ms, reason, by, kept_ms = next_text(), next_number(), next_text(), next_text(), next_number()
local pause, now = read_pause(KEYS[4]), now_ms()
local log = read_log_texts()
log.is_full = is_full
append_log(KEYS[5], log, now)

local function pause_for(ms)
  redis.call('HSET', KEYS[4], 'after_ms', ms)
  redis.call('HINCRBY', KEYS[4], 'times', 1)
  redis.call('HDEL', KEYS[4], 'probe')
  extend_until(KEYS[4], now + ms, kept_ms)
  return answer('paused', ms)
end

if kind == '' or (pause and pause.by == 'operator') then
  return answer('', 0)
elseif kind == 'paused' then
  if not pause then
    redis.call('HSET', KEYS[4], 'by', by, 'since_ms', now, 'reason', reason)
    return pause_for(after_ms)
  elseif pause.probe == run then
    redis.call('HSET', KEYS[4], 'by', by, 'reason', reason)
    return pause_for(after_ms)
  elseif now + after_ms > pause.until_ms then
    -- A call that started before the pause, or without knowing of it: the same pause lasts longer.
    redis.call('HSET', KEYS[4], 'after_ms', after_ms)
    extend_until(KEYS[4], now + after_ms, kept_ms)
  end
elseif pause and kind == 'resumed' then
  redis.call('DEL', KEYS[4])
  return answer('resumed', now - pause.since_ms)
elseif pause and pause.probe == run then
  if kind == 'failed' then return pause_for(pause.after_ms) end
  redis.call('HDEL', KEYS[4], 'probe')  -- the probe made no call: another run may try at once
  extend_until(KEYS[4], now, kept_ms)
end
return answer('', 0)
