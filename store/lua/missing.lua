-- Who has not come to a rendezvous, or, once all have come, has not voted. Rendezvous 0 is the join.
-- KEYS: 1 group, 2 members, 3 leases, 4 doing, 5 arrived, 6 vote
-- ARGV: 1 nonce, 2 world size, 3 number of the rendezvous, 4 how many to name
-- Answer: {"ok", 1 if they miss the vote else 0, how many in all, then for each rank, record or "", ms left of its
--         lease, what it is doing} or {"stale"}
local members, leases, doing = KEYS[2], KEYS[3], KEYS[4]
local world = tonumber(ARGV[2])
if redis.call('HGET', KEYS[1], 'nonce') ~= ARGV[1] then return {'stale'} end

local came, voting = KEYS[5], 0
if ARGV[3] == '0' then
	came = members
elseif redis.call('HLEN', came) >= world then
	came, voting = KEYS[6], 1
end
local there = {}
for _, rank in ipairs(redis.call('HKEYS', came)) do
	there[rank] = true
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, missing = {'ok', voting, 0}, 0
-- Those who waited for others in a join, and withdrew a moment ago, are named last: it is not for them that it failed.
local withdrew = {}
for _, rank in ipairs(ARGV[3] == '0' and redis.call('HKEYS', doing) or {}) do
	withdrew[rank] = true
end
for n = 0, 2 * world - 1 do
	local rank = string.format('%d', n % world)
	if not there[rank] and (withdrew[rank] or false) == (n >= world) then
		missing = missing + 1
		if missing <= tonumber(ARGV[4]) then
			local score = tonumber(redis.call('ZSCORE', leases, rank) or now - 1)
			answer[#answer + 1] = rank
			answer[#answer + 1] = redis.call('HGET', members, rank) or ''
			answer[#answer + 1] = string.format('%.0f', score - now)
			answer[#answer + 1] = redis.call('HGET', doing, rank) or ''
		end
	end
end
answer[3] = missing
return answer
