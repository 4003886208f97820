-- Drop the named failures. Follows drop_failure.lua.
--
-- ARGV  as there, then the failures' ids
-- Returns for each 1, or 0 if it was dropped or replayed before
local done = {}
for i = position + 1, #ARGV do done[#done + 1] = drop(ARGV[i]) and 1 or 0 end
return done
