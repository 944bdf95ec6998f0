-- uses: _frame _damaged
-- Keeps the PIN of a command before the command is queued, newest first, each once.
-- Answers 1: it is new, 0: it is there already, or nobody is; -1: nothing can be kept there.
-- KEYS: 2 pins, 3 record     ARGV: 7 uuid, 8 sealed pin, 9 how many are kept
local function keep()
  if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
  local begin = ARGV[7] .. '\0'
  for _, entry in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    if string.sub(entry, 1, #begin) == begin then return 0 end
  end
  redis.call('LPUSH', KEYS[2], begin .. ARGV[8])
  redis.call('LTRIM', KEYS[2], 0, ARGV[9] - 1)
  return 1
end
return damaged(keep) or -1
