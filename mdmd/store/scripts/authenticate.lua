-- uses: _frame _identity _history
-- A device begins a new generation. docs/store.md, "Authenticate".
-- KEYS: 2 record, 3 pin, 4 facts, 5 push, 6 unlock, 7 bootstrap, 8 archive, 9 channels,
--       10 queue, 11 sent, 12 ended, 13 ended's sent, 14 work shard, 15 ids, 16 topics, 17 serial,
--       18 certificate, 19 renewals shard, 20 serials in order
-- ARGV: 7 fingerprint, 8 when the certificate ends (s), 9 id, 10 type, 11 member, 12 topic,
--       13 message, 14 prefix of serials, 15 the serial, 16 when the certificate begins (s),
--       17 when to renew it (ms, '' never), 18 '1': refuse a certificate that is not recorded;
--       then names and values of facts
local record, pin, facts, push, unlock, bootstrap, archive, channels, queue, sent, ended,
  ended_sent, work, ids, topics, serial, certificate, renewals, serials = unpack(KEYS, 2, 20)
local fingerprint, ends, id, kind, member, topic, raw = unpack(ARGV, 7, 13)

local owner = fingerprint ~= '' and redis.call('GET', pin)
if owner == REVOKED then return redis.error_reply('REVOKED it is') end
if fingerprint ~= '' and not owner and ARGV[18] == '1' then return redis.error_reply('UNKNOWN here') end
if owner and owner ~= '' and owner ~= id then return redis.error_reply('TAKEN elsewhere') end
local was = redis.call('HMGET', record, 'pin', 'next_pin', 'generation')
local renewal = fingerprint ~= '' and (was[1] == fingerprint or was[2] == fingerprint)
local generation = (tonumber(was[3]) or 0) + 1

-- The tokens of the last generation: archived, not destroyed.
local function put_away(key, field)
  local value = redis.call('GET', key)
  if not value then return end
  redis.call('HSET', archive, field, value, 'generation', generation - 1)
  redis.call('UNLINK', key)
end
put_away(push, 'push')
put_away(unlock, 'unlock')
if not renewal then put_away(bootstrap, 'bootstrap') end

-- Its queue leaves its place at once; `supersede` moves what is in there into the results.
local function end_queue(suffix)
  local q, s, x, xs = queue .. suffix, sent .. suffix, ended .. suffix, ended_sent .. suffix
  if redis.call('EXISTS', q) == 1 then
    if redis.call('RENAMENX', q, x) == 0 then
      redis.call('ZUNIONSTORE', x, 2, x, q)
      redis.call('UNLINK', q)
    end
  end
  if redis.call('EXISTS', s) == 1 and redis.call('RENAMENX', s, xs) == 0 then
    redis.call('UNLINK', s)
  end
  return redis.call('ZCARD', x)
end

local function disable(key, name)
  local old = redis.call('HMGET', key, 'enabled', 'topic')
  if old[1] == '1' and old[2] then
    if redis.call('HINCRBY', topics, old[2], -1) < 1 then redis.call('HDEL', topics, old[2]) end
  end
  redis.call('HSET', key, 'enabled', 0, 'tally', 0, 'generation', generation)
  redis.call('HDEL', key, 'dropped', 'first_push', 'step')
  redis.call('ZREM', work, name)
end

disable(record, member)
local left = {'', end_queue('')}
for _, channel in ipairs(redis.call('HKEYS', channels)) do
  local suffix = ':' .. channel
  disable(record .. suffix, member .. suffix)
  put_away(push .. suffix, 'push' .. suffix)
  left[#left + 1] = channel
  left[#left + 1] = end_queue(suffix)
end

if fingerprint == '' then
  redis.call('HSET', record, 'migrated', 1)
  redis.call('HDEL', record, 'pin', 'next_pin')
else
  redis.call('SET', pin, id)
  if tonumber(ends) > 0 then redis.call('EXPIREAT', pin, ends) end
  redis.call('HSET', record, 'pin', fingerprint, 'begins', ARGV[16], 'ends', ends)
  redis.call('HDEL', record, 'migrated', 'renewal_uuid')
  -- A new certificate that its old one was given stays good while the old one is in use.
  if was[1] ~= fingerprint then
    redis.call('HDEL', record, 'next_pin', 'next_begins', 'next_ends')
  end
  if redis.call('EXISTS', certificate) == 1 then
    redis.call('HSET', certificate, 'enrollment', id)
  end
  if was[2] == fingerprint then
    redis.call('HSET', record, 'renewal', 'renewed', 'renewal_at', ARGV[1])
    event('mdmd.IdentityRenewed', id, '', 'fingerprint', fingerprint)
  elseif was[1] ~= fingerprint then
    redis.call('HDEL', record, 'renewal', 'renewal_at', 'renewal_tries')
  end
  if ARGV[17] ~= '' then redis.call('ZADD', renewals, ARGV[17], member) end
end
redis.call('HSET', record, 'type', kind, 'topic', topic, 'seen', ARGV[1])
local old_serial = redis.call('HGET', facts, 'SerialNumber')
if old_serial and old_serial ~= ARGV[15] and redis.call('GET', ARGV[14] .. old_serial) == id then
  redis.call('UNLINK', ARGV[14] .. old_serial)
  redis.call('ZREM', serials, old_serial)
end
redis.call('UNLINK', facts)
if #ARGV > 18 then redis.call('HSET', facts, unpack(ARGV, 19)) end
if ARGV[15] ~= '' then
  redis.call('SET', serial, id)
  redis.call('ZADD', serials, 0, ARGV[15])
end
redis.call('ZADD', ids, 0, id)
said('mdm.Authenticate', id, raw, fingerprint, 'type', kind, 'generation', generation)
return left
