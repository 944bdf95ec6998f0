-- Forgets the PIN of a command that was not queued.     KEYS: 1 pins     ARGV: 1 uuid
local begin = ARGV[1] .. '\0'
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(entry, 1, #begin) == begin then return redis.call('LREM', KEYS[1], 1, entry) end
end
return 0
