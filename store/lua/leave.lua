-- Takes a rank out of its group; the last one deletes the group's keys.
-- KEYS: 1 group, 2 members, 3 leases, 4 doing, 5 events, 6 host set, then all others that the last one deletes
-- ARGV: 1 nonce, 2 rank, 3 incarnation, 4 lifetime of the events in ms, 5 "1": only while the group is not complete
-- Answer: {"ok"}, also when I am not there; {"last"}: and the keys are deleted; {"sealed"}: the group was completed
--         with me; or {"stale"}
pcall(redis.replicate_commands)
local group, members, leases, doing, events, host = unpack(KEYS, 1, 6)
local rank = ARGV[2]

local nonce = redis.call('HGET', group, 'nonce')
if not nonce then return {'ok'} end
if nonce ~= ARGV[1] then return {'stale'} end
local held = (' ' .. (redis.call('HGET', members, rank) or '')):match(' inc=(%x+)')
if held ~= ARGV[3] then return {'ok'} end
local sealed = redis.call('HEXISTS', group, 'sealed') == 1
if sealed and ARGV[5] == '1' then return {'sealed'} end

redis.call('HDEL', members, rank)
redis.call('ZREM', leases, rank)
redis.call('HDEL', doing, rank)
if ARGV[5] == '1' then
	redis.call('HSET', doing, rank, 'withdrew')
	redis.call('PEXPIRE', doing, ARGV[4])
end
redis.call('SREM', host, rank)
if redis.call('HLEN', members) == 0 then
	redis.call('DEL', unpack(KEYS))
	return {ARGV[5] == '1' and 'ok' or 'last'}
end
redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', 'left', 'rank', rank, 'text',
	sealed and '' or 'before the group was complete')
redis.call('PEXPIRE', events, ARGV[4])
return {'ok'}
