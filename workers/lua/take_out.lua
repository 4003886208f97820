-- Take an entry out of the quarantine or of the dead letters: to drop it, or to let it go the normal way again.
--
-- KEYS  1 the entry   2 the index it stands in   3 counters   4 RQ's set of queues
-- ARGV  the entry's id, how many counters, each with its change, then, if a job is to run: the queue's list, the
--       job's hash, its id, and the fields of its hash
-- Gives 1, or 0 if the entry is gone, by its age or by somebody else's hand: then nothing is changed
if redis.call('DEL', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
local position = 2
for _ = 1, tonumber(ARGV[position]) do
  redis.call('HINCRBY', KEYS[3], ARGV[position + 1], ARGV[position + 2])
  position = position + 2
end
local queue, job, id = ARGV[position + 1], ARGV[position + 2], ARGV[position + 3]
if queue then
  redis.call('HSET', job, unpack(ARGV, position + 4))
  redis.call('RPUSH', queue, id)
  redis.call('SADD', KEYS[4], queue)
end
return 1
