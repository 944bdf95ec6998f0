-- Reads some fields of the inventory of some enrollments, all if none is named, and their notes.
-- KEYS: for each: inventory, notes     ARGV: names of fields
local answers = {}
for at = 1, #KEYS, 2 do
  local fields
  if #ARGV == 0 then
    fields = redis.call('HGETALL', KEYS[at])
  else
    fields = redis.call('HMGET', KEYS[at], unpack(ARGV))
  end
  answers[#answers + 1] = {fields, redis.call('HGETALL', KEYS[at + 1])}
end
return answers
