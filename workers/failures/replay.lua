-- Replay a failure: remove it from the quarantine, or from a handler's dead letters, and enqueue the job that handles it.
--
-- KEYS  1 the failure   2 its index   3 the index's bytes   4 counters   5 RQ's set of queues
-- ARGV  the failure's id, how many counters, each with its change, the queue's list, the job's hash, its id, and the
--       fields of its hash
-- Returns 1, or 0 if the failure was dropped or replayed before: then nothing is changed
local position = 2 + 2 * tonumber(ARGV[2])
require_type('hash', KEYS[1])
require_type('zset', KEYS[2])
require_type('string', KEYS[3])
require_integer(redis.call('GET', KEYS[3]), KEYS[3])
require_counters(KEYS[4])
require_type('set', KEYS[5])
require_type('list', ARGV[position + 1])
redis.call('ZREM', KEYS[2], ARGV[1])
local bytes = redis.call('HGET', KEYS[1], 'bytes') or 0
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('DECRBY', KEYS[3], bytes)
for i = 3, position, 2 do redis.call('HINCRBY', KEYS[4], ARGV[i], ARGV[i + 1]) end
local queue, job, id = ARGV[position + 1], ARGV[position + 2], ARGV[position + 3]
enqueue(queue, job, id, {unpack(ARGV, position + 4)})
redis.call('SADD', KEYS[5], queue)
return 1
