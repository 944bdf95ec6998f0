-- uses: _damaged
-- Reads some fields of the inventory of some enrollments, all if none is named, and their notes.
-- KEYS: for each: inventory, notes     ARGV: names of fields
local answers = {}
local function read(at)
  local fields
  if #ARGV == 0 then
    fields = redis.call('HGETALL', KEYS[at])
  else
    fields = redis.call('HMGET', KEYS[at], unpack(ARGV))
  end
  return {fields, redis.call('HGETALL', KEYS[at + 1])}
end
for at = 1, #KEYS, 2 do answers[#answers + 1] = damaged(read, at) or false end
return answers
