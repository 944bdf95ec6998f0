-- Stores a one-time challenge or link under the digest of its secret.
-- KEYS: 1 its place     ARGV: 1 when it expires, 2 how long from now it is remembered (ms);
--                             then names and values
redis.call('HSET', KEYS[1], 'expires', ARGV[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
