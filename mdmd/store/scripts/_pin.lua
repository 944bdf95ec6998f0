-- Says nil if this certificate may speak for the device, else the error to answer.
-- An empty fingerprint is a check-in that an integrator vouches for (migration).
-- `life`: begin and end of the certificate (s), when to renew it (ms, '' never), the renewals
-- shard and the device's name there; for a certificate that nobody here has met before.
local function refuse(device, pin_key, fingerprint, device_id, life)
  if fingerprint == '' then return nil end
  local known = redis.call('HMGET', device, 'pin', 'next_pin', 'migrated', 'next_begins',
    'next_ends')
  if known[1] == fingerprint then return nil end
  if known[2] == fingerprint then
    -- A renewed identity shows itself for the first time: from now on it is the one.
    redis.call('HSET', device, 'pin', fingerprint, 'renewal', 'renewed', 'renewal_at', ARGV[1])
    if known[4] then
      redis.call('HSET', device, 'begins', known[4], 'ends', known[5])
    end
    redis.call('HDEL', device, 'next_pin', 'next_begins', 'next_ends')
    event('mdmd.IdentityRenewed', device_id, '', 'fingerprint', fingerprint)
    return nil
  end
  if known[1] == REVOKED .. fingerprint then return redis.error_reply('REVOKED it is') end
  if known[1] then return redis.error_reply('PIN another') end
  if not known[3] then return redis.error_reply('UNPINNED nothing') end
  -- Migrated from another server: the first certificate that it shows is its own.
  local owner = redis.call('GET', pin_key)
  if owner and owner ~= '' and owner ~= device_id then
    return redis.error_reply('TAKEN elsewhere')
  end
  redis.call('SET', pin_key, device_id)
  redis.call('HSET', device, 'pin', fingerprint)
  redis.call('HDEL', device, 'migrated')
  if life and tonumber(life[2]) > 0 then
    redis.call('EXPIREAT', pin_key, life[2])
    redis.call('HSET', device, 'begins', life[1], 'ends', life[2])
    if life[3] ~= '' then redis.call('ZADD', life[4], life[3], life[5]) end
  end
  return nil
end
