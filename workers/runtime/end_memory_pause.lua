-- End a handler's pause, if it is one for want of memory.
--
-- KEYS  1 the handler's pause
if redis.call('HGET', KEYS[1], 'by') ~= 'memory' then return 0 end
return redis.call('DEL', KEYS[1])
