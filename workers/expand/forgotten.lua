-- Add digests of forgotten numbers, each until its time, and extend the lifetime of all.
--
-- KEYS  1 the digests
-- ARGV  lifetime in seconds, the key of the digests, then digests with the times (s since 1970) at which they end
redis.call('HSET', KEYS[1], 'key', ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local left = redis.call('TTL', KEYS[1])
if left < tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return 1
