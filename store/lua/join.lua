-- Enters, opens, replaces or seals a generation.
-- KEYS: 1 group, 2 members, 3 leases, 4 doing, 5 events; 6 host set and 7 verdict 0 of the expected generation;
--       8 host set and 9 verdict 0 of the fresh one
-- ARGV: 1 expected nonce, 2 fresh nonce, 3 rank, 4 incarnation, 5 record, 6 world size, 7 lease in ms, 8 lifetime of
--       the keys in ms, 9 "1": replace the generation, 10 the incarnation to replace, or "", 11 "1": do not complete
--       the group, answer "last" instead, 12 which ranks of which other group join, or ""
-- Answer: {word, nonce, number, state, world size, 1 if it was sealed else 0, why it failed, record of my rank's
--         holder, ms left of its lease}
pcall(redis.replicate_commands)
local group, members, leases, doing, events, host, verdict = unpack(KEYS, 1, 7)
local expected, fresh, rank, incarnation, record, world, lease, lifetime = unpack(ARGV, 1, 8)
local ranks = ARGV[12]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function host_of(text)
	return (' ' .. text):match(' host=(%S*)') or '?'
end

local function note(event, text)
	redis.call('XADD', events, 'MAXLEN', '~', '1000', '*', 'event', event, 'rank', rank, 'text', text)
	redis.call('PEXPIRE', events, lifetime)
end

local function answer(word, holder)
	local is = redis.call('HMGET', group, 'nonce', 'generation', 'state', 'world', 'why')
	local score = tonumber(redis.call('ZSCORE', leases, rank) or now - 1)
	return {word, is[1] or '', is[2] or '', is[3] or '', is[4] or '', redis.call('HEXISTS', group, 'sealed'),
		is[5] or '', holder or '', string.format('%.0f', score - now)}
end

local function open()
	local number = string.format('%.0f', (tonumber(redis.call('HGET', group, 'generation') or 0) or 0) + 1)
	redis.call('DEL', group, members, leases, doing)
	redis.call('HSET', group, 'generation', number, 'nonce', fresh, 'state', 'forming', 'world', world, 'opened',
		string.format('%.0f', now))
	if ranks ~= '' then redis.call('HSET', group, 'ranks', ranks) end
	host, verdict = KEYS[8], KEYS[9]
	note('opened', 'generation ' .. number .. ', world size ' .. world)
end

local function fail(mine, theirs)
	local low
	for _, field in ipairs(redis.call('HKEYS', members)) do
		local n = tonumber(field)
		if n and (not low or n < tonumber(low)) then low = field end
	end
	local who = low and 'rank ' .. low .. ' (host ' .. host_of(redis.call('HGET', members, low)) .. ')' or
		'the group'
	local text = string.format('rank %s (host %s) came with %s where %s has %s', rank, host_of(record), mine, who,
		theirs)
	local why = '-9 ' .. rank .. ' ' .. text:sub(1, 399)
	redis.call('HSET', group, 'state', 'failed', 'why', why)
	redis.call('SET', verdict, redis.call('HGET', group, 'nonce') .. ' fail ' .. why, 'PX', lifetime)
	note('failed', why)
	return answer('failed')
end

local function seal()
	redis.call('HSET', group, 'state', 'sealed', 'sealed', string.format('%.0f', now))
	redis.call('SET', verdict, redis.call('HGET', group, 'nonce') .. ' ready', 'PX', lifetime)
	note('sealed', 'world size ' .. world)
	return answer('sealed')
end

local function keep()
	redis.call('ZADD', leases, string.format('%.0f', now + lease), rank)
	for _, key in ipairs({group, members, leases, events, host}) do
		redis.call('PEXPIRE', key, lifetime)
	end
end

local function enter()
	redis.call('HSET', members, rank, record)
	redis.call('HDEL', doing, rank)
	redis.call('SADD', host, rank)
	note('joined', 'host ' .. host_of(record))
	keep()
	if redis.call('HLEN', members) == tonumber(world) then return seal() end
	return answer('entered')
end

local nonce = redis.call('HGET', group, 'nonce')
if nonce and nonce == fresh then -- my first attempt opened it
	host, verdict = KEYS[8], KEYS[9]
elseif (nonce or '0000000000000000') ~= expected then
	return answer('other')
elseif not nonce or (ARGV[9] == '1' and redis.call('HGET', group, 'state') ~= 'forming') then
	open()
end

local holder = redis.call('HGET', members, rank)
local held = holder and (' ' .. holder):match(' inc=(%x+)') or ''
local state = redis.call('HGET', group, 'state')
local sealed = redis.call('HEXISTS', group, 'sealed') == 1
if sealed then return answer(held == incarnation and 'sealed' or 'other') end
if state == 'failed' then return answer('failed') end
local theirs = redis.call('HMGET', group, 'world', 'ranks')
local their_ranks = theirs[2] or ''
if their_ranks ~= ranks then
	local none = 'no list of ranks'
	return fail(ranks ~= '' and ranks or none, their_ranks ~= '' and their_ranks or none)
end
if theirs[1] ~= world then return fail('world size ' .. world, theirs[1] or '?') end
if held == incarnation then -- a long wait for the others: its caller comes again to stay
	keep()
	return answer('entered')
end
if holder and held ~= ARGV[10] then return answer('taken', holder) end
if ARGV[11] == '1' and redis.call('HLEN', members) + (holder and 0 or 1) == tonumber(world) then
	return answer('last')
end
return enter()
