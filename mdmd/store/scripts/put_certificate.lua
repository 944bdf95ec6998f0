-- uses: _frame
-- Stores a push certificate; answers its version.
-- KEYS: 2 certificate, 3 versions     ARGV: 7 topic, 8 certificate, 9 sealed key, 10 not after (s)
local version = redis.call('HINCRBY', KEYS[2], 'version', 1)
redis.call('HSET', KEYS[2], 'certificate', ARGV[8], 'key', ARGV[9])
redis.call('HSET', KEYS[3], ARGV[7], version .. ' ' .. ARGV[10])
event('mdmd.PushCertificate', '', '', 'push_topic', ARGV[7], 'version', version,
  'not_after', ARGV[10])
return version
