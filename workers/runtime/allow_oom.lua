-- Shared beginning of the scripts that run while Redis is at its maxmemory too: they free memory, or need next to none.
--
-- Redis refuses a script's command for want of memory only until the script has written, and never refuses to delete. So
-- the first write is to delete a key that never exists; on Redis 7.0 `#!lua flags=allow-oom` would say the same, and
-- 6.2 cannot read it.
redis.call('DEL', 'cb:none')

