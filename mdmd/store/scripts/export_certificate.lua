-- uses: _moment
-- Reads a certificate that was issued: its fields, its pin, when that ends (s), when it is forgotten.
-- KEYS: 1 certificate, 2 its pin, 3 issued     ARGV: 1 its name there
return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]), ends(KEYS[2]) or false,
  redis.call('ZSCORE', KEYS[3], ARGV[1]) or false}
