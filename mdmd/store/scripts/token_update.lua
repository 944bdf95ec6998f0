-- uses: _frame _identity _pin _queue
-- A device, or a user channel of it, says where to push to. Answers the tally.
-- KEYS: 2 device, 3 record, 4 pin, 5 push, 6 unlock, 7 channels, 8 queue, 9 work shard,
--       10 ids, 11 topics, 12 renewals shard
-- ARGV: 7 fingerprint, 8 device id, 9 id, 10 type, 11 member, 12 channel, 13 topic,
--       14 push secret, 15 unlock token, 16 awaiting, 17 user's short name, 18 first delay,
--       19 message, 20 and 21 begin and end of the certificate (s), 22 when to renew it,
--       23 device's member
local device, record, pin, push, unlock, channels, queue, work, ids, topics = unpack(KEYS, 2, 11)
local fingerprint, device_id, id, kind, member, channel, topic = unpack(ARGV, 7, 13)
local refused = refuse(device, pin, fingerprint, device_id,
  {ARGV[20], ARGV[21], ARGV[22], KEYS[12], ARGV[23]})
if refused then return refused end

local old = redis.call('HMGET', record, 'enabled', 'topic', 'generation')
if old[1] ~= '1' or old[2] ~= topic then
  if old[1] == '1' then
    if redis.call('HINCRBY', topics, old[2], -1) < 1 then redis.call('HDEL', topics, old[2]) end
  end
  redis.call('HINCRBY', topics, topic, 1)
end
redis.call('HSET', record, 'enabled', 1, 'type', kind, 'topic', topic, 'seen', ARGV[1],
  'awaiting', ARGV[16], 'pushes', 0)
redis.call('HDEL', record, 'dropped')
redis.call('SET', push, ARGV[14])
if ARGV[15] ~= '' then redis.call('SET', unlock, ARGV[15]) end
redis.call('ZADD', ids, 0, id)
if channel ~= '' then
  redis.call('HSET', channels, channel, kind)
  redis.call('HSET', record, 'user', ARGV[17],
    'generation', redis.call('HGET', device, 'generation') or 1)
elseif not old[3] then
  redis.call('HSET', record, 'generation', 1)
end
if fingerprint == '' and not redis.call('HGET', device, 'pin') then
  redis.call('HSET', device, 'migrated', 1)
end
local tally = redis.call('HINCRBY', record, 'tally', 1)
local due = now + tonumber(ARGV[18])
if tally == 1 then redis.call('HSET', record, 'enrolled', ARGV[1], 'first_push', due) end
if waiting(queue) then redis.call('ZADD', work, due, member) end
said('mdm.TokenUpdate', id, ARGV[19], fingerprint, 'type', kind, 'tally', tally)
return tally
