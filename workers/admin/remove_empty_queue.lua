-- Take a queue that has become empty out of RQ's set of queues. Whoever enqueues there meanwhile enters it again, so it is
-- looked at and taken out in one step.
--
-- KEYS  1 RQ's set of queues   2 the queue's list   3 registry of jobs scheduled for it
if redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then redis.call('SREM', KEYS[1], KEYS[2]) end
