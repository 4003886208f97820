-- Fragment for the scripts that read or write the marks of events seen. Behind types.lua.
--
-- A mark is the 12 bytes of a digest, in a set. The sets of one generation hold the marks that workers with the same
-- setting and the same handlers made within half a lifetime. It ends as a whole, one and a half lifetimes after its
-- start: so a mark lives for one lifetime at least. `generations`: what shared/keys.py says of `cb:seen`.
local MARK_BYTES = 12
-- Redis needs 58 bytes for each member of a set that has almost a power of two of them, and up to 66 otherwise. One of
-- this size is freed in 2 ms. A step sends two or three commands for each set: a small installation has 1, a larger one
-- 10, and one with more than 320,000 marks in half a lifetime 50: each command costs about 1 µs.
local MARKS_PER_SET, SETS_GROWTH, MAX_SETS = 32000, 10, 50
-- `unpack` takes some 7,900 values.
local MAX_MEMBERS = 4000
-- Beyond that, workers with other handlers share a generation, of which nobody knows to whom its events were offered.
local MAX_GENERATIONS, ANY_HANDLERS = 32, '?'

-- Return the living generations, oldest first, and those that have ended.
local function read_generations(key, now)
  require_type('hash', key)
  local fields, living, ended = redis.call('HGETALL', key), {}, {}
  for i = 1, #fields, 2 do
    local name, seconds, sets, handlers = fields[i], fields[i + 1]:match('^(%d+) (%d+) ?(.*)$')
    local start = tonumber(name)
    if not (start and seconds) then error('ERR ' .. key .. ' holds a value that is no generation: delete it', 0) end
    local generation = {
      name = name, start = start, ms = seconds * 1000, sets = tonumber(sets), handlers = handlers,
      prefix = key .. ':' .. name .. ':',
    }
    local list = now < start + generation.ms * 1.5 and living or ended
    list[#list + 1] = generation
  end
  table.sort(living, function(a, b) return a.start < b.start end)
  return living, ended
end

-- Return the marks that one argument holds. `struct.unpack` cuts many in one call; its last value is where it ended.
local function cut_marks(text)
  local marks, members = {}, MARK_BYTES * MAX_MEMBERS
  for first = 1, #text, members do
    local number = math.min(members, #text - first + 1) / MARK_BYTES
    local cut = {struct.unpack(('c' .. MARK_BYTES):rep(number), text, first)}
    for i = 1, number do marks[#marks + 1] = cut[i] end
  end
  return marks
end

-- What `group_marks` returned, by the list of marks and the number of sets: marks are looked up, and then added.
local groups_made = {}

-- Return which of these marks belong to each set of a generation that has `sets` sets, by the number of the set.
local function group_marks(marks, sets)
  if sets == 1 then return {[0] = marks} end
  local made = groups_made[marks] or {}
  groups_made[marks] = made
  if made[sets] then return made[sets] end
  local groups = {}
  for _, mark in ipairs(marks) do
    local high, low = mark:byte(1, 2)
    local number = (high * 256 + low) % sets
    local members = groups[number]
    if members then members[#members + 1] = mark else groups[number] = {mark} end
  end
  made[sets] = groups
  return groups
end

-- Call `act(key, marks, first, last)` for each set of a generation that these marks belong to.
local function for_each_set(generation, marks, act)
  for number, members in pairs(group_marks(marks, generation.sets)) do
    for first = 1, #members, MAX_MEMBERS do
      act(generation.prefix .. number, members, first, math.min(first + MAX_MEMBERS - 1, #members))
    end
  end
end

-- Return the generation of each mark that is in one, by mark.
local function find_marks(generations, marks)
  local found = {}
  for _, generation in ipairs(generations) do
    for_each_set(generation, marks, function(key, members, first, last)
      local reply = redis.call('SMISMEMBER', key, unpack(members, first, last))
      for i = 1, #reply do
        if reply[i] == 1 then found[members[first + i - 1]] = generation end
      end
    end)
  end
  return found
end

-- Return the generation for new marks: the newest of this lifetime and these handlers, or one that `add_marks` begins
-- because there is none, or it is half a lifetime old, or `added` marks more are too many for its sets. One that begins
-- in the future was made while Redis's clock was ahead: marks added to it would live longer than they should.
local function current_generation(generations, key, seconds, handlers, now, added)
  if #generations >= MAX_GENERATIONS then handlers = ANY_HANDLERS end
  local newest, own, taken = generations[#generations], nil, {}
  for _, generation in ipairs(generations) do
    local is_ahead = generation.start > now + generation.ms / 2
    if generation.ms == seconds * 1000 and generation.handlers == handlers and not is_ahead then own = generation end
    taken[generation.name] = true
  end
  local latest = own or newest
  local marks = added + (latest and redis.call('SCARD', latest.prefix .. 0) * latest.sets or 0)
  if own and now < own.start + own.ms / 2 and (marks <= MARKS_PER_SET * own.sets or own.sets == MAX_SETS) then
    return own
  end
  local sets = 1
  while sets < MAX_SETS and marks > MARKS_PER_SET * sets do sets = math.min(sets * SETS_GROWTH, MAX_SETS) end
  local start = now
  while taken[string.format('%.0f', start)] do start = start + 1 end
  local name = string.format('%.0f', start)
  local generation = {
    name = name, start = start, ms = seconds * 1000, sets = sets, handlers = handlers, is_new = true,
    prefix = key .. ':' .. name .. ':',
  }
  for number = 0, sets - 1 do require_type('set', generation.prefix .. number) end
  return generation
end

-- Return when Redis deletes the sets of a generation (ms). That is for the case that nothing calls `drop_generations`,
-- and later, as Redis stops while it frees a large key.
local function expiry(generation)
  return generation.start + generation.ms * 1.6
end

-- Add marks that `find_marks` did not find. A set has an empty member from the start, so that it has its expiry at once.
local function add_marks(key, generations, generation, marks)
  if generation.is_new then
    local last = expiry(generation)
    for _, other in ipairs(generations) do last = math.max(last, expiry(other)) end
    redis.call('HSET', key, generation.name, string.format(
      '%.0f %d %s', generation.ms / 1000, generation.sets, generation.handlers
    ))
    redis.call('PEXPIREAT', key, string.format('%.0f', last))
    local expires = string.format('%.0f', expiry(generation))
    for number = 0, generation.sets - 1 do
      redis.call('SADD', generation.prefix .. number, '')
      redis.call('PEXPIREAT', generation.prefix .. number, expires)
    end
  end
  for_each_set(generation, marks, function(name, members, first, last)
    redis.call('SADD', name, unpack(members, first, last))
  end)
end

-- Redis frees what is unlinked in a thread of its own.
local function drop_generations(key, ended)
  for _, generation in ipairs(ended) do
    local sets = {}
    for number = 0, generation.sets - 1 do sets[#sets + 1] = generation.prefix .. number end
    redis.call('UNLINK', unpack(sets))
    redis.call('HDEL', key, generation.name)
  end
end

