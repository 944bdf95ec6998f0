-- Writes a certificate that was issued elsewhere; answers 0 if its pin is here, and another one.
-- KEYS: 1 certificate, 2 its pin, 3 its serial number, 4 issued
-- ARGV: 1 its name in 4, 2 when it is forgotten (s), 3 '1': it has a pin, 4 the pin, 5 when that
--       ends (s, 0 never); then names and values
local pin = redis.call('GET', KEYS[2])
if ARGV[3] == '1' then
  if pin and pin ~= ARGV[4] and pin ~= '' then return 0 end
  redis.call('SET', KEYS[2], ARGV[4])
  if ARGV[5] ~= '0' then redis.call('EXPIREAT', KEYS[2], ARGV[5]) end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('EXPIREAT', KEYS[1], ARGV[2])
redis.call('SET', KEYS[3], ARGV[1])
redis.call('EXPIREAT', KEYS[3], ARGV[2])
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
return 1
