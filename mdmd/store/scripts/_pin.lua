-- Says nil if this certificate may speak for the device, else the error to answer.
-- An empty fingerprint is a check-in that an integrator vouches for (migration).
local function refuse(device, pin_key, fingerprint, device_id)
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
  return nil
end
