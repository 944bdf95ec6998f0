-- uses: _frame _history _queue _damaged
-- Queues one command on many enrollments. Answers a letter for each: queued, later (queued, but its
-- time has not come), Disabled (queued),
-- duplicate, unknown, x (damaged), pending (one of its kind is there already), or gone (the one whose
-- place it was to take is not there).
-- KEYS: 2 command, 3 sequence; then for each target: record, queue, work shard; with a kind or an old
--       one also sent, results, kinds
-- ARGV: 7 packed uuid, 8 uuid, 9 type, 10 digest, 11 body ('': it is there already), 12 score of
--       the priority, 13 expires, 14 max attempts, 15 delay of the push ('': at once), 16 id if
--       there is one target, 17 not before, 18 kind of which only one is pending, 19 '1': a new
--       one takes the old one's place, 20 '1': its answer is not the whole, 21 and 22 generation and
--       number of a step that each target gets once, or '', 23 packed uuid of an old one that goes
--       when this one comes, or ''; then the targets' members
local command, uuid = KEYS[2], ARGV[7]
local digest = redis.call('HGET', command, 'digest')
if digest and digest ~= ARGV[10] then return redis.error_reply('BODY another') end
if not digest and ARGV[11] == '' then return redis.error_reply('NOBODY here') end
local place = tonumber(ARGV[12]) + redis.call('INCR', KEYS[3])
local delay = ARGV[15] ~= '' and now + tonumber(ARGV[15])
local kind, replaces, instead = ARGV[18], ARGV[19] == '1', ARGV[23]
-- What the first enqueue of a command said of it holds for all.
local not_before = tonumber(digest and redis.call('HGET', command, 'not_before') or not digest and ARGV[17] or nil)
if not_before and not_before <= now then not_before = nil end
local score = not_before and LATER + not_before or place
local each = kind == '' and instead == '' and 3 or 6
local answers, queued = {}, 0

-- When to push; those of a shard are written together.
local due = {}
local how = not_before and 'LT' or delay and 'NX' or nil
local function wake(work, member, first_push, enrolled)
  local all = due[work] or {}
  due[work] = all
  local first = tonumber(first_push or 0) or 0
  -- If the clock was set back since the enrollment, as long from now as it was to be from then.
  first = math.min(first, now + first - (tonumber(enrolled or 0) or 0))
  all[#all + 1] = not_before or delay or math.max(now, first)
  all[#all + 1] = member
end

-- Makes way for the new one; answers false if the old one has to stay.
local function make_way(queue, sent, results, kinds)
  local old = redis.call('HGET', kinds, kind)
  local at = old and tonumber(redis.call('ZSCORE', queue, old) or nil)
  if not at or old == instead or (at >= PARKED and at < LATER) then return true end
  if not replaces then return false end
  -- One that the device may be working on is left to it: its answer comes.
  if read_sent(redis.call('HGET', sent, old)).state ~= 'sent' then
    redis.call('ZREM', queue, old)
    conclude(sent, results, old, 'superseded', '', 'a newer one took its place', '')
  end
  return true
end

-- Says whether a target has had this step, though it may have answered it since; or is past it.
local function over(record)
  if ARGV[21] == '' then return false end
  local it = redis.call('HMGET', record, 'generation', 'step')
  return it[1] ~= ARGV[21] or tonumber(it[2] or 0) >= tonumber(ARGV[22])
end

-- Takes out the one that is put back under another name; it ends as `cancelled`.
local function take_out(queue, sent, results)
  redis.call('ZREM', queue, instead)
  local about = conclude(sent, results, instead, 'cancelled', '', 'put back at the end', '')
  event('mdmd.Cancelled', ARGV[16], '', 'command_uuid', about[1] or '', 'request_type', about[2] or '')
end

local function take(at)
  local record, queue, work, sent, results, kinds = unpack(KEYS, at * each - each + 4, at * each + 3)
  local known = redis.call('HMGET', record, 'enabled', 'last', 'first_push', 'enrolled')
  if not known[1] then return 'u' end
  if known[2] == uuid or over(record) then return 'd' end
  if each == 6 and redis.call('ZSCORE', queue, uuid) then return 'd' end
  if instead ~= '' and not redis.call('ZSCORE', queue, instead) then return 'g' end
  if kind ~= '' and not make_way(queue, sent, results, kinds) then return 'p' end
  if redis.call('ZADD', queue, 'NX', score, uuid) == 0 then return 'd' end
  queued = queued + 1
  if instead ~= '' then take_out(queue, sent, results) end
  if kind ~= '' then redis.call('HSET', kinds, kind, uuid) end
  if ARGV[21] ~= '' then redis.call('HSET', record, 'step', ARGV[22]) end
  if known[1] ~= '1' then return 'D' end
  wake(work, ARGV[23 + at], known[3], known[4])
  return not_before and 'l' or 'q'
end
for at = 1, (#KEYS - 3) / each do answers[at] = damaged(take, at) or 'x' end
for work, all in pairs(due) do
  if how then redis.call('ZADD', work, how, unpack(all)) else redis.call('ZADD', work, unpack(all)) end
end
if queued > 0 then
  if not digest then
    redis.call('HSET', command, 'uuid', ARGV[8], 'type', ARGV[9], 'digest', ARGV[10],
      'body', ARGV[11], 'queued', ARGV[1])
    if ARGV[13] ~= '' then redis.call('HSET', command, 'expires', ARGV[13]) end
    if ARGV[14] ~= '' then redis.call('HSET', command, 'max', ARGV[14]) end
    if ARGV[20] == '1' then redis.call('HSET', command, 'partial', 1) end
    if ARGV[17] ~= '' then redis.call('HSET', command, 'not_before', ARGV[17]) end
  end
  -- The place that it takes when its time has come: one for all who wait for it.
  if not_before then redis.call('HSETNX', command, 'place', place) end
  redis.call('HINCRBY', command, 'refs', queued)
  event('mdmd.Enqueued', ARGV[16], '', 'command_uuid', ARGV[8], 'request_type', ARGV[9],
    'enrollments', queued)
end
return table.concat(answers)
