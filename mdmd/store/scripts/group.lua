-- uses: _frame
-- Puts enrollments into a group, or takes them out; answers how many that changed.
-- KEYS: 2 group, 3 names of groups     ARGV: 7 name, 8 SADD or SREM; then members
local count = redis.call(ARGV[8], KEYS[2], unpack(ARGV, 9))
redis.call(redis.call('EXISTS', KEYS[2]) == 1 and 'SADD' or 'SREM', KEYS[3], ARGV[7])
if count > 0 then
  event('mdmd.Group', '', '', 'group', ARGV[7], 'change', ARGV[8] == 'SADD' and 'added' or 'removed',
    'enrollments', count)
end
return count
