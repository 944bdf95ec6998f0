-- Takes who is due in some sorted sets: each gets the end of the lease as its time, so that nobody
-- else takes it before.
-- KEYS: shards     ARGV: 1 now, 2 end of the lease, 3 limit
local taken = {}
for _, shard in ipairs(KEYS) do
  local room = tonumber(ARGV[3]) - #taken
  if room <= 0 then break end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', shard, '-inf', ARGV[1], 'LIMIT', 0, room)) do
    redis.call('ZADD', shard, ARGV[2], member)
    taken[#taken + 1] = member
  end
end
return taken
