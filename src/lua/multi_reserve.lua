#!lua
-- Checkouts, one after the other in one step: each holds every unit of its sale or none, binds its idempotency key and
-- records its reservation, and each level is written once for all of them. One sale, or a sale of one unit, is the same
-- with fewer arguments. Asked again for the same sale, it changes nothing.
--
-- KEYS  book, then the places of all of the sales, each once
-- ARGV  epoch, then for each place whether a level must be there (1) or there may never have been one (0), then for each
--       of at most 1,000 sales: sale, key or '', fingerprint or '', how many lines, and of each line the number of its
--       place, from 1, and the quantity (1 .. 2^53 - 1)
-- Returns {1, reply, ...} with the reply to each sale: {1}, {-1, short ...}, {-4, line}, {-5, sale}, {-6};
--       or for all of them {-2, missing ...}, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch, places = KEYS[1], ARGV[1], #KEYS - 1
if #KEYS < 1 or #ARGV < 1 + places then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end

local sales, fields, at = {}, {}, #KEYS + 1
while at <= #ARGV do
  local sale, key, fingerprint, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], integer(ARGV[at + 3], 0, places)
  if not is_id(sale) then return {INVALID, at} end
  if key ~= '' and not is_id(key) then return {INVALID, at + 1} end
  if key ~= '' and not is_id(fingerprint) then return {INVALID, at + 2} end
  if not count then return {INVALID, at + 3} end
  sales[#sales + 1] = {id = sale, key = key, fingerprint = fingerprint, from = at + 4, count = count}
  fields[#fields + 1] = 'reservation:' .. sale
  if key ~= '' then fields[#fields + 1] = 'key:' .. key end
  at = at + 4 + 2 * count
end
if at ~= #ARGV + 1 or #sales > 1000 then return {INVALID, 0} end

local levels, missing, seen = {}, {MISSING}, {}
for i = 2, #KEYS do
  local known = integer(ARGV[i], 0, 1)
  if not known or seen[KEYS[i]] then return {INVALID, i} end
  seen[KEYS[i]] = true
  local on_hand, held = level(KEYS[i], epoch)
  if on_hand then
    levels[i - 1] = {on_hand, held}
  elseif known == 1 then
    missing[#missing + 1] = i - 1
  end
end
if #missing > 1 then return missing end

-- What the book says of reservations and keys, with what is decided here; and what is to be written.
local book_says, changes, changed = {}, {}, {}
for i, value in ipairs(book_entries(book, fields)) do book_says[fields[i]] = value end
local function write(field, value)
  book_says[field] = value
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

local function reserve(sale)
  local lines, taken, bad, record = {}, {}, nil, {sale.key ~= '' and sale.key or '-'}
  for line = 1, sale.count do
    local text = ARGV[sale.from + 2 * line - 1]
    local place, quantity = integer(ARGV[sale.from + 2 * line - 2], 1, places), integer(text, 1, MAX)
    if not place or not quantity or taken[place] then
      bad = line
      break
    end
    taken[place] = true
    lines[line] = {place, quantity}
    record[#record + 1] = KEYS[place + 1]
    record[#record + 1] = text
  end
  record = table.concat(record, ' ')
  local open = book_says['reservation:' .. sale.id]
  if open then return open == record and {OK} or {INVALID, 0} end

  local used = sale.key ~= '' and book_says['key:' .. sale.key]
  if used then
    local of, by = string.match(used, '^(%x+) (%x+)$')
    if of == sale.fingerprint then return {REPEATED, by} end
    return {REUSED}
  end
  if bad then return {INVALID, bad} end

  local short = {SHORT}
  for line, of in ipairs(lines) do
    local level, available = levels[of[1]], 0
    if level then
      available = level[1] - level[2]
      if available < -MAX then available = 0 end
    end
    if of[2] > available then
      short[#short + 1] = line
      short[#short + 1] = available
    end
  end
  if #short > 1 then return short end

  for _, of in ipairs(lines) do
    local level = levels[of[1]]
    level[2] = level[2] + of[2]
    changed[of[1]] = true
  end
  write('reservation:' .. sale.id, record)
  if sale.key ~= '' then write('key:' .. sale.key, sale.fingerprint .. ' ' .. sale.id) end
  return {OK}
end

local replies = {OK}
for n, sale in ipairs(sales) do replies[n + 1] = reserve(sale) end
for i = 2, #KEYS do
  if changed[i - 1] then set_level(KEYS[i], epoch, levels[i - 1][1], levels[i - 1][2]) end
end
if #changes > 0 then redis.call('HSET', book, unpack(changes)) end
return replies
