-- Fragment for the scripts that put coalesced jobs back: to the front of the queue, in their old order.
local function requeue_coalesced(coalesced, queue, on_each)
  while true do
    local id = redis.call('LMOVE', coalesced, queue, 'RIGHT', 'LEFT')
    if not id then return end
    if on_each then on_each(id) end
  end
end

