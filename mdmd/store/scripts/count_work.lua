-- Counts the push work set.     KEYS: shards     ARGV: 1 now     Answers {all, due}.
local all, due = 0, 0
for _, shard in ipairs(KEYS) do
  all = all + redis.call('ZCARD', shard)
  due = due + redis.call('ZCOUNT', shard, '-inf', ARGV[1])
end
return {all, due}
