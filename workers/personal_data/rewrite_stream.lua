-- Put the copy of a stream in its place, with the entries that came meanwhile, its groups, their consumers and what is
-- pending there. XDEL leaves the bytes of an entry in memory and in the append-only file; a copy has none of them.
--
-- KEYS  1 the stream   2 its copy
-- ARGV  id of the last entry that was copied, how many entries to copy at most
-- Returns 1; 0 if more entries came than are copied in one step; -1 if entries were deleted meanwhile: copy it anew
local stream, copy = KEYS[1], KEYS[2]
local newer = redis.call('XRANGE', stream, '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(newer) do redis.call('XADD', copy, entry[1], unpack(entry[2])) end
if #newer == tonumber(ARGV[2]) then return 0 end

local function fields(reply)
  local found = {}
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

local info = fields(redis.call('XINFO', 'STREAM', stream))
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if redis.call('EXISTS', copy) == 0 then
  redis.call('XGROUP', 'CREATE', copy, 'x', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', copy, 'x')
end
if first then redis.call('XTRIM', copy, 'MINID', first[1]) else redis.call('XTRIM', copy, 'MAXLEN', 0) end
if redis.call('XLEN', copy) ~= redis.call('XLEN', stream) then return -1 end

for _, reply in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = fields(reply)
  local create = {'XGROUP', 'CREATE', copy, group.name, group['last-delivered-id']}
  if group['entries-read'] then
    create[6], create[7] = 'ENTRIESREAD', group['entries-read']
  end
  redis.call(unpack(create))
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group.name)) do
    redis.call('XGROUP', 'CREATECONSUMER', copy, group.name, fields(consumer).name)
  end
  local pending = redis.call('XPENDING', stream, group.name, '-', '+', group.pending + 1)
  for _, entry in ipairs(pending) do
    redis.call(
      'XCLAIM', copy, group.name, entry[2], 0, entry[1], 'IDLE', entry[3], 'RETRYCOUNT', entry[4], 'FORCE', 'JUSTID')
  end
end
local set_id = {'XSETID', copy, info['last-generated-id']}
if info['entries-added'] then
  for i, word in ipairs({'ENTRIESADDED', info['entries-added'], 'MAXDELETEDID', info['max-deleted-entry-id']}) do
    set_id[3 + i] = word
  end
end
redis.call(unpack(set_id))
local lifetime_ms = redis.call('PTTL', stream)
redis.call('RENAME', copy, stream)
if lifetime_ms >= 0 then redis.call('PEXPIRE', stream, lifetime_ms) else redis.call('PERSIST', stream) end
return 1
