-- End the run of a job that failed repeatedly, and put its replacement in the job's place: a job for each of its items, or
-- failures (quarantined callbacks, or dead letters of a handler). Does nothing if the run has ended before. Behind
-- settlement.lua, with no settlements.
--
-- KEYS  1 registry of running jobs   2 the job's hash   3 the queue's list   4 list of the coalesced jobs
--       5 the run's hash   6 registry of the job's runs   7 set of the worker's runs   8 counters   9 index of the failures
-- ARGV  (as settlement.lua), the job's id, the run's id, then
--       failures: the counter of such failures, that of dropped ones, records, key, id, time in ms, lifetime in seconds,
--                 fields
--       jobs: hash, id, fields
-- Returns 1, or 0 if the run no longer held the job: then nothing has changed
require_keys(KEYS[8], KEYS[9])
require_type('zset', KEYS[1], KEYS[6])
require_type('list', KEYS[3], KEYS[4])
require_type('set', KEYS[7])
local job_id, run_id = next_text(), next_text()
local member = job_id .. ':' .. run_id
if not redis.call('ZSCORE', KEYS[1], member) or redis.call('HEXISTS', KEYS[2], 'data') == 0 then return 0 end

local failures = {}
for i = 1, next_number() do
  failures[i] = {
    counter = next_text(), dropped = next_text(), records = next_number(), key = next_text(), id = next_text(),
    ms = next_number(), seconds = next_number(), fields = next_list(),
  }
  require_type('hash', failures[i].key)
end

release_portions(KEYS[2], redis.call('HGET', KEYS[2], 'portions'))
redis.call('DEL', KEYS[2], KEYS[5], KEYS[6])
redis.call('ZREM', KEYS[1], member)
redis.call('SREM', KEYS[7], member)
requeue_coalesced(KEYS[4], KEYS[3])
for _, failure in ipairs(failures) do
  -- One with the same id is replaced, as in settle.lua, and the earlier one counts as dropped.
  count(redis.call('EXISTS', failure.key) == 1 and failure.dropped or failure.counter, failure.records)
  add_failure(KEYS[9], failure.key, failure.id, failure.ms, failure.seconds, failure.fields)
end
for _ = 1, next_number() do
  local key, id = next_text(), next_text()
  enqueue(KEYS[3], key, id, next_list())
end
write_counts(KEYS[8])
return 1
