-- Raises counts to what another server had; answers whether one was lower.
-- KEYS: 1 sequence, 2 totals     ARGV: 1 '1': only say, 2 sequence; then names and counts
local only_say, grown = ARGV[1] == '1', 0
if tonumber(ARGV[2]) > tonumber(redis.call('GET', KEYS[1]) or 0) then
  grown = 1
  if not only_say then redis.call('SET', KEYS[1], ARGV[2]) end
end
for at = 3, #ARGV, 2 do
  if tonumber(ARGV[at + 1]) > tonumber(redis.call('HGET', KEYS[2], ARGV[at]) or 0) then
    grown = 1
    if not only_say then redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
  end
end
return grown
