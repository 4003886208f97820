-- Drop the entries named. Behind drop_failure.lua.
--
-- ARGV  as there, then the entries' ids
-- Gives for each 1, or 0 if it is gone, by its age or by somebody else's hand
local done = {}
for i = position + 1, #ARGV do done[#done + 1] = drop(ARGV[i]) and 1 or 0 end
return done
