-- uses: _frame _history _queue
-- Goes on where connect stopped after many commands were parked, or had ripened.
-- KEYS: 2 record, 3 queue, 4 sent, 5 results, 6 work shard, 7 device
-- ARGV: 7 id, 8 member, 9 repeat, 10 cap, 11 '1': skip NotNow'd commands, 12 '1': the renewal only
local record, queue, sent, results, work = unpack(KEYS, 2, 6)
local soonest = ripen(queue)
local next = soonest == 0 and {'again'}
  or offer(queue, sent, results, ARGV[7], ARGV[11] == '1', tonumber(ARGV[10]),
    only_renewal(KEYS[7], ARGV[12]))
go_on(queue, work, ARGV[8], ARGV[9], next, 1, redis.call('HGET', record, 'enabled'), soonest)
return next
