-- uses: _frame
-- Records what became of a push.
-- KEYS: 2 record, 3 push, 4 work shard
-- ARGV: 7 id, 8 member, 9 end of the claim, 10 next push or '', 11 decision, 12 result, 13 status,
--       14 '1': drop the token, 15 the sealed token that was pushed to
local record, push, work = unpack(KEYS, 2, 4)
if redis.call('EXISTS', record) == 0 then return 0 end
redis.call('HSET', record, 'pushed', ARGV[1], 'push_result', ARGV[12])
-- A claim that ended, or an enrollment that connected or got work meanwhile, has its own time.
local claimed = redis.call('ZSCORE', work, ARGV[8]) == ARGV[9]
if claimed then
  if ARGV[11] == 'delivered' then
    redis.call('HINCRBY', record, 'pushes', 1)
    redis.call('HDEL', record, 'failures')
  else
    redis.call('HINCRBY', record, 'failures', 1)
  end
  if ARGV[10] == '' then
    redis.call('ZREM', work, ARGV[8])
  else
    -- One that was asked for right after the enrollment may have come too early for the device.
    local first = tonumber(redis.call('HGET', record, 'first_push') or 0)
    local next = tonumber(ARGV[10])
    redis.call('ZADD', work, first > now and math.min(first, next) or next, ARGV[8])
  end
end
if ARGV[14] == '1' and redis.call('GET', push) == ARGV[15] then
  redis.call('HSET', record, 'dropped', ARGV[12])
  redis.call('ZREM', work, ARGV[8])
end
-- What passes by itself, or is wrong with a whole topic, is no event of each enrollment.
if ARGV[11] == 'drop-token' or ARGV[11] == 'give-up' then
  event('mdmd.PushFailed', ARGV[7], '', 'decision', ARGV[11], 'reason', ARGV[12], 'status', ARGV[13])
end
return claimed and 1 or 0
