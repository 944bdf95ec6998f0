-- uses: _frame _history
-- Moves up to `cap` commands of a past generation into the results; answers how many are left.
-- KEYS: 2 ended, 3 its sent, 4 results     ARGV: 7 id, 8 cap
local ended, sent, results = unpack(KEYS, 2, 4)
local cap = tonumber(ARGV[8])
local uuids = redis.call('ZRANGE', ended, 0, cap - 1)
for _, uuid in ipairs(uuids) do conclude(sent, results, uuid, 'superseded', '', '', '') end
if #uuids == 0 then return 0 end
redis.call('ZREMRANGEBYRANK', ended, 0, #uuids - 1)
event('mdmd.Superseded', ARGV[7], '', 'commands', #uuids)
local left = redis.call('ZCARD', ended)
if left == 0 then redis.call('UNLINK', sent) end
return left
