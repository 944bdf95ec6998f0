-- A queue's scores have four bands. In those that wait, were NotNow'd and are parked the score goes
-- on with the place, which is priority then sequence; in that of those whose time has not come, with
-- the time (ms), and the place is kept with the command.
local NOT_NOW, PARKED, LATER = 2 ^ 48, 2 ^ 49, 2 ^ 50
local NOT_NOW_FROM, BELOW_PARKED = '281474976710656', '(562949953421312'
local PARKED_FROM, BELOW_LATER = '562949953421312', '(1125899906842624'
local LATER_FROM, RIPE_AT_ONCE = '1125899906842624', 1000
-- An older daemon went on with the place there, too: no time is as large as one of the usual class.
local OLD_LATER_FROM = '1143492092887040'

-- Says which command is first, and its score; skipping leaves NotNow'd ones aside.
local function first(queue, skip)
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  local score = tonumber(head[2])
  if not score or score >= PARKED or (skip and score >= NOT_NOW) then return nil end
  if skip or score >= NOT_NOW then return head[1], score end
  -- A NotNow'd one is offered in its old place.
  local again = redis.call('ZRANGEBYSCORE', queue, NOT_NOW_FROM, BELOW_PARKED,
    'WITHSCORES', 'LIMIT', 0, 1)
  if again[1] and tonumber(again[2]) - NOT_NOW < score then return again[1], tonumber(again[2]) end
  return head[1], score
end

-- Says where one certain command is, if it may be offered.
local function just(queue, uuid, skip)
  local score = tonumber(redis.call('ZSCORE', queue, uuid) or nil)
  if not score or score >= PARKED or (skip and score >= NOT_NOW) then return nil end
  return uuid, score
end

-- Says whether anything is left that the device may still be offered.
local function pending(queue)
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  return head[1] and tonumber(head[2]) < PARKED
end

-- Says whether anything is left that will be offered, now or later.
local function waiting(queue)
  return pending(queue) or redis.call('ZCOUNT', queue, LATER_FROM, '+inf') > 0
end

-- Puts one of those that wait for their time where it belongs.
local function settle(queue, uuid, behind)
  local c = redis.call('HMGET', COMMAND .. uuid, 'not_before', 'place')
  local due, place = tonumber(c[1] or 0), tonumber(c[2] or nil)
  if not place or behind ~= due then place = behind end  -- an older daemon's
  if due <= now then
    redis.call('ZADD', queue, place, uuid)
  else
    redis.call('HSETNX', COMMAND .. uuid, 'place', place)
    redis.call('ZADD', queue, LATER + due, uuid)
  end
end

-- Lets those into the queue whose time has come, so many at once; answers when the next one's does,
-- which is past if there are more.
local function ripen(queue)
  local function part(from, to, many)
    return redis.call('ZRANGEBYSCORE', queue, from, to, 'WITHSCORES', 'LIMIT', 0, many)
  end
  local head = part(LATER_FROM, '+inf', 1)
  if not head[1] then return nil end
  local function settle_all(some)
    for at = 1, #some, 2 do settle(queue, some[at], tonumber(some[at + 1]) - LATER) end
    return #some == 2 * RIPE_AT_ONCE
  end
  if settle_all(part(OLD_LATER_FROM, '+inf', RIPE_AT_ONCE)) then return 0 end
  if tonumber(head[2]) <= LATER + now and settle_all(part(LATER_FROM, LATER + now, RIPE_AT_ONCE)) then
    return 0
  end
  head = part(LATER_FROM, '+inf', 1)
  return head[1] and tonumber(head[2]) - LATER
end

-- Sets a command aside, with an event. The oldest of too many end in the results.
local function park(queue, sent, results, id, uuid, score, about, it, state)
  if score >= NOT_NOW then score = score - NOT_NOW end
  redis.call('ZADD', queue, score + PARKED, uuid)
  it.state = state
  write_sent(sent, uuid, it)
  event('mdmd.Parked', id, '', 'status', state, 'command_uuid', about.uuid,
    'request_type', about.type, 'attempts', it.attempts)
  if redis.call('ZCOUNT', queue, PARKED_FROM, BELOW_LATER) > RESULTS_KEPT then
    local oldest = redis.call('ZRANGEBYSCORE', queue, PARKED_FROM, '+inf', 'LIMIT', 0, 1)[1]
    local was = read_sent(redis.call('HGET', sent, oldest)).state
    redis.call('ZREM', queue, oldest)
    conclude(sent, results, oldest, was, '', '', '')
  end
end

-- Takes the next command; parks exhausted ones on the way, but not more than `cap` in one call.
-- `only`: the packed uuid of the one command that may be given; nil: any.
-- Answers false (nothing), {'again'} (call once more) or {'command', uuid, type, body}.
local function offer(queue, sent, results, id, skip, cap, only)
  for _ = 1, cap do
    local uuid, score
    if only then uuid, score = just(queue, only, skip) else uuid, score = first(queue, skip) end
    if not uuid then return false end
    local c = redis.call('HMGET', COMMAND .. uuid, 'uuid', 'type', 'expires', 'max', 'body')
    local about = {uuid = c[1] or '', type = c[2] or ''}
    local it = read_sent(redis.call('HGET', sent, uuid))
    if c[3] and tonumber(c[3]) <= now then
      park(queue, sent, results, id, uuid, score, about, it, 'expired')
    elseif c[4] and it.attempts - it.not_now >= tonumber(c[4]) then
      park(queue, sent, results, id, uuid, score, about, it, 'stuck')
    elseif not c[5] then
      redis.call('ZREM', queue, uuid)
      redis.call('HDEL', sent, uuid)
      event('mdmd.Lost', id, '', 'reason', 'the body of a command is missing')
    else
      it.attempts, it.last, it.state = it.attempts + 1, ARGV[1], 'sent'
      write_sent(sent, uuid, it)
      return {'command', about.uuid, about.type, c[5]}
    end
  end
  return {'again'}
end

-- Says which command alone a device may be given: with an expired certificate its renewal.
local function only_renewal(device, expired)
  return expired == '1' and (redis.call('HGET', device, 'renewal_uuid') or '') or nil
end

-- When to push again if the device does not come by itself: after the nth delay, or the last; or
-- when the next command's time comes.
local function schedule(work, member, delays, nth, soonest)
  local wait
  for delay in string.gmatch(delays, '%d+') do
    wait, nth = tonumber(delay), nth - 1
    if nth < 1 then break end
  end
  redis.call('ZADD', work, math.min(now + wait, soonest or now + wait), member)
end

-- After an offer: when to push next, or never.
local function go_on(queue, work, member, delays, next, nth, enabled, soonest)
  if enabled == '1' and (next or pending(queue)) then
    schedule(work, member, delays, next and 1 or nth, soonest)
  elseif enabled == '1' and soonest then
    redis.call('ZADD', work, soonest, member)
  else
    redis.call('ZREM', work, member)
  end
end
