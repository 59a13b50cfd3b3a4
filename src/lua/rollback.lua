#!lua flags=allow-oom
-- The sale never happened: gives back what its reservation holds and frees its key. Once, by the reservation's id.
--
-- KEYS  book, then the places of the reservation in its order
-- ARGV  epoch, sale
-- Returns {1}, {0} when no such reservation is open, {-2, missing ...}, {-3, epoch}, {-4, argument}; see prelude.lua
-- What an open reservation holds: the quantity at each KEYS[i], and its key. Nil when it is not open, false when KEYS
-- are not its places in its order.
local function held_by(book, sale)
  local record = redis.call('HGET', book, 'reservation:' .. sale)
  if not record then return nil end
  local key, lines = string.match(record, '^(%S+)(.*)$')
  local quantities, last = {}, 1
  for place, quantity in string.gmatch(lines, '(%S+) (%d+)') do
    last = last + 1
    if KEYS[last] ~= place then return false end
    quantities[last] = tonumber(quantity)
  end
  if last ~= #KEYS then return false end
  return quantities, key
end

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
  set_level(KEYS[i], epoch, levels[i][1], levels[i][2] - quantities[i])
end
redis.call('HDEL', book, 'reservation:' .. sale)
if key ~= '-' then redis.call('HDEL', book, 'key:' .. key) end
return {OK}
