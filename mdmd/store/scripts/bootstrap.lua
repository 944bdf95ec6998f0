-- uses: _frame _identity _pin
-- A Mac escrows its bootstrap token, or asks for it back. Answers the sealed token, if any.
-- KEYS: 2 device, 3 pin, 4 bootstrap
-- ARGV: 7 fingerprint, 8 device id, 9 id, 10 type, 11 topic of the event, 12 message,
--       13 '1': 14 is the new sealed token ('' forgets it)
local refused = refuse(KEYS[2], KEYS[3], ARGV[7], ARGV[8])
if refused then return refused end
if ARGV[13] == '1' then
  if ARGV[14] == '' then redis.call('UNLINK', KEYS[4]) else redis.call('SET', KEYS[4], ARGV[14]) end
end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'seen', ARGV[1]) end
said(ARGV[11], ARGV[9], ARGV[12], ARGV[7], 'type', ARGV[10])
return redis.call('GET', KEYS[4])
