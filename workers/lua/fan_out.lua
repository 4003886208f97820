-- Decide which events are new, mark and count them, and enqueue them for each handler that wants them: one step.
--
-- KEYS  1 counters   2 RQ's set of queues   3 index of the quarantine
-- ARGV  settlements (see settling.lua), then
--       lifetime of a mark in seconds, prefix of a mark
--       handlers: name, queue's list, head and tail of a job's data, fields of a job's hash, most events a job,
--                 prefix of a job's hash, ids for its jobs
--       events: kind, marks, mask ('1' at the place of each handler that wants it), the event
--       records that cannot be read: kind, how many, key, id, time in ms, lifetime in seconds, fields
-- Gives {1, new events, duplicates}, or {0} if the settlement is refused
if is_repeated() then return {1, 0, 0} end
if not is_current() then return {0} end

local mark_seconds, mark_prefix = next_number(), next_text()
local handlers = {}
for i = 1, next_number() do
  handlers[i] = {
    name = next_text(), queue = next_text(), head = next_text(), tail = next_text(), fields = next_list(),
    most = next_number(), prefix = next_text(), ids = next_list(), events = {}, queued = {},
  }
end

-- By kind. What follows is done for each event: it reads ARGV at its places, and counts without making any text.
local new, duplicate = {}, {}
for _ = 1, next_number() do
  local kind, marks = ARGV[position + 1], tonumber(ARGV[position + 2])
  local mask, event = ARGV[position + marks + 3], ARGV[position + marks + 4]
  local seen = false
  -- Every mark is set even when another one was seen: a reply known by its message id brings a new request id,
  -- which is known from now on too. NX leaves the lifetime of the marks that stand.
  for i = position + 3, position + marks + 2 do
    if not redis.call('SET', mark_prefix .. ARGV[i], '1', 'EX', mark_seconds, 'NX') then seen = true end
  end
  position = position + marks + 4
  if seen then
    duplicate[kind] = (duplicate[kind] or 0) + 1
  else
    new[kind] = (new[kind] or 0) + 1
    for i = 1, #handlers do
      if mask:byte(i) == 49 then
        local handler = handlers[i]
        handler.events[#handler.events + 1] = event
        handler.queued[kind] = (handler.queued[kind] or 0) + 1
      end
    end
  end
end

local new_events, duplicates = 0, 0
for kind, number in pairs(duplicate) do
  duplicates = duplicates + number
  count(kind .. '.duplicate', number)
end
for kind, number in pairs(new) do
  new_events = new_events + number
  count(kind .. '.unique', number)
  for _, handler in ipairs(handlers) do
    local queued = handler.queued[kind] or 0
    if queued > 0 then count(kind .. '.queued:' .. handler.name, queued) end
    if queued < number then count(kind .. '.unwanted:' .. handler.name, number - queued) end
  end
end

for _, handler in ipairs(handlers) do
  local used = 0
  for first = 1, #handler.events, handler.most do
    local last = math.min(first + handler.most - 1, #handler.events)
    used = used + 1
    local id, size = handler.ids[used], last - first + 1
    local key = handler.prefix .. id
    redis.call('HSET', key, unpack(handler.fields))
    redis.call(
      'HSET', key,
      'data', handler.head .. table.concat(handler.events, ',', first, last) .. handler.tail,
      'description', size .. ' events for ' .. handler.name,
      'items', size
    )
    redis.call('RPUSH', handler.queue, id)
  end
  if used > 0 then redis.call('SADD', KEYS[2], handler.queue) end
end

for _ = 1, next_number() do
  local kind, number, key, id = next_text(), next_number(), next_text(), next_text()
  keep_for(KEYS[3], key, id, next_number(), next_number(), next_list())
  count(kind .. '.quarantined', number)
end

write_counts(KEYS[1])
settle()
return {1, new_events, duplicates}
