-- uses: _moment
-- Reads a one-time challenge or link, and when it is forgotten (s).
-- KEYS: 1 its place
return {redis.call('HGETALL', KEYS[1]), ends(KEYS[1]) or 0}
