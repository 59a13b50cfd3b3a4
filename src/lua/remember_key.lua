#!lua
-- Remembers a key whose sale is durable.
--
-- KEYS  book
-- ARGV  epoch, key, fingerprint, sale
-- Returns {1, how many settled keys are remembered}, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch, key, fingerprint, sale = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if #KEYS ~= 1 or #ARGV ~= 4 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
for i = 2, 4 do
  if not is_id(ARGV[i]) then return {INVALID, i} end
end
local is_new = redis.call('HSET', book, 'key:' .. key, fingerprint .. ' ' .. sale) == 1
if is_new then add_settled(book, {key}) end
return {OK, settled_count(book)}
