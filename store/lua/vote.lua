-- Records a rank's vote; the last "ok" writes "ready", the first failure "fail".
-- KEYS: 1 group, 2 events, 3 vote, 4 verdict
-- ARGV: 1 nonce, 2 rank, 3 incarnation, 4 code (0: ok), 5 text, 6 world size, 7 number of the rendezvous,
--       8 lifetime of the rendezvous' keys in ms, 9 lifetime of the events in ms
-- Answer: {"ok", verdict or ""} or {"stale"}
pcall(redis.replicate_commands)
local group, events, vote, verdict = unpack(KEYS)
local nonce, rank, incarnation, code, text, world, seq, lifetime = unpack(ARGV, 1, 8)

local function write(word, why)
	redis.call('SET', verdict, nonce .. ' ' .. word .. (why and ' ' .. why or ''), 'PX', lifetime)
	redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', word, 'rank', rank, 'text',
		'rendezvous ' .. seq .. (why and ': ' .. why or ''))
	redis.call('PEXPIRE', events, ARGV[9])
end

if redis.call('HGET', group, 'nonce') ~= nonce then return {'stale'} end
redis.call('HSETNX', vote, rank, incarnation .. ' ' .. (code == '0' and 'ok' or code .. ' ' .. text))
redis.call('PEXPIRE', vote, lifetime)
if redis.call('HGET', vote, rank):sub(1, 33) ~= incarnation .. ' ' then return {'stale'} end

local standing = redis.call('GET', verdict)
local go = standing == nonce .. ' go'
if code ~= '0' and (go or not standing) then
	write('fail', code .. ' ' .. rank .. ' ' .. text)
elseif go and redis.call('HLEN', vote) == tonumber(world) then
	write('ready')
end
return {'ok', redis.call('GET', verdict) or ''}
