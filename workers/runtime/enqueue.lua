-- Fragment for the scripts that enqueue jobs.
local function enqueue(queue, key, id, fields)
  redis.call('HSET', key, unpack(fields))
  redis.call('RPUSH', queue, id)
end

-- Returns the jobs that deliver events, and portions of events, at most `max_events` each: the first and the last event
-- of each, its portions, and its size. A portion stays whole.
local function plan_deliveries(events, portions, max_events)
  local jobs = {}
  for first = 1, #events, max_events do
    local last = math.min(first + max_events - 1, #events)
    jobs[#jobs + 1] = {first = first, last = last, size = last - first + 1, portions = {}}
  end
  for _, portion in ipairs(portions) do
    local job = jobs[#jobs]
    if not job or job.size + portion.size > max_events then
      job = {first = 1, last = 0, size = 0, portions = {}}
      jobs[#jobs + 1] = job
    end
    job.portions[#job.portions + 1] = portion
    job.size = job.size + portion.size
  end
  return jobs
end

-- The ids of a step's jobs are `step_id` and a number: so a portion says which jobs may need it (reap_portions.lua).
local jobs_enqueued = 0

-- Enqueues planned jobs, and enters the queue in RQ's set of queues.
--
-- `delivery`: `prefix` of a job's hash, `fields` of the hash, `head` and `tail` of its data, and `about`, what its
-- description says after the number of events.
local function enqueue_deliveries(queues, queue, events, jobs, step_id, delivery)
  for _, job in ipairs(jobs) do
    jobs_enqueued = jobs_enqueued + 1
    local id = string.format('%s%04x', step_id, jobs_enqueued)
    local key = delivery.prefix .. id
    redis.call(
      'HSET', key,
      'data', delivery.head .. table.concat(events, ',', job.first, job.last) .. delivery.tail,
      'description', job.size .. delivery.about,
      'items', job.size,
      unpack(delivery.fields)
    )
    if #job.portions > 0 then
      local names = {}
      for i, portion in ipairs(job.portions) do names[i] = portion.name end
      redis.call('HSET', key, 'portions', table.concat(names, ' '))
    end
    redis.call('RPUSH', queue, id)
  end
  if #jobs > 0 then redis.call('SADD', queues, queue) end
end

