-- Fragment for the scripts that run commands of their caller. ARGV from `position` on: each command as its number of words
-- and the words. Returns their replies.
local function run_commands(position)
  local replies = {}
  while position <= #ARGV do
    local last = position + tonumber(ARGV[position])
    replies[#replies + 1] = redis.call(unpack(ARGV, position + 1, last))
    position = last + 1
  end
  return replies
end

