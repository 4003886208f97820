-- Give a running job, and as many of the jobs waiting behind it as fit, to the worker that runs it.
-- What was taken along before a crash comes first; nothing is lost between the queue and the list. A job in whose run a
-- worker died takes no more along: something in it may be what kills. While the handler is paused nobody takes anything;
-- who comes first after that is the probe, alone until its lease runs out, and takes no more along either.
--
-- KEYS  1 the queue's list   2 the list of the jobs taken along   3 the running job's hash   4 the handler's pause, if
--       the queue is a handler's
-- ARGV  1 most items   2 most bytes of data   3 prefix of a job's hash   4 prefix of a list of jobs taken along
--       5 the probe's lease in ms   6 how long a pause is kept after its end, in ms
-- Gives {progress of the running job, false if it is gone, or 0 if the handler is paused, how many workers died of it,
-- what a dead worker's handler had finished of it (see put_back.lua), 1 if this is the probe, {id, progress, data,
-- finished}, …}
local most_items, most_bytes, prefix, taken_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local own = redis.call('HMGET', KEYS[3], 'data', 'items', 'progress', 'deaths', 'finished')
if not own[1] then return {false} end

local probes = 0
local pause = KEYS[4] and pause_at(KEYS[4])
if pause then
  if holds(pause, '') then return {0} end
  lasts_until(KEYS[4], now_ms() + tonumber(ARGV[5]), tonumber(ARGV[6]))
  redis.call('HSET', KEYS[4], 'probe', KEYS[3])
  probes = 1
end

local items = tonumber(own[2] or 1)
local bytes = #own[1]
local deaths = tonumber(own[4] or 0)
local result = {own[3] or '0', deaths, own[5] or '', probes}
local known = {[KEYS[3]] = true}  -- an id that was pushed twice is worked on once

local function look(id)
  local job = redis.call('HMGET', prefix .. id, 'data', 'items', 'progress', 'finished', 'deaths')
  return {data = job[1], items = tonumber(job[2] or 1), progress = job[3] or '0', finished = job[4] or '', deaths = job[5]}
end

local function add(id, job)
  known[prefix .. id] = true
  result[#result + 1] = {id, job.progress, job.data, job.finished}
  items = items + job.items
  bytes = bytes + #job.data
end

for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local job = look(id)
  if job.data and not known[prefix .. id] then
    add(id, job)
  else
    redis.call('LREM', KEYS[2], 1, id)
  end
end

while deaths == 0 and probes == 0 and items < most_items and bytes < most_bytes do
  local id = redis.call('LINDEX', KEYS[1], 0)
  if not id then break end
  local job = look(id)
  local taken = taken_prefix .. id
  if known[prefix .. id] then
    redis.call('LPOP', KEYS[1])
  elseif not job.data then
    redis.call('LPOP', KEYS[1])  -- deleted by hand while it waited; RQ passes over such ids too
    while redis.call('LMOVE', taken, KEYS[1], 'RIGHT', 'LEFT') do end
  elseif items + job.items > most_items or bytes + #job.data > most_bytes then
    break
  elseif job.deaths then
    break  -- a worker died of it: it has to run alone
  elseif job.progress == tostring(job.items) then
    break  -- all of it is settled, so no settlement comes that would end it: its own run does
  elseif redis.call('EXISTS', taken) == 1 then
    break  -- an earlier run of it took others along, which wait for its own next run: ended here, it would lose them
  else
    redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
    add(id, job)
  end
end
return result
