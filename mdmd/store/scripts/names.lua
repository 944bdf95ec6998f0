-- uses: _damaged
-- Reads what devices call themselves, and what operators call them; '' where nobody said.
-- KEYS: for each: facts, notes
local answers = {}
local function read(at)
  answers[at] = redis.call('HGET', KEYS[at], 'DeviceName') or ''
  answers[at + 1] = redis.call('HGET', KEYS[at + 1], 'name') or ''
end
for at = 1, #KEYS, 2 do
  answers[at], answers[at + 1] = '', ''
  damaged(read, at)
end
return answers
