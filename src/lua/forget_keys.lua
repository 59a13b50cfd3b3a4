#!lua flags=allow-oom
-- Forgets the oldest settled keys. Asked again for the same ones, it changes nothing.
--
-- KEYS  book
-- ARGV  epoch, position of the first, as oldest_keys.lua told it, and how many
-- Returns {1, how many settled keys are remembered}, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch = KEYS[1], ARGV[1]
if #KEYS ~= 1 or #ARGV ~= 3 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
local from, count = integer(ARGV[2], 1, MAX), integer(ARGV[3], 0, 10000)
if not from then return {INVALID, 2} end
if not count then return {INVALID, 3} end
local first = tonumber(redis.call('HGET', book, 'first') or 0)
if from == first + 1 then
  count = math.min(count, settled_count(book))
  local names = {}
  for n = from, first + count do
    names[#names + 1] = 'settled:' .. n
  end
  for _, key in ipairs(book_entries(book, names)) do
    names[#names + 1] = 'key:' .. (key or '')
  end
  strike(book, names)
  redis.call('HINCRBY', book, 'first', count)
end
return {OK, settled_count(book)}
