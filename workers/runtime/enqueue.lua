-- Fragment for the scripts that enqueue jobs.
local function enqueue(queue, key, id, fields)
  redis.call('HSET', key, unpack(fields))
  redis.call('RPUSH', queue, id)
end

-- Returns the jobs that deliver texts, each the JSON of `size` events, at most `max_events` in each job. A text stays
-- whole: in the job's data, or, if other handlers want its events too (`is_portion`), in a portion. One that was given as
-- the data of a job (`data`) has that job for itself: Lua hashes each byte of the strings that it makes.
local function plan_deliveries(texts, max_events)
  local jobs = {}
  for _, text in ipairs(texts) do
    local job = jobs[#jobs]
    if not job or job.data or text.data or job.size + text.size > max_events then
      job = {size = 0, data = text.data, texts = {}, portions = {}}
      jobs[#jobs + 1] = job
    end
    if text.is_portion then
      job.portions[#job.portions + 1] = text
    else
      job.texts[#job.texts + 1] = text.json
    end
    job.size = job.size + text.size
  end
  return jobs
end

-- The ids of a step's jobs are `step_id` and a number: so a portion says which jobs may need it (reap_portions.lua).
local jobs_enqueued = 0

-- Enqueues planned jobs, and enters the queue in RQ's set of queues.
--
-- `delivery`: `prefix` of a job's hash, `fields` of the hash, `head` and `tail` of its data, and `about`, what its
-- description says after the number of events.
local function enqueue_deliveries(queues, queue, jobs, step_id, delivery)
  for _, job in ipairs(jobs) do
    jobs_enqueued = jobs_enqueued + 1
    local id = string.format('%s%04x', step_id, jobs_enqueued)
    local key = delivery.prefix .. id
    redis.call(
      'HSET', key,
      'data', job.data or delivery.head .. table.concat(job.texts, ',') .. delivery.tail,
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

