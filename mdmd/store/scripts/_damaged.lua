-- Does something for one of many; answers nil if a key of it is of another type than it should be:
-- that is its own failure, and none of the others.
local function damaged(act, ...)
  local well, answer = pcall(act, ...)
  if well then return answer end
  local text = type(answer) == 'table' and answer.err or tostring(answer)
  if not string.find(text, 'WRONGTYPE', 1, true) then error(answer, 0) end
end
