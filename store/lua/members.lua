-- The group and all its members.
-- KEYS: 1 group, 2 members, 3 leases, 4 doing
-- ARGV: 1 nonce, or "": of any generation
-- Answer: {"ok", nonce, number, state, world size, 1 if it was sealed else 0, why it failed, then for each rank,
--         record, ms left of its lease, what it is doing}, {"stale"} or {"none"}
local is = redis.call('HMGET', KEYS[1], 'nonce', 'generation', 'state', 'world', 'why')
if ARGV[1] == '' then
	if redis.call('EXISTS', KEYS[1]) == 0 then return {'none'} end
elseif is[1] ~= ARGV[1] then
	return {'stale'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {'ok', is[1] or '', is[2] or '', is[3] or '', is[4] or '', redis.call('HEXISTS', KEYS[1], 'sealed'),
	is[5] or ''}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
	local score = tonumber(redis.call('ZSCORE', KEYS[3], all[i]) or now - 1)
	answer[#answer + 1] = all[i]
	answer[#answer + 1] = all[i + 1]
	answer[#answer + 1] = string.format('%.0f', score - now)
	answer[#answer + 1] = redis.call('HGET', KEYS[4], all[i]) or ''
end
return answer
