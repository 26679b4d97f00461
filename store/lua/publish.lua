-- Records that a rank has come to a rendezvous and with what; compares; the last to come writes "go".
-- KEYS: 1 group, 2 members, 3 events, 4 arrived, 5 verdict, 6 fabric; then all of the rendezvous before
-- ARGV: 1 nonce, 2 rank, 3 incarnation, 4 digest, 5 world size, 6 number of the rendezvous, 7 why I cannot take part
--       ("CODE RANK TEXT") or "", 8 lifetime of the rendezvous' keys in ms, 9 lifetime of the events in ms,
--       10 what I offer to ranks of other hosts ("INCARNATION HANDLE ..."), or ""
-- Answer: {"ok", verdict or ""} or {"stale"}
pcall(redis.replicate_commands)
local group, members, events, arrived, verdict = unpack(KEYS, 1, 5)
local nonce, rank, incarnation, digest, world, seq, failure, lifetime = unpack(ARGV, 1, 8)

local function host_of(member)
	return (' ' .. (redis.call('HGET', members, member) or '')):match(' host=(%S*)') or '?'
end

-- Those that are there agree, or a verdict would stand: any of them will do, and the lowest reads best.
local function lowest_other()
	if rank ~= '0' and redis.call('HEXISTS', arrived, '0') == 1 then return '0' end
	local low
	for _, field in ipairs(redis.call('HKEYS', arrived)) do
		local n = tonumber(field)
		if n and field ~= rank and (not low or n < tonumber(low)) then low = field end
	end
	return low
end

local function judge(mine)
	if failure ~= '' then return 'fail', failure end
	local other = lowest_other()
	local theirs = other and redis.call('HGET', arrived, other):sub(34)
	if theirs and theirs ~= mine then
		local text = string.format('rank %s (host %s) came with "%s" where rank %s (host %s) came with "%s"',
			rank, host_of(rank), mine, other, host_of(other), theirs)
		return 'fail', '-9 ' .. rank .. ' ' .. text:sub(1, 399)
	end
	if redis.call('HLEN', arrived) == tonumber(world) then return 'go' end
end

-- Who comes with a digest has done with the rendezvous before. Who comes without, to say that it cannot take part, may
-- have another thread that still waits there.
local function all_take_part()
	for _, value in ipairs(redis.call('HVALS', arrived)) do
		if #value <= 33 then return false end
	end
	return true
end

local function write(word, why)
	redis.call('SET', verdict, nonce .. ' ' .. word .. (why and ' ' .. why or ''), 'PX', lifetime)
	redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', word, 'rank', rank, 'text',
		'rendezvous ' .. seq .. (why and ': ' .. why or ''))
	redis.call('PEXPIRE', events, ARGV[9])
end

if redis.call('HGET', group, 'nonce') ~= nonce then return {'stale'} end
redis.call('HSETNX', arrived, rank, incarnation .. ' ' .. digest)
redis.call('PEXPIRE', arrived, lifetime)
local standing = redis.call('HGET', arrived, rank)
if standing:sub(1, 33) ~= incarnation .. ' ' then return {'stale'} end
if ARGV[10] ~= '' then
	redis.call('HSETNX', KEYS[6], rank, ARGV[10])
	redis.call('PEXPIRE', KEYS[6], lifetime)
end
if redis.call('EXISTS', verdict) == 0 then
	local word, why = judge(standing:sub(34))
	if word then write(word, why) end
end
local stands = redis.call('GET', verdict) or ''
if redis.call('HLEN', arrived) == tonumber(world) and (stands == nonce .. ' go' or all_take_part()) then
	redis.call('DEL', unpack(KEYS, 7))
end
return {'ok', stands}
