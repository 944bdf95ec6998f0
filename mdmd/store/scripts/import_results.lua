-- Writes a part of an enrollment's results behind those that are here. Answers 0 if it does not
-- begin where they end, or the enrollment is not here.
-- KEYS: 1 results, 2 record     ARGV: 1 where the part begins, 2 life (ms), then the results
if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then
  return 0
end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
