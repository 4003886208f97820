-- Carry out commands, all of them in one step. Behind allow_oom.lua.
--
-- ARGV  each command as its number of words and the words
-- Gives their replies
local replies, position = {}, 1
while position <= #ARGV do
  local last = position + tonumber(ARGV[position])
  replies[#replies + 1] = redis.call(unpack(ARGV, position + 1, last))
  position = last + 1
end
return replies
