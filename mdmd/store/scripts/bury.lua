-- uses: _frame
-- An event that a webhook's target never took becomes a dead letter, the message with it.
-- KEYS: 2 dead letters
-- ARGV: 7 target, 8 event's id, 9 reason, 10 attempts, 11 how many letters are kept
local entry = redis.call('XRANGE', KEYS[1], ARGV[8], ARGV[8])[1]
if redis.call('XACK', KEYS[1], ARGV[7], ARGV[8]) == 0 then return 0 end
if not entry then
  event('mdmd.WebhookLost', '', '', 'target', ARGV[7], 'events', '1')
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[11], '*', 'event', ARGV[8], 'reason', ARGV[9],
  'attempts', ARGV[10], 'at', ARGV[1], unpack(entry[2]))
for n = 1, #entry[2], 2 do
  -- One that tells of a dead letter would go on for ever, as the next that is never taken.
  if entry[2][n] == 'topic' and entry[2][n + 1] == 'mdmd.DeadLetter' then return 1 end
end
event('mdmd.DeadLetter', '', '', 'target', ARGV[7], 'event', ARGV[8], 'reason', ARGV[9])
return 1
