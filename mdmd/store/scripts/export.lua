-- Reads all of a device in one step.
-- KEYS: 1 record, 2 facts, 3 push, 4 queue, 5 sent, 6 kinds, 7 inventory, each of the device's own;
--       8 channels, 9 unlock, 10 bootstrap, 11 archive, 12 notes, 13 pins
-- Answers the last six, then for the device and each channel: channel, and the first seven.
local answer = {
  redis.call('HGETALL', KEYS[8]), redis.call('GET', KEYS[9]), redis.call('GET', KEYS[10]),
  redis.call('HGETALL', KEYS[11]), redis.call('HGETALL', KEYS[12]),
  redis.call('LRANGE', KEYS[13], 0, -1)}
local function read(channel, suffix)
  answer[#answer + 1] = {
    channel, redis.call('HGETALL', KEYS[1] .. suffix), redis.call('HGETALL', KEYS[2] .. suffix),
    redis.call('GET', KEYS[3] .. suffix),
    redis.call('ZRANGE', KEYS[4] .. suffix, 0, -1, 'WITHSCORES'),
    redis.call('HGETALL', KEYS[5] .. suffix), redis.call('HGETALL', KEYS[6] .. suffix),
    redis.call('HGETALL', KEYS[7] .. suffix)}
end
read('', '')
for _, channel in ipairs(redis.call('HKEYS', KEYS[8])) do read(channel, ':' .. channel) end
return answer
