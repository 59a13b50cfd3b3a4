#!lua
-- Puts events behind those that wait in a shard's outbox.
--
-- KEYS  owner (string, the epoch of whoever has the outbox), events (list)
-- ARGV  epoch, how many events the caller thinks are there, then the events
-- Returns {1, how many are there now}, {-3, epoch in force or ''} when somebody else has it or it is gone, {-2, how many
--         are there} when that is not what the caller thinks: some were lost; {-4, argument}
local owner, events = KEYS[1], KEYS[2]
if #KEYS ~= 2 or #ARGV < 2 or #ARGV > 4098 then return {-4, 0} end
local current = redis.call('GET', owner)
if current ~= ARGV[1] then return {-3, current or ''} end
local there = redis.call('LLEN', events)
if tostring(there) ~= ARGV[2] then return {-2, there} end
for i = 3, #ARGV do
  redis.call('RPUSH', events, ARGV[i])
end
return {1, redis.call('LLEN', events)}
