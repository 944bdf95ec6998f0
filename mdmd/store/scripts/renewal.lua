-- uses: _frame
-- Moves a renewal on, unless it has moved meanwhile; answers 1 if it did.
-- KEYS: 2 record, 3 renewals shard
-- ARGV: 7 state and 8 time that it is in, 9 new state, 10 attempts, 11 command, 12 next step
--       (ms, '' none), 13 id, 14 member, 15 why
local was = redis.call('HMGET', KEYS[2], 'renewal', 'renewal_at', 'enabled', 'renewal_uuid')
if not was[3] then
  redis.call('ZREM', KEYS[3], ARGV[14])
  return 0
end
if (was[1] or '') ~= ARGV[7] or (was[2] or '') ~= ARGV[8] then return 0 end
if ARGV[12] == '' then redis.call('ZREM', KEYS[3], ARGV[14])
else redis.call('ZADD', KEYS[3], ARGV[12], ARGV[14]) end
if ARGV[9] == ARGV[7] and ARGV[11] == (was[4] or '') then return 1 end
redis.call('HSET', KEYS[2], 'renewal', ARGV[9], 'renewal_at', ARGV[1], 'renewal_tries', ARGV[10],
  'renewal_uuid', ARGV[11])
event('mdmd.Renewal', ARGV[13], '', 'state', ARGV[9], 'attempts', ARGV[10],
  'command_uuid', ARGV[11], 'reason', ARGV[15])
return 1
