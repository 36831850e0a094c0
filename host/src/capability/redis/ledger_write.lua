-- Changes records of a ledger, all or none; KEYS as for reading. ARGV: the version that this is based on and its mark, the mark of
-- the new one, the time in microseconds after which it is not wanted any more, how many versions it is known for what was removed,
-- and then names and values ("": it is removed). Answers with the new version, or 0 where nothing was changed.

local head = redis.call('HMGET', KEYS[4], 'version', 'mark')
local version, mark = tonumber(head[1] or 0), head[2] or ''
local before = redis.call('ZSCORE', KEYS[3], 'mark:' .. ARGV[3])
if before then
    -- It was sent again, because the first answer was lost.
    return tonumber(before)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
if version ~= tonumber(ARGV[1]) or mark ~= ARGV[2] or now > tonumber(ARGV[4]) then
    return 0
end

version = version + 1
for at = 6, #ARGV, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    redis.call('ZADD', KEYS[2], version, name)
    if value == '' then
        redis.call('HDEL', KEYS[1], name)
        redis.call('ZADD', KEYS[3], version, name)
    else
        redis.call('HSET', KEYS[1], name, value)
        redis.call('ZREM', KEYS[3], name)
    end
end
redis.call('HSET', KEYS[4], 'version', version, 'mark', ARGV[3])
redis.call('ZADD', KEYS[3], version, 'mark:' .. ARGV[3])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', version - tonumber(ARGV[5]))) do
    redis.call('ZREM', KEYS[2], name)
    redis.call('ZREM', KEYS[3], name)
end
return version
