-- Give up on scheduled retries: their events become dead letters, in one step with the counters. A job that is no longer
-- scheduled, or is not as it was read, is not changed. Nor is one with portions or coalesced jobs: with such a job this
-- service failed as a whole, not the handler with an event.
--
-- KEYS  1 counters   2 index of the handler's dead letters
-- ARGV  for settlement.lua: '', '', 0; then the registry of jobs scheduled for the queue, prefix of a job's hash, prefix of a
--       list of coalesced jobs; then for each job:
--       its id, its progress; counts: counter, number
--       dead letters: the counter of dead letters, that of dropped ones, key, id, time in ms, lifetime in seconds, fields
--       The registry and the jobs are no KEYS: the user of the operators' page may not read and write all of them.
-- Returns for each job 1, 0 if it was no longer scheduled, or -1 if it is left
local registry, prefix, coalesced_prefix = next_text(), next_text(), next_text()
require_keys(KEYS[1], KEYS[2])
require_type('zset', registry)

local function state(id, progress)
  local key = prefix .. id
  if not redis.call('ZSCORE', registry, id) then return 0 end
  require_type('hash', key)
  local job = redis.call('HMGET', key, 'data', 'progress', 'portions')
  if not job[1] or (job[2] or '0') ~= progress or job[3] then return -1 end
  return redis.call('EXISTS', coalesced_prefix .. id) == 1 and -1 or 1
end

local jobs, done = {}, {}
while position < #ARGV do
  local job = {id = next_text(), counts = {}, letters = {}}
  job.state = state(job.id, next_text())
  for i = 1, next_number() do job.counts[i] = {next_text(), next_number()} end
  for i = 1, next_number() do
    local letter = {
      dead = next_text(), dropped = next_text(), key = next_text(), id = next_text(), ms = next_number(),
      seconds = next_number(), fields = next_list(),
    }
    require_type('hash', letter.key)
    job.letters[i] = letter
  end
  jobs[#jobs + 1] = job
  done[#done + 1] = job.state
end

for _, job in ipairs(jobs) do
  if job.state == 1 then
    for _, letter in ipairs(job.letters) do
      -- As in settle.lua: one of a repeated event replaces the earlier one.
      count(redis.call('EXISTS', letter.key) == 1 and letter.dropped or letter.dead, 1)
      add_failure(KEYS[2], letter.key, letter.id, letter.ms, letter.seconds, letter.fields)
    end
    for _, change in ipairs(job.counts) do count(change[1], change[2]) end
    redis.call('ZREM', registry, job.id)
    redis.call('UNLINK', prefix .. job.id)
  end
end
write_counts(KEYS[1])
return done
