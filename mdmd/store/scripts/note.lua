-- uses: _frame
-- Sets free fields of a device; an empty value takes one away.
-- KEYS: 2 record, 3 notes     ARGV: 7 id; then names and values
if redis.call('EXISTS', KEYS[2]) == 0 then return redis.error_reply('UNPINNED nothing') end
local names = {}
for at = 8, #ARGV, 2 do
  names[#names + 1] = ARGV[at]
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[3], ARGV[at])
  else
    redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  end
end
event('mdmd.Noted', ARGV[7], '', 'fields', table.concat(names, ','))
return #names
