-- Marks a sealed group failed; the first to do so says why.
-- KEYS: 1 group, 2 events
-- ARGV: 1 nonce, 2 rank, 3 why ("CODE RANK TEXT"), 4 lifetime of the events in ms
-- Answer: {"ok"} or {"stale"}
pcall(redis.replicate_commands)
local group, events = unpack(KEYS)
local is = redis.call('HMGET', group, 'nonce', 'state')
if is[1] ~= ARGV[1] then return {'stale'} end
if is[2] == 'sealed' then
	redis.call('HSET', group, 'state', 'failed', 'why', ARGV[3])
	redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', 'failed', 'rank', ARGV[2], 'text', ARGV[3])
	redis.call('PEXPIRE', events, ARGV[4])
end
return {'ok'}
