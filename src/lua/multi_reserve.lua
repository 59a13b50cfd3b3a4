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

local sales, fields, at, last, n = {}, {}, #KEYS + 1, #ARGV, 0
while at <= last do
  local sale, key, fingerprint, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], integer(ARGV[at + 3], 0, places)
  if not is_id(sale) then return {INVALID, at} end
  if key ~= '' and not is_id(key) then return {INVALID, at + 1} end
  if key ~= '' and not is_id(fingerprint) then return {INVALID, at + 2} end
  if not count then return {INVALID, at + 3} end
  n = n + 1
  local reservation, bound = 'reservation:' .. sale, key ~= '' and 'key:' .. key
  sales[n] = {sale, key, fingerprint, at + 3, count, reservation, bound}
  fields[#fields + 1] = reservation
  if bound then fields[#fields + 1] = bound end
  at = at + 4 + 2 * count
end
if at ~= last + 1 or n > 1000 then return {INVALID, 0} end

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

local DONE = {OK}
local function reserve(sale, key, fingerprint, from, count, reservation, bound)
  local parts, bad = {bound and key or '-'}, nil
  local of, by = {}, {} -- places in the order of the lines, and how much of each
  for line = 1, count do
    local text = ARGV[from + 2 * line]
    local place, quantity = integer(ARGV[from + 2 * line - 1], 1, places), integer(text, 1, MAX)
    if not place or not quantity or by[place] then
      bad = line
      break
    end
    by[place] = quantity
    of[line] = place
    parts[2 * line], parts[2 * line + 1] = KEYS[place + 1], text
  end
  local record, open = table.concat(parts, ' '), book_says[reservation]
  if open then return open == record and DONE or {INVALID, 0} end
  local used = bound and book_says[bound]
  if used then
    local of_request, sale = string.match(used, '^(%x+) (%x+)$')
    if of_request == fingerprint then return {REPEATED, sale} end
    return {REUSED}
  end
  if bad then return {INVALID, bad} end

  local short
  for line, place in ipairs(of) do
    local level, available = levels[place], 0
    if level then
      available = level[1] - level[2]
      if available < -MAX then available = 0 end
    end
    if by[place] > available then
      short = short or {SHORT}
      short[#short + 1] = line
      short[#short + 1] = available
    end
  end
  if short then return short end

  for _, place in ipairs(of) do
    local level = levels[place]
    level[2] = level[2] + by[place]
    changed[place] = true
  end
  book_says[reservation] = record
  local at = #changes
  changes[at + 1], changes[at + 2] = reservation, record
  if bound then
    local use = fingerprint .. ' ' .. sale
    book_says[bound] = use
    changes[at + 3], changes[at + 4] = bound, use
  end
  return DONE
end

local replies = {OK}
for n, sale in ipairs(sales) do replies[n + 1] = reserve(unpack(sale)) end
for i = 2, #KEYS do
  if changed[i - 1] then set_level(KEYS[i], epoch, levels[i - 1][1], levels[i - 1][2]) end
end
if #changes > 0 then redis.call('HSET', book, unpack(changes)) end
return replies
