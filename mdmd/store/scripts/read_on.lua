-- uses: _frame
-- Reads on for a webhook's target. What was dropped before it came to that is told in an event.
-- ARGV: 7 target, 8 reader, 9 how many at most
-- Answers {how many were dropped (-1: some, perhaps), what XREADGROUP said}.
local function named(list)
  local it = {}
  for n = 1, #list, 2 do it[list[n]] = list[n + 1] end
  return it
end

local function is_before(one, other)
  local ms, nth = string.match(one, '(%d+)-(%d+)')
  local other_ms, other_nth = string.match(other, '(%d+)-(%d+)')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms < other_ms or (ms == other_ms and tonumber(nth) < tonumber(other_nth))
end

local group
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, each in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local it = named(each)
    if it['name'] == ARGV[7] then group = it end
  end
end
if not group then return redis.error_reply('NOGROUP no such target') end

local dropped, reached = 0, group['last-delivered-id']
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
-- From the very beginning somebody wants what is there; what is not is no surprise.
if oldest and reached ~= '0-0' and is_before(reached, oldest[1]) then
  local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
  if not stream['entries-added'] then
    dropped = -1  -- before version 7 nobody counts
  elseif group['entries-read'] then
    dropped = stream['entries-added'] - stream['length'] - group['entries-read']
  end
end
local entries = redis.call('XREADGROUP', 'GROUP', ARGV[7], ARGV[8], 'COUNT', ARGV[9],
  'STREAMS', KEYS[1], '>')
if dropped ~= 0 then
  event('mdmd.WebhookLost', '', '', 'target', ARGV[7],
    'events', dropped < 0 and 'unknown' or tostring(dropped))
end
return {dropped, entries and entries[1][2] or {}}
