-- Reads a part of a queue: packed uuid, score, deliveries, then uuid, type, queued, expires,
-- max, not_before and place of each.
-- KEYS: 1 queue, 2 sent     ARGV: 1 prefix of commands, 2 first, 3 last
local lines = {}
local part = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'WITHSCORES')
for at = 1, #part, 2 do
  local uuid = part[at]
  lines[#lines + 1] = {uuid, part[at + 1], redis.call('HGET', KEYS[2], uuid),
    redis.call('HMGET', ARGV[1] .. uuid, 'uuid', 'type', 'queued', 'expires', 'max', 'not_before',
      'place')}
end
return lines
