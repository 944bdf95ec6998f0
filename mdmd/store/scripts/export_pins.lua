-- uses: _moment
-- Reads pins: fingerprint, whose it is, when it ends (s). Left out are those that come with a device
-- as its own, and those that come with a certificate that was issued here.
-- KEYS: for each the pin and the certificate
-- ARGV: 1 and 2 what is around an id in the name of a device's record
local found = {}
for at = 1, #KEYS, 2 do
  local owner = redis.call('GET', KEYS[at])
  if owner and redis.call('EXISTS', KEYS[at + 1]) == 0 then
    local fingerprint = string.sub(KEYS[at], #'mdmd:pin:' + 1)
    local own = redis.call('HMGET', ARGV[1] .. owner .. ARGV[2], 'pin', 'next_pin')
    if own[1] ~= fingerprint and own[2] ~= fingerprint then
      found[#found + 1] = {fingerprint, owner, ends(KEYS[at]) or false}
    end
  end
end
return found
