#!lua flags=allow-oom
-- Takes events that are published out of a shard's outbox, the oldest ones.
--
-- KEYS  owner, events; see outbox_add.lua
-- ARGV  epoch, how many
-- Returns {1, how many are left}, {-3, epoch in force or ''}, {-4, argument}
local owner, events = KEYS[1], KEYS[2]
if #KEYS ~= 2 or #ARGV ~= 2 then return {-4, 0} end
local current = redis.call('GET', owner)
if current ~= ARGV[1] then return {-3, current or ''} end
if not string.find(ARGV[2], '^%d+$') then return {-4, 2} end
redis.call('LTRIM', events, ARGV[2], -1)
return {1, redis.call('LLEN', events)}
