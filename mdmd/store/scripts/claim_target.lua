-- One daemon at a time sends to a webhook's target; its group begins with what comes now.
-- Answers -1 if another one sends, else how long the target has asked to be left alone yet (ms).
-- KEYS: 1 event stream, 2 who sends, 3 asked to wait     ARGV: 1 target, 2 daemon, 3 lease (ms),
--   4 where the group begins if it has to be made anew: '' if it is there
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then
  -- Only a clock of the store that was set back since leaves more than a lease.
  if redis.call('PTTL', KEYS[2]) > tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
  return -1
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if not holder or ARGV[4] ~= '' then
  -- BUSYGROUP: it is there, as nearly always.
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1],
    ARGV[4] ~= '' and ARGV[4] or '$', 'MKSTREAM')
end
return math.max(redis.call('PTTL', KEYS[3]), 0)
