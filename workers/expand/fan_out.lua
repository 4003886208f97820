-- Decide which events are new, mark and count them, and enqueue them for each handler that wants them: one step.
--
-- KEYS  1 counters   2 RQ's set of queues   3 index of the quarantine   4 what the feed of live events had this second
--       5 the generations of marks (see marks.lua)
-- ARGV  settlements (see settlement.lua), then
--       lifetime of a mark in seconds, the handlers' names, the marks of all events in their order below, in one text,
--       '1' if they are all different
--       channel of the live events, maximum of events and of bytes per second (see live.lua)
--       what the ids of this step's jobs begin with, maximum of events per job, prefix of a job's hash
--       handlers: name, queue's list, head and tail of a job's data, fields of a job's hash
--       groups of events: kind, mask (for each handler '1' if it wants them), number of marks of each, how many texts;
--                         each text: how many events, their lengths, 'json' and their JSON, with a comma between two, or
--                         'data' and the data of a job that has no others
--       records that cannot be read: kind, how many, key, id, time in ms, lifetime in seconds, fields
--       records that are dropped, as they mention a forgotten number: counter, how many
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
local marks, are_different = cut_marks(next_text()), next_text() == '1'
local generation = current_generation(generations, KEYS[5], mark_seconds, handler_names, now, #marks)
-- By mark: all that were there, and those of the new events of this step.
local seen, new_marks = find_marks(generations, marks), {}
-- Nearly always. Then there is nothing to decide for each event.
local all_new = are_different and next(seen) == nil
if all_new then new_marks = marks end

-- Return whether a mark is new, which it is once. Marks that are there stay as they are: they keep their lifetime.
local function mark_as_seen(mark)
  if seen[mark] then return false end
  seen[mark] = true
  new_marks[#new_marks + 1] = mark
  return true
end

local channel, max_live, max_live_bytes = next_text(), next_number(), next_number()
-- The new events, if anybody listens.
local live = is_watched(channel) and {}
local step_id, max_events, job_prefix = next_text(), next_number(), next_text()
local handlers = {}
for i = 1, next_number() do
  handlers[i] = {
    name = next_text(), queue = next_text(), head = next_text(), tail = next_text(), fields = next_list(),
    prefix = job_prefix, texts = {}, queued = {},
  }
  handlers[i].about = ' events for ' .. handlers[i].name
  require_type('list', handlers[i].queue)
end

-- By kind. `next_mark` goes through the marks of all groups.
local new, duplicate, new_of_groups, reused, next_mark = {}, {}, {}, 0, 1
local events, duplicates = 0, {}
-- The texts that several handlers want.
local portions = {}

-- Return the events of a text, the first of which begins at `first`, without those at the positions in `without`.
local function cut_events(text, first, lengths, without)
  local found, index = {}, 0
  for length in lengths:gmatch('%d+') do
    index = index + 1
    if not without[index] then found[#found + 1] = text:sub(first, first + length - 1) end
    first = first + length + 1
  end
  return found
end

-- Mark the events of a text as seen; return which of them were, by their positions in it, and how many.
local function find_repeats(size, marks_of_each)
  local repeats, number = {}, 0
  for i = 1, all_new and 0 or size do
    -- The first mark decides. The second is that of a reply's request: seen with another reply, it is not a repetition
    -- but an error of the sender.
    local is_new = mark_as_seen(marks[next_mark])
    if marks_of_each > 1 and not mark_as_seen(marks[next_mark + 1]) and is_new then reused = reused + 1 end
    next_mark = next_mark + marks_of_each
    if not is_new then
      repeats[i], number = true, number + 1
      duplicates[#duplicates + 1] = events + i
    end
  end
  events = events + size
  return repeats, number
end

for group = 1, next_number() do
  local kind, mask, marks_of_each = next_text(), next_text(), next_number()
  local wanting = {}
  for i, handler in ipairs(handlers) do
    if mask:byte(i) == 49 then wanting[#wanting + 1] = handler end
  end
  local total, unseen = 0, 0
  for _ = 1, next_number() do
    local size, lengths, form, given = next_number(), next_text(), next_text(), next_text()
    local repeats, number = find_repeats(size, marks_of_each)
    -- Nearly always all are new, and the text is used as it is: to cut it makes a string of each event.
    local first = form == 'data' and #wanting[1].head + 1 or 1
    local found = (number > 0 or live) and cut_events(given, first, lengths, repeats)
    local text = {size = size - number}
    if number > 0 then
      text.json = table.concat(found, ',')
    else
      text[form] = given
    end
    total, unseen = total + size, unseen + text.size
    if live then
      for _, event in ipairs(found) do live[#live + 1] = event end
    end
    if text.size > 0 then
      if #wanting > 1 then
        text.is_portion, text.jobs = true, #wanting
        portions[#portions + 1] = text
      end
      for _, handler in ipairs(wanting) do handler.texts[#handler.texts + 1] = text end
    end
  end
  new_of_groups[group] = unseen
  new[kind] = (new[kind] or 0) + unseen
  duplicate[kind] = (duplicate[kind] or 0) + total - unseen
  for _, handler in ipairs(wanting) do handler.queued[kind] = (handler.queued[kind] or 0) + unseen end
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

local jobs = 0
for _, handler in ipairs(handlers) do
  handler.jobs = plan_deliveries(handler.texts, max_events)
  jobs = jobs + #handler.jobs
end
-- From here on it writes.
if #new_marks > 0 then add_marks(KEYS[5], generations, generation, new_marks) end
for number, portion in ipairs(portions) do
  portion.name = string.format('%s-%d-%d', step_id, jobs, number)
  redis.call('HSET', PORTIONS, portion.name, portion.json)
  redis.call('HSET', PORTION_JOBS, portion.name, portion.jobs)
end
for _, handler in ipairs(handlers) do
  enqueue_deliveries(KEYS[2], handler.queue, handler.jobs, step_id, handler)
end

for _ = 1, next_number() do
  local kind, number, key, id = next_text(), next_number(), next_text(), next_text()
  add_failure(KEYS[3], key, id, next_number(), next_number(), next_list())
  count(kind .. '.quarantined', number)
end

for _ = 1, next_number() do
  local counter = next_text()
  count(counter, next_number())
end

if reused > 0 then count(next_text(), reused) end
write_counts(KEYS[1])
settle()
drop_generations(KEYS[5], ended_generations)
if live and #live > 0 then pcall(publish, channel, KEYS[4], live, max_live, max_live_bytes) end
return {1, events - #duplicates, duplicates, new_of_groups, reused}
