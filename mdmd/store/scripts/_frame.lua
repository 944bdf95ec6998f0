-- Given to every script that changes something: KEYS[1] is the event stream; ARGV[1..6] are the
-- time, how many events are kept, how long, how many results, how long, the prefix of commands.
-- Times are milliseconds. Scripts take them from outside, so that rules can be tested.
local now = tonumber(ARGV[1])
local RESULTS_KEPT, RESULTS_AGE, COMMAND = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
-- A device's URL may have a query, which its events tell: it is behind the prefix then.
local mark, QUERY = string.find(COMMAND, '?', 1, true), nil
if mark then COMMAND, QUERY = string.sub(COMMAND, 1, mark - 1), string.sub(COMMAND, mark + 1) end

-- Writes an event; further arguments are names and values of facts.
local function event(topic, id, raw, ...)
  if QUERY and string.sub(topic, 1, 4) == 'mdm.' then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',
      'topic', topic, 'id', id, 'raw', raw, 'query', QUERY, ...)
  else
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*',
      'topic', topic, 'id', id, 'raw', raw, ...)
  end
  local oldest = now - tonumber(ARGV[3])
  if oldest > 0 then redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest) end
end

-- Writes the event of a check-in. One that an integrator vouches for (no fingerprint) was said to
-- another server, perhaps long ago: whoever acts on what devices say must not take it for news.
local function said(topic, id, raw, fingerprint, ...)
  if fingerprint ~= '' then return event(topic, id, raw, ...) end
  event('mdmd.Migrated', id, raw, 'message', string.sub(topic, 5), ...)
end
