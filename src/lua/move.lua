#!lua
-- Adds durable movements that are no sale, in order, all or (when one leaves the bounds) none. Asked again for the same
-- number, it changes nothing.
--
-- KEYS  book, then each place once
-- ARGV  epoch, number of this call since the load (from 1), then for each place whether a level must be there (1) or
--       there may never have been one (0), then for each movement: its place (from 1) and its quantity (within
--       2^53 - 1 of zero)
-- Returns {1}, {-2, missing ...}, {-3, epoch}, {-4, argument}, {-7, movement}; see prelude.lua
local book, epoch = KEYS[1], ARGV[1]
local places = #KEYS - 1
local movements = (#ARGV - 2 - places) / 2
if #KEYS < 1 or movements < 0 or movements % 1 ~= 0 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
local number = integer(ARGV[2], 1, MAX)
if not number then return {INVALID, 2} end
local done = tonumber(redis.call('HGET', book, 'moves') or 0)
if number <= done then return {OK} end

local seen, levels, missing = {}, {}, {MISSING}
for i = 2, #KEYS do
  local known = integer(ARGV[i + 1], 0, 1)
  if not known or seen[KEYS[i]] then return {INVALID, i + 1} end
  seen[KEYS[i]] = true
  local on_hand, held = level(KEYS[i], epoch)
  if not on_hand and known == 1 then missing[#missing + 1] = i - 1 end
  levels[i] = {on_hand or 0, held or 0}
end
if #missing > 1 then return missing end
for n = 1, movements do
  local at = 1 + places + 2 * n
  local i, quantity = integer(ARGV[at], 1, places), integer(ARGV[at + 1], -MAX, MAX)
  if not i then return {INVALID, at} end
  if not quantity then return {INVALID, at + 1} end
  local on_hand = levels[i + 1][1] + quantity
  if on_hand < -MAX or on_hand > MAX then return {OUT_OF_BOUNDS, n} end
  levels[i + 1][1] = on_hand
end

for i = 2, #KEYS do
  set_level(KEYS[i], epoch, levels[i][1], levels[i][2])
end
redis.call('HSET', book, 'moves', ARGV[2])
return {OK}
