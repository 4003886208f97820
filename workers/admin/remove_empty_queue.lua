-- Remove a queue that has become empty from RQ's set of queues. A job enqueued meanwhile adds the queue again, so it is
-- checked and removed in one step.
--
-- KEYS  1 RQ's set of queues   2 the queue's list   3 registry of jobs scheduled for it
if redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then redis.call('SREM', KEYS[1], KEYS[2]) end
