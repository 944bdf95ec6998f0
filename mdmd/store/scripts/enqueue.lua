-- uses: _frame
-- Queues one command on many enrollments. Answers a letter for each: queued, Disabled (queued),
-- duplicate or unknown.
-- KEYS: 2 command, 3 sequence; then for each target: record, queue, work shard
-- ARGV: 7 packed uuid, 8 uuid, 9 type, 10 digest, 11 body ('': it is there already), 12 score of
--       the priority, 13 expires, 14 max attempts, 15 delay of the push ('': at once), 16 id if
--       there is one target; then the targets' members
local command, uuid = KEYS[2], ARGV[7]
local digest = redis.call('HGET', command, 'digest')
if digest and digest ~= ARGV[10] then return redis.error_reply('BODY differs') end
if not digest and ARGV[11] == '' then return redis.error_reply('NOBODY given') end
local score = tonumber(ARGV[12]) + redis.call('INCR', KEYS[3])
local later = ARGV[15] ~= '' and now + tonumber(ARGV[15])
local answers, queued = {}, 0

local function wake(work, member, first_push)
  if later then
    redis.call('ZADD', work, 'NX', later, member)
  else
    redis.call('ZADD', work, math.max(now, tonumber(first_push or 0)), member)
  end
end

for at = 1, (#KEYS - 3) / 3 do
  local record, queue, work = unpack(KEYS, at * 3 + 1, at * 3 + 3)
  local known = redis.call('HMGET', record, 'enabled', 'last', 'first_push')
  if not known[1] then
    answers[at] = 'u'
  elseif known[2] == uuid or redis.call('ZADD', queue, 'NX', score, uuid) == 0 then
    answers[at] = 'd'
  else
    queued = queued + 1
    answers[at] = known[1] == '1' and 'q' or 'D'
    if known[1] == '1' then wake(work, ARGV[16 + at], known[3]) end
  end
end
if queued > 0 then
  if not digest then
    redis.call('HSET', command, 'uuid', ARGV[8], 'type', ARGV[9], 'digest', ARGV[10],
      'body', ARGV[11], 'queued', ARGV[1])
    if ARGV[13] ~= '' then redis.call('HSET', command, 'expires', ARGV[13]) end
    if ARGV[14] ~= '' then redis.call('HSET', command, 'max', ARGV[14]) end
  end
  redis.call('HINCRBY', command, 'refs', queued)
  event('mdmd.Enqueued', ARGV[16], '', 'command_uuid', ARGV[8], 'request_type', ARGV[9],
    'enrollments', queued)
end
return table.concat(answers)
