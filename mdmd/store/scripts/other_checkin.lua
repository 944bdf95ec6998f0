-- uses: _frame _identity _pin
-- Any check-in that changes no more than when the device was seen.
-- KEYS: 2 device, 3 pin     ARGV: 7 fingerprint, 8 device id, 9 id, 10 type, 11 topic, 12 message
local refused = refuse(KEYS[2], KEYS[3], ARGV[7], ARGV[8])
if refused then return refused end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'seen', ARGV[1]) end
event(ARGV[11], ARGV[9], ARGV[12], 'type', ARGV[10])
return 1
