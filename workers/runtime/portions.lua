-- Fragment for the scripts that write, read or end jobs whose events are stored in portions. A portion is the JSON of some
-- events that several handlers want, stored once; the job of each of these handlers names it in its field `portions`.
--
-- Both keys and the field change together with the jobs, in the same step: so a portion is deleted with the last job that
-- needs it, and not before. `keys.PORTIONS` has the text of each, `keys.PORTION_JOBS` how many jobs need it.
local PORTIONS, PORTION_JOBS = 'cb:events', 'cb:events:jobs'

-- Returns the bytes of the portions that a job's field names, nil if one of them is missing.
local function count_portion_bytes(names)
  local sum = 0
  for name in (names or ''):gmatch('%S+') do
    local bytes = redis.pcall('HSTRLEN', PORTIONS, name)
    if type(bytes) ~= 'number' or bytes == 0 then return nil end
    sum = sum + bytes
  end
  return sum
end

-- Count down, for each portion that a job's field `names`, the jobs that need it; delete a portion at 0. If its number
-- was deleted or overwritten by hand, keep it: reap_portions.lua counts its jobs.
local function release_portions(job, names)
  if not names then return end
  redis.call('HDEL', job, 'portions')
  for name in names:gmatch('%S+') do
    local number = redis.pcall('HGET', PORTION_JOBS, name)
    local left = type(number) == 'string' and tonumber(number)
    if left and left > 1 then
      redis.call('HSET', PORTION_JOBS, name, string.format('%d', left - 1))
    elseif left then
      redis.call('HDEL', PORTION_JOBS, name)
      redis.pcall('HDEL', PORTIONS, name)
    end
  end
end

