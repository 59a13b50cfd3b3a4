#!lua
-- The checkout: holds every unit of a sale or none, binds the idempotency key and records the reservation, in one
-- step. A sale of one unit is the same with one place. Asked again for the same sale, it changes nothing.
--
-- KEYS  book, then each place once
-- ARGV  epoch, sale, key or '', fingerprint or '', then for each place: quantity (1 .. 2^53 - 1) and whether a level
--       must be there (1) or there may never have been one (0)
-- Returns {1}, {-1, short ...}, {-2, missing ...}, {-3, epoch}, {-4, argument}, {-5, sale}, {-6}; see prelude.lua
local book = KEYS[1]
local epoch, sale, key, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if #KEYS < 1 or #ARGV ~= 4 + 2 * (#KEYS - 1) then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
if not is_id(sale) then return {INVALID, 2} end
if key ~= '' and not is_id(key) then return {INVALID, 3} end
if key ~= '' and not is_id(fingerprint) then return {INVALID, 4} end

local record = {key ~= '' and key or '-'}
for i = 2, #KEYS do
  record[#record + 1] = KEYS[i]
  record[#record + 1] = ARGV[2 * i + 1]
end
record = table.concat(record, ' ')
local open = redis.call('HGET', book, 'reservation:' .. sale)
if open then
  if open == record then return {OK} end
  return {INVALID, 2}
end

if key ~= '' then
  local used = redis.call('HGET', book, 'key:' .. key)
  if used then
    local of, by = string.match(used, '^(%x+) (%x+)$')
    if of == fingerprint then return {REPEATED, by} end
    return {REUSED}
  end
end

local seen, levels, missing, short = {}, {}, {MISSING}, {SHORT}
for i = 2, #KEYS do
  local place, at = KEYS[i], 2 * i + 1
  local quantity = integer(ARGV[at], 1, MAX)
  local known = integer(ARGV[at + 1], 0, 1)
  if not quantity or seen[place] then return {INVALID, at} end
  if not known then return {INVALID, at + 1} end
  seen[place] = true
  local on_hand, held = level(place, epoch)
  local available = 0
  if on_hand then
    levels[i] = {on_hand, held + quantity}
    available = on_hand - held
    if available < -MAX then available = 0 end
  elseif known == 1 then
    missing[#missing + 1] = i - 1
  end
  if quantity > available then
    short[#short + 1] = i - 1
    short[#short + 1] = available
  end
end
if #missing > 1 then return missing end
if #short > 1 then return short end

for i = 2, #KEYS do
  set_level(KEYS[i], epoch, levels[i][1], levels[i][2])
end
redis.call('HSET', book, 'reservation:' .. sale, record)
if key ~= '' then
  redis.call('HSET', book, 'key:' .. key, fingerprint .. ' ' .. sale)
end
return {OK}
