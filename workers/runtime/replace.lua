-- End the run of a job that failed again and again, and put something else in its place: a job for each of its items, or
-- entries of the quarantine or of a handler's dead letters. Unless the run was ended before. Behind settlement.lua, of whose
-- settlements there are none.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the jobs taken along
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs   8 counters   9 the entries' index
-- ARGV  (as settlement.lua), the job's id, the run's id, then
--       entries: the counter of such entries, that of dropped ones, records, key, id, time in ms, lifetime in seconds,
--                fields
--       jobs: hash, id, fields
-- Gives 1, or 0 if the run held the job no more: then nothing is changed
require_keys(KEYS[8], KEYS[9])
require_type('zset', KEYS[1], KEYS[6])
require_type('list', KEYS[3], KEYS[4])
require_type('set', KEYS[7])
local job_id, run_id = next_text(), next_text()
local member = job_id .. ':' .. run_id
if not redis.call('ZSCORE', KEYS[1], member) or redis.call('HEXISTS', KEYS[2], 'data') == 0 then return 0 end

local entries = {}
for i = 1, next_number() do
  entries[i] = {
    counter = next_text(), dropped = next_text(), records = next_number(), key = next_text(), id = next_text(),
    ms = next_number(), seconds = next_number(), fields = next_list(),
  }
  require_type('hash', entries[i].key)
end

redis.call('DEL', KEYS[2], KEYS[5], KEYS[6])
redis.call('ZREM', KEYS[1], member)
redis.call('SREM', KEYS[7], member)
while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
for _, entry in ipairs(entries) do
  -- One of its name is replaced, as in settle.lua, and the earlier one counts as dropped.
  count(redis.call('EXISTS', entry.key) == 1 and entry.dropped or entry.counter, entry.records)
  add_failure(KEYS[9], entry.key, entry.id, entry.ms, entry.seconds, entry.fields)
end
for _ = 1, next_number() do
  local key, id = next_text(), next_text()
  redis.call('HSET', key, unpack(next_list()))
  redis.call('RPUSH', KEYS[3], id)
end
write_counts(KEYS[8])
return 1
