#!lua flags=no-writes
-- Lists the oldest settled keys beyond a number of them, with their sales.
--
-- KEYS  book
-- ARGV  epoch, how many keys may stay, how many to list at most
-- Returns {1, position of the first listed, its sale, the next one's sale, ...}, {-3, epoch}, {-4, argument}; see
--         prelude.lua
local book, epoch = KEYS[1], ARGV[1]
if #KEYS ~= 1 or #ARGV ~= 3 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
local keep, most = integer(ARGV[2], 0, MAX), integer(ARGV[3], 0, 10000)
if not keep then return {INVALID, 2} end
if not most then return {INVALID, 3} end
local first = tonumber(redis.call('HGET', book, 'first') or 0)
local names, uses, reply = {}, {}, {OK, first + 1}
for n = first + 1, first + math.min(settled_count(book) - keep, most) do
  names[#names + 1] = 'settled:' .. n
end
for n, key in ipairs(book_entries(book, names)) do
  uses[n] = 'key:' .. (key or '')
end
for _, used in ipairs(book_entries(book, uses)) do
  reply[#reply + 1] = used and string.match(used, ' (%x+)$') or ''
end
return reply
