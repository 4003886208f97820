-- Fragment for the scripts that enqueue jobs.
local function enqueue(queue, key, id, fields)
  redis.call('HSET', key, unpack(fields))
  redis.call('RPUSH', queue, id)
end

-- Enqueues events as jobs of at most `job.max_events`, and enters the queue in RQ's set of queues.
--
-- `job`: `ids` for as many jobs as the events may need, `prefix` of a job's hash, `fields` of the hash, `head` and `tail`
-- of its data, and `about`, what its description says after the number of events.
local function enqueue_events(queues, queue, events, job)
  local used = 0
  for first = 1, #events, job.max_events do
    local last = math.min(first + job.max_events - 1, #events)
    used = used + 1
    local id, size = job.ids[used], last - first + 1
    local key = job.prefix .. id
    redis.call('HSET', key, unpack(job.fields))
    redis.call(
      'HSET', key,
      'data', job.head .. table.concat(events, ',', first, last) .. job.tail,
      'description', size .. job.about,
      'items', size
    )
    redis.call('RPUSH', queue, id)
  end
  if used > 0 then redis.call('SADD', queues, queue) end
end

