-- Pause a handler without an end. Whoever did so before has said since when.
--
-- KEYS  1 the handler's pause
if redis.call('HGET', KEYS[1], 'by') == 'operator' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'by', 'operator', 'since_ms', now_ms())
return 1
