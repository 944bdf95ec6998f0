-- Holds, or takes, the lease of one that follows the event stream, and moves its place on.
-- Answers the place, or false while another one follows.
-- KEYS: 1 lease, 2 place     ARGV: 1 who, 2 milliseconds, 3 new place or ''
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  -- Only a clock of the store that was set back since leaves more than a lease.
  if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3]) end
return redis.call('GET', KEYS[2]) or '0'
