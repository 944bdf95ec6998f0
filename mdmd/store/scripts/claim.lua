-- uses: _queue _damaged
-- Reads where to push to, and claims. One with nothing to push for, or no way to, leaves the set.
-- KEYS: for each: record, queue, push, work shard
-- ARGV: 1 end of the lease, 2 'named': whether there is work or not, 'due': look for what has expired,
--       'left': set_aside has been there, 3 now, 4 prefix of commands; then the members
-- Answers for each: {'push', topic, push secret, pushes, failures} or {why not, APNs' reason}; of
-- one that is 'expired', and claimed, set_aside has to find out whether there is work left.
local how, time, commands = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local answers = {}
local function has_expired(queue)
  local uuid = first(queue)
  local expires = uuid and redis.call('HGET', commands .. uuid, 'expires')
  return expires and tonumber(expires) <= time
end
local function claim(record, queue, push, work, member)
  local it = redis.call('HMGET', record, 'enabled', 'topic', 'pushes', 'dropped', 'failures')
  local secret = redis.call('GET', push)
  local why = not it[1] and 'unknown' or it[1] ~= '1' and 'disabled' or it[4] and 'dropped'
    or not secret and 'no token'
  if not why and how ~= 'named' and not waiting(queue) then why = 'idle' end
  if why then
    redis.call('ZREM', work, member)
    return {why, it[4] or ''}
  end
  redis.call('ZADD', work, ARGV[1], member)
  if how == 'due' and has_expired(queue) then return {'expired', ''} end
  return {'push', it[2], secret, it[3] or '0', it[5] or '0'}
end
for at = 1, #KEYS / 4 do
  answers[at] = damaged(claim, KEYS[at * 4 - 3], KEYS[at * 4 - 2], KEYS[at * 4 - 1], KEYS[at * 4],
    ARGV[at + 4])
  if not answers[at] then
    -- It comes back when it is mended and connects, or gets work.
    redis.call('ZREM', KEYS[at * 4], ARGV[at + 4])
    answers[at] = {'damaged', ''}
  end
end
return answers
