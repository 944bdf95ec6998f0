-- uses: _frame _identity
-- Revokes a certificate, known or not; from now on nobody is let in with it. Answers 0 if it was.
-- KEYS: 2 certificate, 3 its pin
-- ARGV: 7 fingerprint, 8 reason, 9 and 10 what is around an id in the name of a device's record
local fingerprint, reason = ARGV[7], ARGV[8]
local owner = redis.call('GET', KEYS[3])
if owner == REVOKED then return 0 end
local it = redis.call('HMGET', KEYS[2], 'enrollment', 'ends', 'serial')
if not owner or owner == '' then owner = it[1] or '' end
redis.call('SET', KEYS[3], REVOKED)
if it[2] then
  redis.call('HSET', KEYS[2], 'revoked', ARGV[1], 'reason', reason)
  redis.call('EXPIREAT', KEYS[3], math.max(tonumber(it[2]), math.floor(now / 1000) + 86400))
end
local device = ARGV[9] .. owner .. ARGV[10]
local pins = redis.call('HMGET', device, 'pin', 'next_pin')
if pins[1] == fingerprint then redis.call('HSET', device, 'pin', REVOKED .. fingerprint) end
if pins[2] == fingerprint then redis.call('HDEL', device, 'next_pin') end
event('mdmd.CertificateRevoked', owner, '', 'fingerprint', fingerprint, 'serial', it[3] or '',
  'reason', reason)
return 1
