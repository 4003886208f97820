-- Write down what became of events at their handler: counted, set aside, or to be tried again later: one step.
--
-- KEYS  1 counters   2 index of the handler's dead letters   3 registry of jobs scheduled for the handler's queue
-- ARGV  settlements (see settling.lua), then
--       counts: counter, number
--       dead letters: key, id, time in ms, lifetime in seconds, fields
--       retries: job's hash, its id, unix time in seconds when it is due, fields
-- Gives {1}, or {0} if the settlement is refused
if is_repeated() then return {1} end
if not is_current() then return {0} end

for _ = 1, next_number() do
  local counter = next_text()
  count(counter, next_number())
end

for _ = 1, next_number() do
  local key, id = next_text(), next_text()
  keep_for(KEYS[2], key, id, next_number(), next_number(), next_list())
end

for _ = 1, next_number() do
  local key, id, due = next_text(), next_text(), next_number()
  redis.call('HSET', key, unpack(next_list()))
  redis.call('ZADD', KEYS[3], due, id)
end

write_counts(KEYS[1])
settle()
return {1}
