-- Fragment for a script that writes one thing less while Redis is at its maxmemory. Before allow_oom.lua: from the first
-- write on Redis refuses nothing. The command writes nothing, as the key never exists.
local is_full = type(redis.pcall('SETRANGE', 'cb:none', 0, '')) == 'table'

