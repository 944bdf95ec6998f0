-- Takes enrollments that are due, and puts them off until the end of the lease.
-- KEYS: 1 the sorted set     ARGV: 1 now, 2 end of the lease, 3 how many
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], member) end
return due
