-- What has changed in a ledger. KEYS: a hash of records by name; their names by the version that changed them last, removed ones
-- too; what to forget one day by version: names of removed records, and marks of versions ("mark:..."); the last version with its
-- mark. ARGV: the version that is known and its mark, the version from which on records were told, how many at a time.
-- Answers with the time in microseconds, the last version and its mark, whether it begins anew, the version up to which it tells,
-- and records.

local time = redis.call('TIME')
local head = redis.call('HMGET', KEYS[4], 'version', 'mark')
local version = tonumber(head[1] or 0)
local from, most = tonumber(ARGV[3]), tonumber(ARGV[4])

local anew = tonumber(redis.call('ZSCORE', KEYS[3], 'mark:' .. ARGV[2]) or -1) ~= tonumber(ARGV[1])
if anew then from = 0 end

local names, last = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, most), version
if #names == 2 * most then
    -- What one change has touched is told at once.
    last = tonumber(names[#names])
    names = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. from, last, 'WITHSCORES')
end
local records = {}
for at = 1, #names, 2 do
    records[#records + 1] = { names[at], redis.call('HGET', KEYS[1], names[at]) }
end
return { tonumber(time[1]) * 1000000 + tonumber(time[2]), version, head[2] or '', anew and 1 or 0, last, records }
