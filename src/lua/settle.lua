#!lua flags=allow-oom
-- These sales are durable: what their reservations hold is gone for good, and each level is written once for all of
-- them. A sale whose reservation is not open is passed over, so asked again it changes nothing.
--
-- KEYS  book, then the places of all of the reservations, each once
-- ARGV  epoch, then at most 1,000 sales
-- Returns {1, how many settled keys are remembered}, {-2, missing ...}, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch = KEYS[1], ARGV[1]
if #KEYS < 1 or #ARGV < 1 or #ARGV > 1001 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
local number = {}
for i = 2, #KEYS do
  if number[KEYS[i]] then return {INVALID, 0} end
  number[KEYS[i]] = i
end
local levels, missing = levels_of(epoch)
if missing then return missing end

local names = {}
for n = 2, #ARGV do
  if not is_id(ARGV[n]) then return {INVALID, n} end
  names[n - 1] = 'reservation:' .. ARGV[n]
end
local ended, fields, keys = {}, {}, {}
for at, record in ipairs(book_entries(book, names)) do
  local n, sale = at + 1, ARGV[at + 1]
  if record and not ended[sale] then
    local key, lines = string.match(record, '^(%S+)(.*)$')
    for place, quantity in string.gmatch(lines, '(%S+) (%d+)') do
      local level = levels[number[place]]
      if not level then return {INVALID, n} end
      level[1], level[2] = level[1] - quantity, level[2] - quantity
      -- A movement may have brought the level to the bound meanwhile; there it stays.
      if level[1] < -MAX then level[1] = level[1] + quantity end
    end
    ended[sale] = true
    fields[#fields + 1] = names[at]
    if key ~= '-' then keys[#keys + 1] = key end
  end
end

if #fields > 0 then
  for i = 2, #KEYS do
    set_level(KEYS[i], epoch, levels[i][1], levels[i][2])
  end
  strike(book, fields)
end
add_settled(book, keys)
return {OK, settled_count(book)}
