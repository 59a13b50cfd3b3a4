#!lua flags=no-writes
-- Reads what an idempotency key stands for.
--
-- KEYS  book
-- ARGV  epoch, key
-- Returns {1, fingerprint, sale}, {0} for a key that is free or forgotten, {-3, epoch}, {-4, argument}; see prelude.lua
local book, epoch, key = KEYS[1], ARGV[1], ARGV[2]
if #KEYS ~= 1 or #ARGV ~= 2 then return {INVALID, 0} end
local refused = fence(book, epoch)
if refused then return refused end
if not is_id(key) then return {INVALID, 2} end
local used = redis.call('HGET', book, 'key:' .. key)
if not used then return {NOTHING} end
local fingerprint, sale = string.match(used, '^(%x+) (%x+)$')
return {OK, fingerprint, sale}
