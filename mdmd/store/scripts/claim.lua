-- uses: _queue _damaged
-- Reads where to push to, and claims. One with nothing to push for, or no way to, leaves the set.
-- KEYS: for each: record, queue, push, work shard
-- ARGV: 1 end of the lease, 2 '1': whether there is work or not; then the members
-- Answers for each: {'push', topic, push secret, pushes, failures} or {why not, APNs' reason}.
local answers = {}
local function claim(record, queue, push, work, member)
  local it = redis.call('HMGET', record, 'enabled', 'topic', 'pushes', 'dropped', 'failures')
  local secret = redis.call('GET', push)
  local why = not it[1] and 'unknown' or it[1] ~= '1' and 'disabled' or it[4] and 'dropped'
    or not secret and 'no token'
  if not why and ARGV[2] ~= '1' and not waiting(queue) then why = 'idle' end
  if why then
    redis.call('ZREM', work, member)
    return {why, it[4] or ''}
  end
  redis.call('ZADD', work, ARGV[1], member)
  return {'push', it[2], secret, it[3] or '0', it[5] or '0'}
end
for at = 1, #KEYS / 4 do
  answers[at] = damaged(claim, KEYS[at * 4 - 3], KEYS[at * 4 - 2], KEYS[at * 4 - 1], KEYS[at * 4],
    ARGV[at + 2])
  if not answers[at] then
    -- It comes back when it is mended and connects, or gets work.
    redis.call('ZREM', KEYS[at * 4], ARGV[at + 2])
    answers[at] = {'damaged', ''}
  end
end
return answers
