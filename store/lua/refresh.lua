-- Refreshes a rank's lease and the lifetime of the group's keys, and says how the group is.
-- KEYS: 1 group, 2 members, 3 leases, 4 doing, 5 events, 6 host set
-- ARGV: 1 nonce, 2 rank, 3 incarnation, 4 lease in ms, 5 lifetime of the keys in ms, 6 what the rank is doing
-- Answer: {"ok", state, why, how many members there are, rank whose lease has run out ...}, {"stale"} or {"gone"}: I am
--         no member
pcall(redis.replicate_commands)
local group, members, leases, doing = unpack(KEYS, 1, 4)
local rank = ARGV[2]

if redis.call('HGET', group, 'nonce') ~= ARGV[1] then return {'stale'} end
local held = (' ' .. (redis.call('HGET', members, rank) or '')):match(' inc=(%x+)')
if held ~= ARGV[3] then return {'gone'} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', leases, string.format('%.0f', now + ARGV[4]), rank)
redis.call('HSET', doing, rank, ARGV[6])
for _, key in ipairs(KEYS) do
	redis.call('PEXPIRE', key, ARGV[5])
end
local is = redis.call('HMGET', group, 'state', 'why')
local answer = {'ok', is[1] or '', is[2] or '', redis.call('HLEN', members)}
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', now))) do
	answer[#answer + 1] = expired
end
return answer
