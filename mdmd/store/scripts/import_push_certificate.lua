-- uses: _frame
-- Stores a push certificate as another server had it, unless one of its topic came meanwhile.
-- KEYS: 2 certificate, 3 versions, 4 warnings
-- ARGV: 7 topic, 8 certificate, 9 sealed key, 10 not after (s), 11 version, 12 the last warning
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'version', ARGV[11], 'certificate', ARGV[8], 'key', ARGV[9])
redis.call('HSET', KEYS[3], ARGV[7], ARGV[11] .. ' ' .. ARGV[10])
if ARGV[12] ~= '' then redis.call('HSET', KEYS[4], ARGV[7], ARGV[12]) end
event('mdmd.PushCertificate', '', '', 'push_topic', ARGV[7], 'version', ARGV[11],
  'not_after', ARGV[10])
return 1
