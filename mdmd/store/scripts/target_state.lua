-- How far a webhook's target is.
-- KEYS: 1 event stream, 2 dead letters, 3 who sends     ARGV: 1 target
local found = {}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if not groups.err then
  for _, group in ipairs(groups) do
    if group[2] == ARGV[1] then found = group end
  end
end
return {found, redis.call('XLEN', KEYS[2]), redis.call('GET', KEYS[3])}
