-- uses: _frame
-- Uses up a one-time link; answers the names and values it was made with.
-- KEYS: 2 link     ARGV: 7 request
-- The same request may come again: a link stays good for the request that used it.
local it = redis.call('HMGET', KEYS[2], 'expires', 'request', 'label', 'name')
if not it[1] then return redis.error_reply('LINK unknown') end
if it[2] and it[2] ~= ARGV[7] then return redis.error_reply('LINK used') end
if tonumber(it[1]) <= now then return redis.error_reply('LINK expired') end
if not it[2] then
  redis.call('HSET', KEYS[2], 'request', ARGV[7])
  event('mdmd.LinkUsed', '', '', 'label', it[3], 'name', it[4])
end
return {it[3], it[4]}
