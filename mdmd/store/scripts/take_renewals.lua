-- Takes those whose identity is to be looked after, each for the length of the lease.
-- KEYS: 1 a shard     ARGV: 1 now, 2 end of the lease, 3 at most
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], member) end
return due
