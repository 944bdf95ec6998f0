-- Says when a key ends, in seconds since the epoch, which is how all ends are set that go with a
-- certificate; nil for never. The store's own clock counts here, for it is the one that ends keys.
local function ends(key)
  local left = redis.call('PTTL', key)
  if left < 0 then return nil end
  local time = redis.call('TIME')
  return math.floor(time[1] + time[2] / 1000000 + left / 1000 + 0.5)
end
