-- Says when the first enrollment of all shards is due.     KEYS: shards
local first
for _, shard in ipairs(KEYS) do
  local head = redis.call('ZRANGE', shard, 0, 0, 'WITHSCORES')
  if head[2] and (not first or tonumber(head[2]) < tonumber(first)) then first = head[2] end
end
return first
