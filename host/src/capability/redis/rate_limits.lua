-- Asks for several rate limits at once, and takes from all or from none: what plugin-sdk/rate-limit does, in the server, with microseconds.
-- KEYS: one per limit. ARGV: whether to take ("1") or to look only, the time ("" for the server's own), then for each limit its
-- algorithm, amount, time, burst and cost. Answers with a text of five numbers per limit, which is less to read than five
-- answers: whether it is allowed, what remains, and in microseconds when all of it is there again, when the same is allowed (-1:
-- never) and how long it has to wait.

local take = ARGV[1] == '1'
local now = tonumber(ARGV[2])
if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- How much of `before` still counts, as if it had come evenly. What is a hair above a whole number is that number.
local function share(before, per, passed)
    return math.ceil(before * ((per - passed) / per) - 1e-9)
end

local function window(key, per)
    local this, passed = math.floor(now / per), now % per
    local number, count, before = string.match(redis.call('GET', key) or '', '^(%d+) (%d+) (%d+)$')
    number, count, before = tonumber(number), tonumber(count), tonumber(before)
    if number and number >= this then return this, count, before, passed end
    if number and number + 1 == this then return this, 0, count, passed end
    return this, 0, 0, passed
end

local function keep_window(key, per, this, count, before)
    local text = string.format('%.0f %.0f %.0f', this, count, before)
    redis.call('SET', key, text, 'PX', math.ceil(per / 500))
end

local function fixed_window(key, amount, per, _, cost)
    local this, count, before, passed = window(key, per)
    local rest = per - passed
    if count + cost > amount then
        return { false, math.max(amount - count, 0), rest, cost <= amount and amount > 0 and rest or -1, 0 }
    end
    return { true, amount - count, rest, 0, 0 }, function()
        keep_window(key, per, this, count + cost, before)
        return { true, amount - count - cost, rest, 0, 0 }
    end
end

local function sliding_counter(key, amount, per, _, cost)
    local this, count, before, passed = window(key, per)
    local used = count + share(before, per, passed)
    local function whole(count)
        return count > 0 and 2 * per - passed or before > 0 and per - passed or 0
    end
    if used + cost <= amount then
        return { true, amount - used, whole(count), 0, 0 }, function()
            keep_window(key, per, this, count + cost, before)
            return { true, amount - used - cost, whole(count + cost), 0, 0 }
        end
    end
    local function passed_when(of, left)
        return per - math.min(math.floor(left * per / math.max(of, 1)), per)
    end
    local retry, left = -1, amount - cost
    if left >= 0 and amount > 0 then
        if count <= left then
            retry = math.max(passed_when(before, left - count) - passed, 0)
        else
            retry = per - passed + passed_when(count, left)
        end
    end
    return { false, math.max(amount - used, 0), whole(count), retry, 0 }
end

local function at(entry)
    return entry[2] and tonumber(entry[2])
end

-- A sorted set with a member for each one that was taken, by its time.
local function sliding_log(key, amount, per, _, cost)
    local newest = at(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES'))
    local now = now
    if newest and newest > now then
        -- The time went back. It stands still here until it has caught up, if that takes no longer than the limit.
        if newest - now > per then redis.call('DEL', key) newest = nil else now = newest end
    end
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - per)
    local used = redis.call('ZCARD', key)
    if used == 0 then newest = nil end
    local reset = newest and newest + per - now or 0
    if used + cost > amount then
        local oldest = at(redis.call('ZRANGE', key, used + cost - amount - 1, used + cost - amount - 1, 'WITHSCORES'))
        local retry = amount > 0 and cost <= amount and oldest and oldest + per - now or -1
        return { false, math.max(amount - used, 0), reset, retry, 0 }
    end
    return { true, amount - used, reset, 0, 0 }, function()
        if cost == 0 then return { true, amount - used, reset, 0, 0 } end
        local same = redis.call('ZCOUNT', key, now, now)
        for place = same + 1, same + cost do
            redis.call('ZADD', key, now, string.format('%.0f %d', now, place))
        end
        redis.call('PEXPIRE', key, math.ceil(per / 1000))
        return { true, amount - used - cost, per, 0, 0 }
    end
end

local function keep_arrival(key, owed)
    redis.call('SET', key, string.format('%.3f', now + owed), 'PX', math.ceil(owed / 1000) + 1)
end

-- How long one takes, nanoseconds being what it is made of as in the gateway; how long the burst takes; how long until the
-- bucket is full again, or empty: no more than it can be, wherever the time has gone; and what is less than the time since 1970
-- can tell in a number.
local function bucket(key, amount, per, burst, more)
    local interval = math.max(math.floor(per * 1000 / math.max(amount, 1)), 1) / 1000
    local most = interval * (burst + more)
    local owed = math.max(tonumber(redis.call('GET', key) or '0') - now, 0)
    if owed > most then
        owed = most
        keep_arrival(key, owed)
    end
    return interval, interval * burst, owed, math.min(1, interval / 2)
end

local function token_bucket(key, amount, per, burst, cost)
    local interval, full, owed, slack = bucket(key, amount, per, burst, 0)
    local price = interval * cost
    local function standing(allowed, owed, retry)
        return { allowed, math.floor((full - owed + slack) / interval), math.ceil(owed), retry, 0 }
    end
    if owed + price > full + slack or amount == 0 then
        return standing(false, owed, price <= full and amount > 0 and math.ceil(owed + price - full) or -1)
    end
    return standing(true, owed, 0), function()
        local after = math.min(owed + price, full)
        if cost > 0 then keep_arrival(key, after) end
        return standing(true, after, 0)
    end
end

local function leaky_bucket(key, amount, per, burst, cost)
    local interval, full, owed, slack = bucket(key, amount, per, burst, 1)
    local most, price = full + interval, interval * math.max(cost, 1)
    local function standing(allowed, owed, retry, delay)
        return { allowed, math.floor((most - owed + slack) / interval), math.ceil(owed), retry, math.ceil(delay) }
    end
    local last = owed + price - interval
    if last > full + slack or amount == 0 then
        local never = price - interval > full or amount == 0
        return standing(false, owed, never and -1 or math.ceil(last - full), 0)
    end
    return standing(true, owed, 0, 0), function()
        local after = cost > 0 and math.min(owed + price, most) or owed
        if cost > 0 then keep_arrival(key, after) end
        return standing(true, after, 0, owed)
    end
end

local algorithms = { fixed_window, sliding_log, sliding_counter, token_bucket, leaky_bucket }
local standings, takers, all = {}, {}, true
for place, key in ipairs(KEYS) do
    local first = 5 * place - 2
    local numbers = {}
    for i = first, first + 4 do numbers[#numbers + 1] = tonumber(ARGV[i]) end
    local standing, taker = algorithms[numbers[1]](key, numbers[2], numbers[3], numbers[4], numbers[5])
    standings[place], takers[place] = standing, taker
    all = all and standing[1]
end
local answer = {}
for place, standing in ipairs(standings) do
    if all and take then standing = takers[place]() end
    answer[place] = string.format('%d %.0f %.0f %.0f %.0f', standing[1] and 1 or 0, unpack(standing, 2))
end
return table.concat(answer, ' ')
