#!lua
-- Takes a shard's outbox over: whoever had it can add nothing any more. What waits in it stays.
--
-- KEYS  owner, events; see outbox_add.lua
-- ARGV  epoch (an integer above that of everybody before), and the epoch of the caller if it had the outbox, else ''
-- Returns {1, how many wait}, {-3, epoch in force} when that is not below, or is not the caller's; {-4, argument}
local owner, events = KEYS[1], KEYS[2]
if #KEYS ~= 2 or #ARGV ~= 2 then return {-4, 0} end
local epoch = string.find(ARGV[1], '^%d+$') and tonumber(ARGV[1])
if not epoch then return {-4, 1} end
local current = redis.call('GET', owner)
if current and tonumber(current) >= epoch then return {-3, current} end
if current and ARGV[2] ~= '' and ARGV[2] ~= current then return {-3, current} end
redis.call('SET', owner, ARGV[1])
return {1, redis.call('LLEN', events)}
