-- wrk's script: every request is a callback of its own, with message ids that nobody sent before.
--
-- Arguments: the file with the template of a body, the mark that stands for a callback's number in it, and the number
-- before the first. It is for one thread: a second would send the same numbers.
local parts, number, width = {}, 0, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local template = file:read("*a")
  file:close()
  local mark = args[2]
  width = #mark
  number = tonumber(args[3])
  local head = string.format(
    "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n",
    wrk.path, wrk.headers["Host"], #template
  )
  local from = 1
  while true do
    local first, last = template:find(mark, from, true)
    if not first then break end
    parts[#parts + 1] = template:sub(from, first - 1)
    from = last + 1
  end
  parts[#parts + 1] = template:sub(from)
  parts[1] = head .. parts[1]
end

function request()
  number = number + 1
  return table.concat(parts, string.format("%0" .. width .. "d", number))
end

function done(summary, latency, requests)
  local wrong = 0
  for _, number in pairs(summary.errors) do wrong = wrong + number end
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"wrong":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, wrong, latency:percentile(50), latency:percentile(99), latency.max
  ))
end
