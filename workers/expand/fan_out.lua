-- Decide which events are new, mark and count them, and enqueue them for each handler that wants them: one step.
--
-- KEYS  1 counters   2 RQ's set of queues   3 index of the quarantine   4 what the feed of live events had this second
--       5 the generations of marks (see marks.lua)
-- ARGV  settlements (see settlement.lua), then
--       lifetime of a mark in seconds, the handlers' names, the marks of all events in their order below, in one text
--       channel of the live events, maximum of events and of bytes per second (see live.lua)
--       what the ids of this step's jobs begin with, maximum of events per job, prefix of a job's hash
--       handlers: name, queue's list, head and tail of a job's data, fields of a job's hash
--       groups of events: kind, mask (for each handler '1' if it wants them), number of marks of each, how many
--                         events, and the events
--       records that cannot be read: kind, how many, key, id, time in ms, lifetime in seconds, fields
--       the counter of new replies whose request was known
-- Returns {1, new events, {positions of the duplicates}, {new events of each group}, new replies whose request was known},
-- or {0} if the settlement is refused. For a repeated settlement they are not known any more: {1, 0, {}, {}, 0}
if is_repeated() then return {1, 0, {}, {}, 0} end
if not is_current() then return {0} end
require_keys(KEYS[1], KEYS[3])
require_type('set', KEYS[2])
require_type('hash', PORTIONS, PORTION_JOBS)

local now, mark_seconds, handler_names = now_ms(), next_number(), next_text()
local generations, ended_generations = read_generations(KEYS[5], now)
local marks = cut_marks(next_text())
local generation = current_generation(generations, KEYS[5], mark_seconds, handler_names, now, #marks)
-- By mark: all that were there, and those of the new events of this step.
local seen, new_marks = find_marks(generations, marks), {}

-- Return whether a mark is new, which it is once. Marks that are there stay as they are: they keep their lifetime.
local function mark_as_seen(mark)
  if seen[mark] then return false end
  seen[mark] = true
  new_marks[#new_marks + 1] = mark
  return true
end

local channel, max_live, max_live_bytes = next_text(), next_number(), next_number()
-- The positions of the new events in ARGV, if anybody listens.
local live = is_watched(channel) and {}
local step_id, max_events, job_prefix = next_text(), next_number(), next_text()
local handlers = {}
for i = 1, next_number() do
  handlers[i] = {
    name = next_text(), queue = next_text(), head = next_text(), tail = next_text(), fields = next_list(),
    prefix = job_prefix, events = {}, portions = {}, queued = {},
  }
  handlers[i].about = ' events for ' .. handlers[i].name
  require_type('list', handlers[i].queue)
end

-- By kind. `next_mark` goes through the marks of all groups.
local new, duplicate, new_of_groups, reused, next_mark = {}, {}, {}, 0, 1
local events, duplicates = 0, {}
-- The events that several handlers want, by their mask, and these masks in order.
local shared, masks = {}, {}
for group = 1, next_number() do
  local kind, mask, marks_of_each, number = next_text(), next_text(), next_number(), next_number()
  local wanted, found = 0, nil
  for i, handler in ipairs(handlers) do
    if mask:byte(i) == 49 then wanted, found = wanted + 1, handler.events end
  end
  if wanted > 1 then
    if not shared[mask] then
      masks[#masks + 1] = mask
      shared[mask] = {}
    end
    found = shared[mask]
  end
  local unseen = 0
  for _ = 1, number do
    -- The first mark decides. The second is that of a reply's request: seen with another reply, it is not a repetition
    -- but an error of the sender.
    local is_new = mark_as_seen(marks[next_mark])
    if marks_of_each > 1 and not mark_as_seen(marks[next_mark + 1]) and is_new then reused = reused + 1 end
    next_mark = next_mark + marks_of_each
    position, events = position + 1, events + 1
    if is_new then
      unseen = unseen + 1
      if live then live[#live + 1] = position end
      if found then found[#found + 1] = ARGV[position] end
    else
      duplicates[#duplicates + 1] = events
    end
  end
  new_of_groups[group] = unseen
  new[kind] = (new[kind] or 0) + unseen
  duplicate[kind] = (duplicate[kind] or 0) + number - unseen
  for i, handler in ipairs(handlers) do
    if mask:byte(i) == 49 then handler.queued[kind] = (handler.queued[kind] or 0) + unseen end
  end
end

for kind, number in pairs(duplicate) do
  if number > 0 then count(kind .. '.duplicate', number) end
end
for kind, number in pairs(new) do
  if number > 0 then count(kind .. '.unique', number) end
  for _, handler in ipairs(handlers) do
    local queued = handler.queued[kind] or 0
    if queued > 0 then count(kind .. '.queued:' .. handler.name, queued) end
    if queued < number then count(kind .. '.filtered:' .. handler.name, number - queued) end
  end
end

local portions = {}
for _, mask in ipairs(masks) do
  local events = shared[mask]
  for first = 1, #events, max_events do
    local last = math.min(first + max_events - 1, #events)
    local portion = {text = table.concat(events, ',', first, last), size = last - first + 1, jobs = 0}
    portions[#portions + 1] = portion
    for i, handler in ipairs(handlers) do
      if mask:byte(i) == 49 then
        portion.jobs = portion.jobs + 1
        handler.portions[#handler.portions + 1] = portion
      end
    end
  end
end

local jobs = 0
for _, handler in ipairs(handlers) do
  handler.jobs = plan_deliveries(handler.events, handler.portions, max_events)
  jobs = jobs + #handler.jobs
end
-- From here on it writes.
if #new_marks > 0 then add_marks(KEYS[5], generations, generation, new_marks) end
for number, portion in ipairs(portions) do
  portion.name = string.format('%s-%d-%d', step_id, jobs, number)
  redis.call('HSET', PORTIONS, portion.name, portion.text)
  redis.call('HSET', PORTION_JOBS, portion.name, portion.jobs)
end
for _, handler in ipairs(handlers) do
  enqueue_deliveries(KEYS[2], handler.queue, handler.events, handler.jobs, step_id, handler)
end

for _ = 1, next_number() do
  local kind, number, key, id = next_text(), next_number(), next_text(), next_text()
  add_failure(KEYS[3], key, id, next_number(), next_number(), next_list())
  count(kind .. '.quarantined', number)
end

if reused > 0 then count(next_text(), reused) end
write_counts(KEYS[1])
settle()
drop_generations(KEYS[5], ended_generations)
if live and #live > 0 then pcall(publish, channel, KEYS[4], live, max_live, max_live_bytes) end
return {1, events - #duplicates, duplicates, new_of_groups, reused}
