-- uses: _frame _identity _pin
-- An enrollment leaves; a device takes its user channels with it. Queue and history stay.
-- KEYS: 2 device, 3 record, 4 pin, 5 channels, 6 work shard, 7 topics
-- ARGV: 7 fingerprint, 8 device id, 9 id, 10 type, 11 member, 12 channel, 13 message
local device, record, pin, channels, work, topics = unpack(KEYS, 2, 7)
local refused = refuse(device, pin, ARGV[7], ARGV[8])
if refused then return refused end

local function disable(key, name)
  local old = redis.call('HMGET', key, 'enabled', 'topic')
  if old[1] ~= '1' then return end
  if redis.call('HINCRBY', topics, old[2], -1) < 1 then redis.call('HDEL', topics, old[2]) end
  redis.call('HSET', key, 'enabled', 0)
  redis.call('ZREM', work, name)
end
disable(record, ARGV[11])
if ARGV[12] == '' then
  for _, channel in ipairs(redis.call('HKEYS', channels)) do
    disable(record .. ':' .. channel, ARGV[11] .. ':' .. channel)
  end
end
if redis.call('EXISTS', record) == 1 then redis.call('HSET', record, 'seen', ARGV[1]) end
said('mdm.CheckOut', ARGV[9], ARGV[13], ARGV[7], 'type', ARGV[10])
return 1
