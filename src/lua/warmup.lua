#!lua
-- Starts a tenant over from rebuilt levels, in chunks. The first chunk takes away everything that was there and with it
-- every older caller's right to write; the stock can be used under the new epoch when the last chunk is in. A load that
-- is older than what is there is refused, so that one which was delayed cannot take the place of a newer one.
--
-- KEYS  book, then the places of this chunk, each once
-- ARGV  epoch (an integer above that of every earlier load), number of the chunk from 0, whether it is the last (1 or
--       0), then on hand at each place (within 2^53 - 1 of zero)
-- Returns {1}, {-3, epoch or load in force}, {-4, argument}; see prelude.lua
local book = KEYS[1]
if #KEYS < 1 or #ARGV ~= 3 + #KEYS - 1 then return {INVALID, 0} end
local epoch, chunk, last = integer(ARGV[1], 1, MAX), integer(ARGV[2], 0, MAX), integer(ARGV[3], 0, 1)
if not epoch then return {INVALID, 1} end
if not chunk then return {INVALID, 2} end
if not last then return {INVALID, 3} end
local seen, levels = {}, {}
for i = 2, #KEYS do
  levels[i] = integer(ARGV[i + 2], -MAX, MAX)
  if not levels[i] or seen[KEYS[i]] then return {INVALID, i + 2} end
  seen[KEYS[i]] = true
end

local there = redis.call('HMGET', book, 'epoch', 'loading', 'chunks')
local current = there[1] or there[2] or '0'
if chunk == 0 then
  if tonumber(current) >= epoch then return {FENCED, current} end
  redis.call('UNLINK', book)
elseif there[2] ~= ARGV[1] or tonumber(there[3]) ~= chunk then
  return {FENCED, current}
end
for i = 2, #KEYS do
  set_level(KEYS[i], ARGV[1], levels[i], 0)
end
if last == 1 then
  redis.call('HDEL', book, 'loading', 'chunks')
  redis.call('HSET', book, 'epoch', ARGV[1])
else
  redis.call('HSET', book, 'loading', ARGV[1], 'chunks', ARGV[2] + 1)
end
return {OK}
