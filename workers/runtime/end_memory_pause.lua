-- End a handler's pause, if lack of memory caused it.
--
-- KEYS  1 the handler's pause
-- Returns 1 if it was one, else 0
if redis.call('HGET', KEYS[1], 'by') ~= 'memory' then return 0 end
return redis.call('DEL', KEYS[1])
