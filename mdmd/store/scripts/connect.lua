-- uses: _frame _identity _pin _history _queue
-- A device connects: record its report, take the next command. docs/store.md, "connect".
-- KEYS: 2 device, 3 record, 4 queue, 5 sent, 6 results, 7 work shard, 8 pin, 9 renewals shard
-- ARGV: 7 fingerprint, 8 device id, 9 id, 10 type, 11 member, 12 repeat, 13 cap,
--       14 status, 15 uuid, 16 packed uuid, 17 digest, 18 error, 19 report,
--       20 and 21 begin and end of the certificate (s), 22 when to renew it, 23 device's member,
--       24 '1': it has expired, and fetches its renewal only
-- Answers the push topic, then as offer does.
local refused = refuse(KEYS[2], KEYS[8], ARGV[7], ARGV[8],
  {ARGV[20], ARGV[21], ARGV[22], KEYS[9], ARGV[23]})
if refused then return refused end
local device, record, queue, sent, results, work = unpack(KEYS, 2, 7)
local id, kind, member, delays, cap = ARGV[9], ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13])
local status, uuid, packed, digest, why, raw = unpack(ARGV, 14, 19)
local known = redis.call('HMGET', record, 'enabled', 'topic')
if not known[1] then return redis.error_reply('UNPINNED nothing') end

-- A report that did not reach its sender's knowledge comes again: nothing happens twice. If its
-- command ended before it, such as by an operator's cancel, that end tells the RequestType.
local function heard_before()
  local of, begin = uuid .. '\0', uuid .. '\0' .. digest .. '\0'
  local was = ''
  for _, entry in ipairs(redis.call('LRANGE', results, 0, -1)) do
    if string.sub(entry, 1, #begin) == begin then return true end
    if was == '' and string.sub(entry, 1, #of) == of then
      was = string.match(entry, '^%Z*%z%Z*%z(%Z*)') or ''
    end
  end
  return false, was
end

local nth = 1
local function not_now(score)
  local it = read_sent(redis.call('HGET', sent, packed))
  if it.state == 'notnow' then nth = it.not_now return end
  it.not_now = it.not_now + 1
  if it.first == '-' then it.first = ARGV[1] end
  it.latest = ARGV[1]
  if score < PARKED then it.state = 'notnow' end
  write_sent(sent, packed, it)
  if score < NOT_NOW then redis.call('ZADD', queue, score + NOT_NOW, packed) end
  nth = it.not_now
  event('mdm.Connect', id, raw, 'type', kind, 'status', status, 'command_uuid', uuid,
    'request_type', redis.call('HGET', COMMAND .. packed, 'type') or '', 'not_now', nth)
end

if status == 'Idle' then
  event('mdm.Connect', id, raw, 'type', kind, 'status', status)
else
  local score = tonumber(redis.call('ZSCORE', queue, packed) or nil)
  if score and status == 'NotNow' then
    not_now(score)
  elseif score then
    redis.call('ZREM', queue, packed)
    local about = conclude(sent, results, packed, status, digest, why, raw)
    redis.call('HSET', record, 'last', packed)
    if status == 'Acknowledged' and string.match(about[2] or '', '^%a+Configured$') then
      redis.call('HSET', record, 'awaiting', 0)
    end
    event('mdm.Connect', id, raw, 'type', kind, 'status', status, 'command_uuid', uuid,
      'request_type', about[2] or '', 'error', why, unpack(about[4] and {'partial', '1'} or {}))
  else
    local heard, was = heard_before()
    if not heard then
      remember(results, uuid, digest, was, 'orphan', why, '', 0, raw)
      -- Whether it asked for a part only is not known any more.
      event('mdm.Connect', id, raw, 'type', kind, 'status', status, 'command_uuid', uuid,
        'request_type', was, 'error', why, 'orphan', '1',
        unpack(was ~= '' and {'partial', '1'} or {}))
    end
  end
end
redis.call('HSET', record, 'seen', ARGV[1], 'pushes', 0)

local soonest = ripen(queue)
local next = soonest == 0 and {'again'} or offer(queue, sent, results, id, status == 'NotNow', cap,
  only_renewal(device, ARGV[24]))
go_on(queue, work, member, delays, next, nth, known[1], soonest)
-- The log's line of the request tells the topic.
return {known[2] or '', unpack(next or {})}
