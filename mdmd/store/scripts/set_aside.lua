-- uses: _frame _history _queue _damaged
-- Sets aside what has expired before the device came for it, as connect would have; then nobody is
-- woken for it. Answers 1 if there may be more.
-- KEYS: 2 queue, 3 sent, 4 results     ARGV: 7 id, 8 cap
local queue, sent, results = unpack(KEYS, 2, 4)
local function set_aside()
  for _ = 1, tonumber(ARGV[8]) do
    local uuid, score = first(queue)
    if not uuid then return 0 end
    local c = redis.call('HMGET', COMMAND .. uuid, 'uuid', 'type', 'expires')
    if not c[3] or tonumber(c[3]) > now then return 0 end
    local it = read_sent(redis.call('HGET', sent, uuid))
    park(queue, sent, results, ARGV[7], uuid, score, {uuid = c[1] or '', type = c[2] or ''}, it,
      'expired')
  end
  return 1
end
return damaged(set_aside) or 0
