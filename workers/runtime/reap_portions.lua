-- Count anew the jobs that need portions, and delete the portions that none needs. Behind portions.lua. Both are right
-- unless somebody deleted jobs, or numbers, by hand: the steps that end jobs keep them so. A portion is made in one step
-- with the jobs that need it, so it is safe to do this at any time.
--
-- ARGV  prefix of a job's hash, then the names of portions: <what its step's job ids begin with>-<jobs of that step>-<n>
-- Returns how many were deleted
local prefix, deleted = ARGV[1], 0
for i = 2, #ARGV do
  local name, jobs = ARGV[i], 0
  local step_id, last = name:match('^(%x+)%-(%d+)%-%d+$')
  if tonumber(last or 0) > 0xffff then step_id, last = nil, 0 end
  for number = 1, last or 0 do
    local needed = redis.pcall('HGET', prefix .. string.format('%s%04x', step_id, number), 'portions')
    if type(needed) == 'string' and (' ' .. needed .. ' '):find(' ' .. name .. ' ', 1, true) then jobs = jobs + 1 end
  end
  if not step_id then
    -- Not a name that this release gives.
  elseif jobs > 0 then
    if redis.call('HGET', PORTION_JOBS, name) ~= tostring(jobs) then redis.call('HSET', PORTION_JOBS, name, jobs) end
  else
    redis.call('HDEL', PORTION_JOBS, name)
    deleted = deleted + redis.call('HDEL', PORTIONS, name)
  end
end
return deleted
