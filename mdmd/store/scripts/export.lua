-- Reads all of a device in one step, but for its results, which are only counted.
-- KEYS: 1 record, 2 facts, 3 push, 4 queue, 5 sent, 6 kinds, 7 inventory, 8 history, 9 ended,
--       10 ended's sent, 11 results, each of the device's own; 12 channels, 13 unlock, 14 bootstrap,
--       15 archive, 16 notes, 17 pins, 18 work shard, 19 renewals shard, 20 refresh, 21 limits
-- ARGV: 1 member, 2 prefix of serials, 3 id
-- Answers first 12 to 17, when its identity is to be renewed, and whether it is found by its serial
-- number; then for the device and each channel: channel, 1 to 10, the number of results, when it is due in
-- 18, 20 and 21.
local serial = redis.call('HGET', KEYS[2], 'SerialNumber')
local found = not serial or redis.call('GET', ARGV[2] .. serial) == ARGV[3]
local answer = {{
  redis.call('HGETALL', KEYS[12]), redis.call('GET', KEYS[13]), redis.call('GET', KEYS[14]),
  redis.call('HGETALL', KEYS[15]), redis.call('HGETALL', KEYS[16]),
  redis.call('LRANGE', KEYS[17], 0, -1), redis.call('ZSCORE', KEYS[19], ARGV[1]), found and 1 or 0}}
local function read(channel, suffix)
  local member = ARGV[1] .. suffix
  answer[#answer + 1] = {
    channel, redis.call('HGETALL', KEYS[1] .. suffix), redis.call('HGETALL', KEYS[2] .. suffix),
    redis.call('GET', KEYS[3] .. suffix),
    redis.call('ZRANGE', KEYS[4] .. suffix, 0, -1, 'WITHSCORES'),
    redis.call('HGETALL', KEYS[5] .. suffix), redis.call('HGETALL', KEYS[6] .. suffix),
    redis.call('HGETALL', KEYS[7] .. suffix), redis.call('LRANGE', KEYS[8] .. suffix, 0, -1),
    redis.call('ZRANGE', KEYS[9] .. suffix, 0, -1, 'WITHSCORES'),
    redis.call('HGETALL', KEYS[10] .. suffix), redis.call('LLEN', KEYS[11] .. suffix),
    redis.call('ZSCORE', KEYS[18], member), redis.call('ZSCORE', KEYS[20], member),
    redis.call('ZSCORE', KEYS[21], member)}
end
read('', '')
for _, channel in ipairs(redis.call('HKEYS', KEYS[12])) do read(channel, ':' .. channel) end
return answer
