local TOTALS = 'mdmd:totals'
local MOST_TOTALS = 2000  -- Apple documents some 100 RequestTypes; anybody may send any other
-- A command's body is there as long as a queue has it.
local function release(uuid)
  local key = COMMAND .. uuid
  if redis.call('HINCRBY', key, 'refs', -1) <= 0 then redis.call('UNLINK', key) end
end

-- Puts a result in front of the list, and lets go of what is too much or too old.
-- An entry is fields with NUL between them; the last one, the report, may hold any byte.
local function remember(results, uuid, digest, kind, status, why, queued, attempts, raw)
  redis.call('LPUSH', results, table.concat(
    {uuid, digest, kind, status, why, ARGV[1], queued, attempts, raw}, '\0'))
  redis.call('LTRIM', results, 0, RESULTS_KEPT - 1)
  for _ = 1, 10 do
    local last = redis.call('LINDEX', results, -1)
    local at = last and string.match(last, '^%Z*%z%Z*%z%Z*%z%Z*%z%Z*%z(%d+)')
    if not at or tonumber(at) > now - RESULTS_AGE then break end
    redis.call('RPOP', results)
  end
  redis.call('PEXPIRE', results, RESULTS_AGE)
end

-- What was sent of a command: attempts, last_sent, not_now, first_not_now, last_not_now, state.
local function read_sent(text)
  local a, l, n, f, t, s = string.match(text or '0 - 0 - - waiting',
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {attempts = tonumber(a), last = l, not_now = tonumber(n), first = f, latest = t, state = s}
end

local function write_sent(sent, uuid, it)
  redis.call('HSET', sent, uuid, table.concat(
    {it.attempts, it.last, it.not_now, it.first, it.latest, it.state}, ' '))
end

local function count_end(kind, status)
  local name = kind .. '\0' .. status
  if redis.call('HINCRBY', TOTALS, name, 1) == 1 and redis.call('HLEN', TOTALS) > MOST_TOTALS then
    redis.call('HDEL', TOTALS, name)
    redis.call('HINCRBY', TOTALS, '\0' .. status, 1)
  end
end

-- Ends a command that is out of its queue already: into the results, and its body let go.
local function conclude(sent, results, uuid, status, digest, why, raw)
  local about = redis.call('HMGET', COMMAND .. uuid, 'uuid', 'type', 'queued', 'partial')
  local it = read_sent(redis.call('HGET', sent, uuid))
  redis.call('HDEL', sent, uuid)
  remember(results, about[1] or '', digest, about[2] or '', status, why,
    about[3] or '', it.attempts, raw)
  count_end(about[2] or '', status)
  release(uuid)
  return about, it
end
