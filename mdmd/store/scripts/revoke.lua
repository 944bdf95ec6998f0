-- uses: _frame _identity
-- Revokes a certificate, known or not; from now on nobody is let in with it, nor with the one that
-- the device has renewed it to and not shown yet. Answers 0 if it was.
-- KEYS: 2 certificate, 3 its pin
-- ARGV: 7 fingerprint, 8 reason, 9 and 10 what is around an id in the name of a device's record,
--       11 and 12 what is before a fingerprint in the names of a certificate and of its pin
local reason = ARGV[8]

-- Takes back one of them; answers who has it.
local function revoke(certificate, pin, fingerprint)
  local owner = redis.call('GET', pin)
  if owner == REVOKED then return nil end
  local it = redis.call('HMGET', certificate, 'enrollment', 'ends', 'serial')
  if not owner or owner == '' then owner = it[1] or '' end
  redis.call('SET', pin, REVOKED)
  if it[2] then
    redis.call('HSET', certificate, 'revoked', ARGV[1], 'reason', reason)
    redis.call('EXPIREAT', pin, math.max(tonumber(it[2]), math.floor(now / 1000) + 86400))
  end
  event('mdmd.CertificateRevoked', owner, '', 'fingerprint', fingerprint, 'serial', it[3] or '',
    'reason', reason)
  return owner
end

local owner = revoke(KEYS[2], KEYS[3], ARGV[7])
if not owner then return 0 end
local device = ARGV[9] .. owner .. ARGV[10]
local pins = redis.call('HMGET', device, 'pin', 'next_pin')
if pins[1] == ARGV[7] then
  redis.call('HSET', device, 'pin', REVOKED .. ARGV[7])
  if pins[2] then
    local bytes = string.gsub(pins[2], '%x%x', function(hex) return string.char(tonumber(hex, 16)) end)
    revoke(ARGV[11] .. bytes, ARGV[12] .. pins[2], pins[2])
  end
end
if pins[1] == ARGV[7] or pins[2] == ARGV[7] then
  redis.call('HDEL', device, 'next_pin', 'next_begins', 'next_ends')
end
return 1
