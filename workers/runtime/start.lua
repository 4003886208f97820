-- Start a job that was popped: from RQ's intermediate list into its registry of running jobs in one step, and only if
-- it still stands in that list. If it does not, it was given to somebody else meanwhile and must not run here.
--
-- KEYS  1 the intermediate list   2 the job's hash   3 the queue's list   4 list of the jobs taken along
-- ARGV  1 the job's id, then commands that enter it as running, each as its number of words and the words
-- Gives 1, or 0 if it must not run
if not redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
if redis.call('HEXISTS', KEYS[2], 'data') == 0 then
  -- Deleted by hand: what it had taken along before goes on without it.
  redis.call('LREM', KEYS[1], 1, ARGV[1])
  while redis.call('LMOVE', KEYS[4], KEYS[3], 'RIGHT', 'LEFT') do end
  return 0
end
local position = 2
while position <= #ARGV do
  local last = position + tonumber(ARGV[position])
  redis.call(unpack(ARGV, position + 1, last))
  position = last + 1
end
-- Last: where one of the commands fails, the job still stands where it is found and put back.
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1
