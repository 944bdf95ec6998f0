-- Lets another daemon send to a target.     KEYS: 1 who sends     ARGV: 1 daemon
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0
