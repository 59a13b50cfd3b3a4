#!lua flags=allow-oom
-- The sale is durable: what its reservation holds is gone for good. Once, by the reservation's id.
--
-- KEYS  book, then the places of the reservation in its order
-- ARGV  epoch, sale
-- Returns {1, how many settled keys are remembered}, {0} when no such reservation is open, {-2, missing ...},
--         {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch, sale = KEYS[1], ARGV[1], ARGV[2]
if #KEYS < 1 or #ARGV ~= 2 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
if not is_id(sale) then return {INVALID, 2} end
local quantities, key = held_by(book, sale)
if quantities == nil then return {NOTHING} end
if not quantities then return {INVALID, 2} end
local levels, missing = levels_of(epoch)
if missing then return missing end

for i = 2, #KEYS do
  local on_hand = levels[i][1] - quantities[i]
  -- A movement may have brought the level to the bound meanwhile; there it stays.
  if on_hand < -MAX then on_hand = levels[i][1] end
  set_level(KEYS[i], epoch, on_hand, levels[i][2] - quantities[i])
end
redis.call('HDEL', book, 'reservation:' .. sale)
if key ~= '-' then add_settled(book, key) end
return {OK, settled_count(book)}
