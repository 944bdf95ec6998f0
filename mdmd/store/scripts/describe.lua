-- uses: _damaged
-- Reads all that is known of some enrollments but their secrets; false for one that is damaged.
-- KEYS: for each: record, facts, queue, push, unlock, bootstrap, work shard, device
-- ARGV: 1 where parked commands begin; then their members
local LATER_FROM = '1125899906842624'
local answers = {}
local function describe(at)
  local record, facts, queue, push, unlock, bootstrap, work, device = unpack(KEYS, at * 8 - 7, at * 8)
  return {redis.call('HGETALL', record), redis.call('HGETALL', facts),
    redis.call('ZCOUNT', queue, '-inf', ARGV[1]) + redis.call('ZCOUNT', queue, LATER_FROM, '+inf'),
    redis.call('EXISTS', push),
    redis.call('EXISTS', unlock), redis.call('EXISTS', bootstrap),
    redis.call('ZSCORE', work, ARGV[at + 1]), redis.call('HGET', device, 'pin')}
end
for at = 1, #KEYS / 8 do answers[at] = damaged(describe, at) or false end
return answers
