-- Writes a one-time challenge or link as another server had it.
-- KEYS: 1 its place     ARGV: 1 when it is forgotten (s); then names and values
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIREAT', KEYS[1], ARGV[1])
return 1
