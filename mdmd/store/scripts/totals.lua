-- Counts what operators want to see at a glance.
-- KEYS: 1 ids, then the shards of the work set
local work = 0
for at = 2, #KEYS do work = work + redis.call('ZCARD', KEYS[at]) end
return {redis.call('ZCARD', KEYS[1]), work}
