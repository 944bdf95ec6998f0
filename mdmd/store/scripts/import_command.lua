-- Keeps a command for the devices that are imported next; without one it goes after a day.
-- KEYS: 1 command     ARGV: 1 digest, then names and values
local digest = redis.call('HGET', KEYS[1], 'digest')
if digest then
  if digest ~= ARGV[1] then return redis.error_reply('BODY another') end
  return 0
end
redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'refs', 0, unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], 86400)
return 1
