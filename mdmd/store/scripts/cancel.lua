-- uses: _frame _history _queue
-- Takes commands out of a queue: the named one, or the first `cap`. They end as `cancelled`.
-- Answers how many are left, then what list_queue says of each that was taken.
-- KEYS: 2 queue, 3 sent, 4 results, 5 work shard     ARGV: 7 id, 8 member, 9 packed uuid or '', 10 cap
local queue, sent, results, work = unpack(KEYS, 2, 5)
local taken = {}
local function take(uuid, score)
  local c = redis.call('HMGET', COMMAND .. uuid, 'uuid', 'type', 'queued', 'expires', 'max', 'not_before',
    'place')
  taken[#taken + 1] = {uuid, score, redis.call('HGET', sent, uuid), c}
  redis.call('ZREM', queue, uuid)
  conclude(sent, results, uuid, 'cancelled', '', '', '')
  event('mdmd.Cancelled', ARGV[7], '', 'command_uuid', c[1] or '', 'request_type', c[2] or '')
end
if ARGV[9] ~= '' then
  local score = redis.call('ZSCORE', queue, ARGV[9])
  if not score then return redis.error_reply('NOTHERE nothing') end
  take(ARGV[9], score)
else
  local part = redis.call('ZRANGE', queue, 0, tonumber(ARGV[10]) - 1, 'WITHSCORES')
  for at = 1, #part, 2 do take(part[at], part[at + 1]) end
end
if not waiting(queue) then redis.call('ZREM', work, ARGV[8]) end
return {redis.call('ZCARD', queue), taken}
