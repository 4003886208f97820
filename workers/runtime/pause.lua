-- Pause a handler until an operator resumes it. If an operator has paused it already, the time of that stays.
--
-- KEYS  1 the handler's pause
-- Returns 1, or 0 if an operator had paused it
if redis.call('HGET', KEYS[1], 'by') == 'operator' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'by', 'operator', 'since_ms', now_ms())
return 1
