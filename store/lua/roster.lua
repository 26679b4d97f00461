-- The members of one host.
-- KEYS: 1 group, 2 members, 3 host set
-- ARGV: 1 nonce
-- Answer: {"ok", rank, record, ...} or {"stale"}
if redis.call('HGET', KEYS[1], 'nonce') ~= ARGV[1] then return {'stale'} end
local answer = {'ok'}
for _, rank in ipairs(redis.call('SMEMBERS', KEYS[3])) do
	answer[#answer + 1] = rank
	answer[#answer + 1] = redis.call('HGET', KEYS[2], rank) or ''
end
return answer
