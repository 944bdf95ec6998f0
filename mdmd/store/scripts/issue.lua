-- uses: _frame _identity
-- Records a certificate before it is given away, and uses up the challenge, both or neither.
-- KEYS: 2 certificate, 3 its pin, 4 its serial, 5 issued, 6 challenge, 7 pin of the renewed one,
--       8 the renewed one
-- ARGV: 7 fingerprint, 8 serial, 9 not before, 10 not after (s), 11 subject, 12 common name,
--       13 via, 14 request, 15 renewed, 16 '1': refuse to renew an unknown one, 17 enrollment,
--       18 and 19 what is around an id in the name of a device's record, 20 kept after its end (s),
--       21 label, 22 fingerprint in half as many bytes
-- The same request may come again: a challenge stays good for the request that used it.
local certificate, pin, serial, issued, challenge, old_pin = unpack(KEYS, 2, 7)
local fingerprint, number, begins, ends, subject, name, via, request = unpack(ARGV, 7, 14)
local renewed, enrollment = ARGV[15], ARGV[17]
local label = ARGV[21]

if via == 'one-time' then
  local it = redis.call('HMGET', challenge, 'expires', 'request', 'name', 'enrollment', 'label')
  if not it[1] then return redis.error_reply('CHALLENGE unknown') end
  if it[2] and it[2] ~= request then return redis.error_reply('CHALLENGE used') end
  if tonumber(it[1]) <= now then return redis.error_reply('CHALLENGE expired') end
  if it[3] ~= '' and it[3] ~= name then return redis.error_reply('CHALLENGE name') end
  redis.call('HSET', challenge, 'request', request)
  enrollment, label = it[4], it[5]
elseif via == 'renewal' then
  local owner = redis.call('GET', old_pin)
  if owner == REVOKED then return redis.error_reply('REVOKED it is') end
  if not owner then
    -- Its pin has ended with it; what counts is that the device has not got another since.
    local id = redis.call('HGET', KEYS[8], 'enrollment')
    if id and redis.call('HGET', ARGV[18] .. id .. ARGV[19], 'pin') == renewed then owner = id end
  end
  if not owner and ARGV[16] == '1' then return redis.error_reply('UNKNOWN here') end
  enrollment = owner or ''
end

local device = ARGV[18] .. enrollment .. ARGV[19]
if enrollment ~= '' and redis.call('HEXISTS', device, 'pin') == 1 then
  -- Its next one: pinned as soon as the device shows it, whatever it says with it.
  redis.call('HSET', device, 'next_pin', fingerprint, 'next_begins', begins, 'next_ends', ends)
end
redis.call('SET', pin, enrollment, 'EXAT', ends)
local gone = tonumber(ends) + tonumber(ARGV[20])
redis.call('HSET', certificate, 'serial', number, 'begins', begins, 'ends', ends,
  'subject', subject, 'via', via, 'at', ARGV[1])
for name, value in pairs({label = label, enrollment = enrollment, renews = renewed}) do
  if value ~= '' then redis.call('HSET', certificate, name, value) end
end
redis.call('EXPIREAT', certificate, gone)
redis.call('SET', serial, ARGV[22], 'EXAT', gone)
redis.call('ZADD', issued, gone, ARGV[22])
redis.call('ZREMRANGEBYSCORE', issued, '-inf', math.floor(now / 1000))
event('mdmd.CertificateIssued', enrollment, '', 'serial', number, 'fingerprint', fingerprint,
  'subject', subject, 'via', via, 'label', label, 'not_after', ends, 'renews', renewed)
return 1
