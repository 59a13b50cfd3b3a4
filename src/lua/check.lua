#!lua flags=no-writes
-- Reads the levels of places.
--
-- KEYS  book, then the places
-- ARGV  epoch
-- Returns {1, there (1 or 0), on hand, held, there, on hand, held, ...}, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch = KEYS[1], ARGV[1]
if #KEYS < 1 or #ARGV ~= 1 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
local reply = {OK}
for i = 2, #KEYS do
  local on_hand, held = level(KEYS[i], epoch)
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3] = on_hand and 1 or 0, on_hand or 0, held or 0
end
return reply
