-- Writes a failure verdict unless a final one stands; on rendezvous 0 it fails the forming generation.
-- KEYS: 1 group, 2 events, 3 verdict
-- ARGV: 1 nonce, 2 rank, 3 number of the rendezvous, 4 failure ("CODE RANK TEXT"), 5 lifetime of the verdict in ms,
--       6 lifetime of the events in ms
-- Answer: {"ok", verdict} or {"stale"}
pcall(redis.replicate_commands)
local group, events, verdict = unpack(KEYS)
local nonce, rank, seq, failure, lifetime = unpack(ARGV, 1, 5)

local function write(event, what)
	redis.call('SET', verdict, nonce .. ' fail ' .. failure, 'PX', lifetime)
	redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', event, 'rank', rank, 'text', what .. failure)
	redis.call('PEXPIRE', events, ARGV[6])
end

if redis.call('HGET', group, 'nonce') ~= nonce then return {'stale'} end
if seq ~= '0' then
	local standing = redis.call('GET', verdict)
	if not standing or standing == nonce .. ' go' then write('fail', 'rendezvous ' .. seq .. ': ') end
	return {'ok', redis.call('GET', verdict)}
end
-- The group knows how its join ended even when the verdict's key has gone.
if redis.call('HEXISTS', group, 'sealed') == 1 then return {'ok', nonce .. ' ready'} end
if redis.call('HGET', group, 'state') == 'forming' then
	redis.call('HSET', group, 'state', 'failed', 'why', failure)
	write('failed', '')
end
return {'ok', nonce .. ' fail ' .. (redis.call('HGET', group, 'why') or '')}
