-- uses: _frame
-- Writes the warning of a push certificate that ends soon, once for all daemons.
-- KEYS: 2 warnings     ARGV: 7 topic, 8 version, 9 days of the warning, 10 not after (s)
-- Answers 1, or 0 if one as grave was written for this version.
local version, days = string.match(redis.call('HGET', KEYS[2], ARGV[7]) or '', '^(%S+) (%S+)$')
if version == ARGV[8] and tonumber(days) <= tonumber(ARGV[9]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[7], ARGV[8] .. ' ' .. ARGV[9])
event('mdmd.PushCertificateExpiry', '', '', 'push_topic', ARGV[7], 'version', ARGV[8],
  'days', ARGV[9], 'not_after', ARGV[10])
return 1
