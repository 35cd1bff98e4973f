-- A process is alive, and hears which others are not: it is to bury them.
--
-- KEYS  1  sorted set: process -> when it was last heard (ms)
--       2  sorted set: dead process -> until when another is burying it (ms)
-- ARGV  1  process    2  how often each is heard (ms)    3  the silence after which it is dead (ms)
--       4  "1" if the process has been heard before: if that is not known it is not taken for a new one, so that it
--          learns of it even if an answer is lost
-- Returns {1 if the process is known, dead process, ...}.

local heard, dead = KEYS[1], KEYS[2]
local process, interval, silence = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[4] == '1' and not redis.call('ZSCORE', heard, process) then
    return {0}
end

-- Time in which nobody was heard does not count: it was Redis that was away.
local newest = redis.call('ZRANGE', heard, -1, -1, 'WITHSCORES')[2]
local unheard = newest and now - newest - interval or 0
if unheard > 0 then
    for _, each in ipairs(redis.call('ZRANGE', heard, 0, -1)) do
        redis.call('ZINCRBY', heard, unheard, each)
    end
end

redis.call('ZADD', heard, now, process)
local reply = {1}
for _, each in ipairs(redis.call('ZRANGEBYSCORE', heard, '-inf', now - silence)) do
    redis.call('ZREM', heard, each)
    redis.call('ZADD', dead, 0, each)
end
for _, each in ipairs(redis.call('ZRANGEBYSCORE', dead, '-inf', now)) do
    redis.call('ZADD', dead, now + 2 * interval, each)
    table.insert(reply, each)
end
return reply
