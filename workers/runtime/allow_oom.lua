-- Fragment for the scripts that also run while Redis is at its maxmemory: they free memory, or need next to none.
--
-- Redis refuses a script's command for lack of memory only until the script has written, and never refuses to delete. So
-- the first write deletes a key that never exists. On Redis 7.0 `#!lua flags=allow-oom` would do the same, but 6.2
-- cannot read it.
redis.call('DEL', 'cb:none')

