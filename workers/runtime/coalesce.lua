-- Shared beginning of the scripts that take waiting jobs along with a running one, behind clock.lua and pause_state.lua.
-- Nothing is lost between the queue and the list of the jobs taken along.
--
-- KEYS  1 the queue's list   2 the list of the jobs taken along   3 the running job's hash   4 the handler's pause, if
--       the queue is a handler's
-- ARGV  1 most items   2 most bytes of data   3 prefix of a job's hash   4 prefix of a list of jobs taken along
local max_items, max_bytes, prefix, coalesced_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local items, bytes = 0, 0
local result = {}
local claimed = {[KEYS[3]] = true}  -- an id that was pushed twice is worked on once

local function read_job(id)
  local job = redis.call('HMGET', prefix .. id, 'data', 'items', 'progress', 'finished', 'deaths', 'isolated', 'failures')
  return {
    data = job[1],
    items = tonumber(job[2] or 1),
    counted = job[2] or '',
    progress = job[3] or '0',
    finished = job[4] or '',
    is_isolated = job[5] or job[6] or job[7],  -- a worker died of it, could not read it, or failed with it
  }
end

-- Enter {id, progress, data, finished, items} in the result.
local function add(id, job)
  claimed[prefix .. id] = true
  result[#result + 1] = {id, job.progress, job.data, job.finished, job.counted}
  items = items + job.items
  bytes = bytes + #job.data
end

-- Take what waits, first to last, while it fits; the first of all fits always.
local function claim_waiting()
  while items < max_items and bytes < max_bytes do
    local id = redis.call('LINDEX', KEYS[1], 0)
    if not id then break end
    local job = read_job(id)
    local coalesced = coalesced_prefix .. id
    if claimed[prefix .. id] then
      redis.call('LPOP', KEYS[1])
    elseif not job.data then
      redis.call('LPOP', KEYS[1])  -- deleted by hand while it waited; RQ passes over such ids too
      while redis.call('LMOVE', coalesced, KEYS[1], 'RIGHT', 'LEFT') do end
    elseif items > 0 and (items + job.items > max_items or bytes + #job.data > max_bytes) then
      break
    elseif job.is_isolated then
      break
    elseif job.progress == tostring(job.items) then
      break  -- all of it is settled, so no settlement comes that would end it: its own run does
    elseif redis.call('EXISTS', coalesced) == 1 then
      break  -- an earlier run of it took others along, which wait for its own next run: ended here, it would lose them
    else
      redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
      add(id, job)
    end
  end
end
