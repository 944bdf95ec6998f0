-- How far a webhook's target is.
-- KEYS: 1 event stream, 2 dead letters, 3 who sends     ARGV: 1 target
local found, oldest = {}, false
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then
  for _, group in ipairs(groups) do
    if group[2] == ARGV[1] then found = group end
  end
end
if #found > 0 then
  oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
  if not oldest then
    local reached = ''
    for n = 1, #found, 2 do if found[n] == 'last-delivered-id' then reached = found[n + 1] end end
    local next = redis.call('XRANGE', KEYS[1], '(' .. reached, '+', 'COUNT', 1)[1]
    oldest = next and next[1]
  end
end
return {found, redis.call('XLEN', KEYS[2]), redis.call('GET', KEYS[3]), oldest or false}
