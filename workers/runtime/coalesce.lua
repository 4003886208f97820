-- Fragment for the scripts that claim waiting jobs for a running one. Behind clock.lua, pause_state.lua,
-- requeue_coalesced.lua and portions.lua. A job moves from the queue to the list of coalesced jobs in one step, so none is
-- lost between. What the claimed jobs hold is read afterwards, by commands: as MiBs pass through Lua, Redis does nothing
-- else.
--
-- KEYS  1 the queue's list   2 list of the coalesced jobs   3 the running job's hash   4 the handler's pause, if
--       the queue is a handler's
-- ARGV  1 max items   2 max bytes of data   3 prefix of a job's hash   4 prefix of a list of coalesced jobs
--       5 the name of the run's worker
local max_items, max_bytes, prefix, coalesced_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local items, bytes = 0, 0
local result = {}
local claimed = {[KEYS[3]] = true}  -- an id that was pushed twice is worked on once

-- Returns whether the worker still runs the job. If not, the one that has taken it over would not know of what is claimed.
local function holds_job()
  local status, worker = unpack(redis.call('HMGET', KEYS[3], 'status', 'worker_name'))
  return status == 'started' and worker == ARGV[5] and redis.call('HEXISTS', KEYS[3], 'data') == 1
end

local function read_job(id)
  local key = prefix .. id
  local job = redis.call('HMGET', key, 'items', 'progress', 'finished', 'deaths', 'isolated', 'failures', 'portions')
  local data_bytes, portion_bytes = redis.call('HSTRLEN', key, 'data'), count_portion_bytes(job[7])
  return {
    exists = data_bytes > 0,
    bytes = data_bytes + (portion_bytes or 0),
    items = tonumber(job[1] or 1),
    stored_items = job[1] or '',
    progress = job[2] or '0',
    finished = job[3] or '',
    -- A worker died with it, could not read it, or failed with it; or it would fail, as its events are missing.
    is_isolated = job[4] or job[5] or job[6] or not portion_bytes,
  }
end

-- Returns 1 for a round of expand while numbers are forgotten: it has to ask which (expand/forgotten.py).
local function has_forgotten()
  return KEYS[4] and 0 or redis.call('EXISTS', 'cb:forgotten')
end

-- Adds {id, progress, finished, items} to the result.
local function add(id, job)
  claimed[prefix .. id] = true
  result[#result + 1] = {id, job.progress, job.finished, job.stored_items}
  items = items + job.items
  bytes = bytes + job.bytes
end

-- Claims what waits, first to last, while it fits. The first of all always fits.
local function claim_waiting()
  while items < max_items and bytes < max_bytes do
    local id = redis.call('LINDEX', KEYS[1], 0)
    if not id then break end
    local job = read_job(id)
    local coalesced = coalesced_prefix .. id
    if claimed[prefix .. id] then
      redis.call('LPOP', KEYS[1])
    elseif not job.exists then
      redis.call('LPOP', KEYS[1])  -- deleted by hand while it waited; RQ skips such ids too
      requeue_coalesced(coalesced, KEYS[1])
    elseif items > 0 and (items + job.items > max_items or bytes + job.bytes > max_bytes) then
      break
    elseif job.is_isolated then
      break
    elseif job.progress == tostring(job.items) then
      break  -- all of it is settled, so no settlement would end it: its own run does
    elseif redis.call('EXISTS', coalesced) == 1 then
      break  -- an earlier run of it coalesced others, which wait for its own next run: ended here, it would lose them
    else
      redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
      add(id, job)
    end
  end
end

