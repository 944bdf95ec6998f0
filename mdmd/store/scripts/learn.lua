-- uses: _frame
-- Takes what a device told into its inventory, if nothing newer is there. Answers what changed.
-- KEYS: 2 record, 3 inventory, 4 history, 5 facts
-- ARGV: 7 id, 8 when it told, 9 how many changes are kept, 10 up to which size; then for each
--       field: name, value, and its text for the facts or ''
local record, inventory, history, facts = unpack(KEYS, 2, 5)
local MOST = 1000  -- fields of a device, whatever it may invent
local told, changed = tonumber(ARGV[8]), {}
if redis.call('EXISTS', record) == 0 then return changed end
for at = 11, #ARGV, 3 do
  local field, value, text = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local old = redis.call('HGET', inventory, field)
  local fits = old or redis.call('HLEN', inventory) < MOST
  old = old or '0 '
  local space = string.find(old, ' ', 1, true)
  if fits and tonumber(string.sub(old, 1, space - 1)) <= told then
    if string.sub(old, space + 1) ~= value then
      changed[#changed + 1] = field
      if #value <= tonumber(ARGV[10]) and string.sub(value, 1, 1) == 'j' then
        redis.call('LPUSH', history, ARGV[8] .. '\0' .. field .. '\0' .. value)
      end
    end
    redis.call('HSET', inventory, field, ARGV[8] .. ' ' .. value)
    if text ~= '' then redis.call('HSET', facts, field, text) end
  end
end
if #changed > 0 then
  redis.call('LTRIM', history, 0, ARGV[9] - 1)
  event('mdmd.Inventory', ARGV[7], '', 'changed', string.sub(table.concat(changed, ','), 1, 2000))
end
return changed
