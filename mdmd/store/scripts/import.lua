-- uses: _frame
-- Writes a device that is not here, in one step, and counts what hangs together with it.
-- KEYS: 2 record, 3 sequence, then the pins of its certificates
-- ARGV: 7 id, 8 highest sequence in its queues, 9 how many pins; then for each pin when it ends
--       (s, '' never); then how many of its queues' commands, each the key of one that it counts on;
--       then the writes: how many words, and the words
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.error_reply('HERE already') end
local PRIORITY_STEP = 2 ^ 44
local id, sequence, pins = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
for n = 1, pins do
  local owner = redis.call('GET', KEYS[3 + n])
  if owner and owner ~= '' and owner ~= id then return redis.error_reply('TAKEN elsewhere') end
end
local at = 10 + pins
local commands = tonumber(ARGV[at])
for n = 1, commands do
  if redis.call('EXISTS', ARGV[at + n]) == 0 then return redis.error_reply('NOBODY here') end
end
for n = 1, pins do
  redis.call('SET', KEYS[3 + n], id)
  if ARGV[9 + n] ~= '' then redis.call('EXPIREAT', KEYS[3 + n], ARGV[9 + n]) end
end
for n = 1, commands do
  redis.call('HINCRBY', ARGV[at + n], 'refs', 1)
  redis.call('PERSIST', ARGV[at + n])
  local place = tonumber(redis.call('HGET', ARGV[at + n], 'place') or 0)
  sequence = math.max(sequence, place % PRIORITY_STEP)
end
at = at + commands + 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
if sequence > tonumber(redis.call('GET', KEYS[3]) or 0) then
  redis.call('SET', KEYS[3], sequence)
end
event('mdmd.Imported', id, '')
return 1
