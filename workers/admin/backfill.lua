-- Enqueue past events for one handler, in one step. Events that an earlier backfill enqueued, or that were offered to the
-- handler when they arrived, are skipped.
--
-- KEYS  1 counters   2 RQ's set of queues   3 the queue's list   4 the generations of marks (see marks.lua)
-- ARGV  prefix of the sets of backfilled ids, their lifetime in seconds
--       the handler's name, prefix of a dead letter, the marks of the events, in one text
--       '1' if events that were offered to the handler are left out
--       periods in which all events were offered to the handler: from, to (ms)
--       head and tail of a job's data, fields of a job's hash, end of its description, prefix of its key, max events per
--       job, what the jobs' ids begin with
--       for each event: counter, id, when it was received (ms), the event
-- Returns {enqueued now, enqueued by an earlier backfill, offered when they arrived}
local backfilled_prefix, backfilled_seconds = next_text(), next_number()
local handler, dead_prefix, marks = next_text(), next_text(), cut_marks(next_text())
local leaves_out = next_text() == '1'
local times = next_list()
local delivery = {
  head = next_text(), tail = next_text(), fields = next_list(), about = next_text(), prefix = next_text(),
}
local max_events, step_id = next_number(), next_text()

require_counters(KEYS[1])
require_type('set', KEYS[2])
require_type('list', KEYS[3])
local seen = find_marks(read_generations(KEYS[4], now_ms()), marks)

-- A mark says to which handlers its event was offered. If it has ended, the event was offered about when it was received.
local function was_offered(mark, received)
  local generation = seen[mark]
  if generation and generation.handlers ~= ANY_HANDLERS then
    return (' ' .. generation.handlers .. ' '):find(' ' .. handler .. ' ', 1, true) ~= nil
  end
  for i = 1, #times, 2 do
    if received >= tonumber(times[i]) and received < tonumber(times[i + 1]) then return true end
  end
  return false
end

local function was_fanned_out(mark, id, received)
  return leaves_out and was_offered(mark, received) or redis.call('EXISTS', dead_prefix .. id) == 1
end

-- Nothing is written before every set was read: one of another type fails the step as a whole.
local events, counts, added, chosen = {}, {}, {}, {}
local already_enqueued, already_fanned_out = 0, 0
for i = 1, next_number() do
  local counter, id, received, event = next_text(), next_text(), next_number(), next_text()
  local set = backfilled_prefix .. id:sub(1, 2)
  if redis.call('SISMEMBER', set, id:sub(3)) == 1 or chosen[id] then
    already_enqueued = already_enqueued + 1
  elseif was_fanned_out(marks[i], id, received) then
    already_fanned_out = already_fanned_out + 1
  else
    chosen[id] = true
    added[set] = added[set] or {}
    table.insert(added[set], id:sub(3))
    events[#events + 1] = event
    counts[counter] = (counts[counter] or 0) + 1
  end
end

for set, ids in pairs(added) do
  for _, id in ipairs(ids) do redis.call('SADD', set, id) end
  redis.call('EXPIRE', set, backfilled_seconds)
end
for counter, number in pairs(counts) do redis.call('HINCRBY', KEYS[1], counter, number) end
local texts = {}
for first = 1, #events, max_events do
  local last = math.min(first + max_events - 1, #events)
  texts[#texts + 1] = {json = table.concat(events, ',', first, last), size = last - first + 1}
end
enqueue_deliveries(KEYS[2], KEYS[3], plan_deliveries(texts, max_events), step_id, delivery)
return {#events, already_enqueued, already_fanned_out}
