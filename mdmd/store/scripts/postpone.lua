-- A webhook's target asked to be left alone for a while; what it asked before counts too.
-- KEYS: 1 asked to wait     ARGV: 1 how long (ms)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
end
return 1
