/* What the keyspace leaves in Redis, shows of it, and makes of what others put there. */
#include "keyspace_help.h"

#include <stdlib.h>
#include <string.h>

/* ---- operators ---- */

static void test_ttl(void)
{
	struct group g;
	char keys[2000], *save = NULL;
	int n = 0;

	group_make(&g, "ttl", 2);
	refresh(&g.ks, &g.member[0], "x");
	publish(&g, 0, 1, "a", NULL);
	publish(&g, 1, 1, "a", NULL);
	vote(&g, 0, 1, NULL);
	decide(&g, 0, 2, SYMM_EPEER, "x");
	snprintf(keys, sizeof(keys), "%s", raw("KEYS", "*", NULL));
	for (char *k = strtok_r(keys, " ", &save); k; k = strtok_r(NULL, " ", &save), n++)
		ok(atoi(raw("PTTL", k, NULL)) > 1000, "%s will go by itself", k);
	ok(n == 11, "all kinds of keys were there: %d", n);
	raw("FLUSHALL", NULL);
}

static void note_group(void *arg, const char *job, const char *group)
{
	char *out = arg;

	snprintf(out + strlen(out), 200 - strlen(out), "%s/%s ", job, group);
}

static void test_operators(void)
{
	struct symm_group_state *state;
	struct symm_err why;
	struct group g, h;
	char found[200] = "";
	int64_t deleted;

	group_make(&g, "one", 3);
	group_make(&h, "two", 1);
	raw("SET", "symm:{other}:group", "x", NULL);
	is_int(symm_keyspace_list(store, NULL, soon(), note_group, found), 0, "list");
	is_str(found, "-/one -/two ", "both groups");
	found[0] = '\0';
	is_int(symm_keyspace_list(store, "elsewhere", soon(), note_group, found), 0, "list of another job");
	is_str(found, "", "no groups");
	publish(&g, 0, 7, "a", NULL);
	publish(&g, 2, 7, "a", NULL);
	decide(&g, 0, 12, SYMM_ETIMEDOUT, "nobody came");
	symm_err_set(&why, SYMM_EPEER, "rank 1 is dead");
	symm_keyspace_fail(&g.ks, 1, &why);
	if (is_int(symm_keyspace_show(store, "-", "one", soon(), &state), 0, "show")) {
		ok(state->generation.nonce == nonce(1) && state->generation.state == SYMM_FAILED, "generation");
		is_str(state->why, "rank 1 is dead", "why");
		ok(state->n_members == 3 && state->members[2].member.rank == 2, "members");
		ok(state->n_rendezvous == 2 && state->rendezvous[0].seq == 7 && state->rendezvous[1].seq == 12,
		   "rendezvous");
		ok(state->rendezvous[0].arrived == 2 && !state->rendezvous[0].has_arrived[1],
		   "rank 1 has not come to 7");
		is_int(state->rendezvous[1].verdict.what, SYMM_VERDICT_FAILED, "12 has failed");
		symm_group_state_free(state);
	}
	symm_group_state_free(NULL);
	is_int(symm_keyspace_show(store, "-", "none", soon(), &state), SYMM_ENOENT, "show what is not there");
	is_int(symm_keyspace_show(store, "-", "a*", soon(), &state), SYMM_EINVAL, "show a bad name");
	is_int(symm_keyspace_remove(store, "-", "one", soon(), &deleted), 0, "remove");
	is_int(deleted, 10, "all its keys");
	is_int(symm_keyspace_remove(store, "-", "one", soon(), &deleted), 0, "remove, again");
	is_int(deleted, 0, "no keys");
	is_int(symm_keyspace_leave(&h.ks, &h.member[0], 1, 0, soon()), 0, "the other group is whole");
	is_str(raw("KEYS", "*", NULL), "symm:{other}:group", "and somebody else's key too");
	raw("FLUSHALL", NULL);
}

/* ---- what stands in Redis is not believed ---- */

static int call_join(struct group *g)
{
	struct symm_join join = { .member = &g->member[0], .world = 2, .expected = nonce(1), .fresh = nonce(2) };
	struct symm_join_answer a;

	return symm_keyspace_join(&g->ks, &join, soon(), &a);
}

static int call_join_other(struct group *g)
{
	g->member[0].incarnation = symm_id_new();
	return call_join(g);
}

static int call_roster(struct group *g)
{
	struct symm_member *members;
	size_t n;
	int rc = symm_keyspace_roster(&g->ks, "boot-of-a", soon(), &members, &n);

	if (!rc)
		free(members);
	return rc;
}

static int call_members(struct group *g)
{
	struct symm_presence *members;
	size_t n;
	int rc = symm_keyspace_members(&g->ks, soon(), &members, &n);

	if (!rc)
		free(members);
	return rc;
}

static int call_missing(struct group *g)
{
	struct symm_presence who[2];
	size_t missing;
	bool voting;

	return symm_keyspace_missing(&g->ks, 2, 1, soon(), who, 2, &missing, &voting);
}

static int call_poll(struct group *g)
{
	struct symm_verdict v;

	return symm_keyspace_poll(&g->ks, 1, soon(), &v);
}

static int call_publish(struct group *g)
{
	struct symm_verdict v;

	return symm_keyspace_publish(&g->ks, &g->member[0], 2, 1, "a", NULL, NULL, TTL_MS, soon(), NULL, &v);
}

static int call_vote(struct group *g)
{
	struct symm_verdict v;

	return symm_keyspace_vote(&g->ks, &g->member[0], 2, 1, NULL, TTL_MS, soon(), &v);
}

static int call_refresh(struct group *g)
{
	struct refreshed r = refresh(&g->ks, &g->member[0], "");

	return r.code ? symm_error(r.code, "%s", r.text) : 0;
}

static int call_show(struct group *g)
{
	struct symm_group_state *state;
	int rc = symm_keyspace_show(store, "-", "hostile", soon(), &state);

	(void)g;
	if (!rc)
		symm_group_state_free(state);
	return rc;
}

#define RECORD(rank, rest)                                                                                             \
	"v=1 rank=" rank " inc=01010101010101010101010101010101 proc=01010101010101010101010101010101 " rest
#define GOOD RECORD("0", "host=a boot=boot-of-a pidns=0 netns=0 pid=1 start=0 socket=s path=")

static const struct {
	const char *name;
	int (*call)(struct group *g);
	bool of_generation;
	const char *command, *key, *field, *value; /* field NULL: a value alone */
} hostile[] = {
	{ "group is a string", call_members, false, "SET", "group", NULL, "x" },
	{ "group is a string, joining", call_join, false, "SET", "group", NULL, "x" },
	{ "group without nonce", call_show, false, "HDEL", "group", NULL, "nonce" },
	{ "nonce", call_show, false, "HSET", "group", "nonce", "ghosts" },
	{ "short nonce", call_join, false, "HSET", "group", "nonce", "fedcba98" },
	{ "number", call_members, false, "HSET", "group", "generation", "99999999999999999999" },
	{ "number 0", call_join, false, "HSET", "group", "generation", "0" },
	{ "state", call_members, false, "HSET", "group", "state", "sealed\n" },
	{ "world", call_members, false, "HSET", "group", "world", "2000000000" },
	{ "world below the ranks", call_members, false, "HSET", "group", "world", "1" },
	{ "world, joining", call_join, false, "HSET", "group", "world", "-3" },
	{ "another world, joining", call_join, false, "HSET", "group", "world", "3" },
	{ "why", call_members, false, "HSET", "group", "why", "because" },
	{ "why with a code above 0", call_members, false, "HSET", "group", "why", "4 0 x" },
	{ "why, refreshing", call_refresh, false, "HSET", "group", "state", "failed" },
	{ "members is a string", call_members, false, "SET", "members", NULL, "x" },
	{ "no record", call_members, false, "HSET", "members", "1", "x" },
	{ "no rank", call_members, false, "HSET", "members", "x", GOOD },
	{ "rank beyond the world", call_members, false, "HSET", "members", "2", GOOD },
	{ "another's record", call_roster, false, "HSET", "members", "0", RECORD("1", "host=a") },
	{ "another's record in full", call_members, false, "HSET", "members", "1", GOOD },
	{ "a rank twice", call_members, false, "HSET", "members", "00", GOOD },
	{ "host set is a string", call_roster, true, "SET", "host:boot-of-a", NULL, "x" },
	{ "host set of words", call_roster, true, "SADD", "host:boot-of-a", NULL, "x" },
	{ "lease without end", call_members, false, "ZADD", "leases", "inf", "0" },
	{ "leases of strangers", call_refresh, false, "ZADD", "leases", "5", "x" },
	{ "doing is a string", call_refresh, false, "SET", "doing", NULL, "x" },
	{ "verdict", call_poll, true, "SET", "verdict:1", NULL, "go" },
	{ "verdict with a tail", call_poll, true, "SET", "verdict:1", NULL, "fedcba9876543201 gone" },
	{ "failure without text", call_poll, true, "SET", "verdict:1", NULL, "fedcba9876543201 fail -3" },
	{ "failure of rank -2", call_publish, true, "SET", "verdict:1", NULL, "fedcba9876543201 fail -3 -2 x" },
	{ "failure beyond the codes", call_vote, true, "SET", "verdict:1", NULL, "fedcba9876543201 fail -100 0 x" },
	{ "verdict is a hash", call_poll, true, "HSET", "verdict:1", "x", "x" },
	{ "verdict is a hash, publishing", call_publish, true, "HSET", "verdict:1", "x", "x" },
	{ "vote is a string", call_vote, true, "SET", "vote:1", NULL, "x" },
	{ "arrived is a string", call_missing, true, "SET", "arrived:1", NULL, "x" },
	{ "arrivals of strangers", call_show, true, "HSET", "arrived:1", "x", "x" },
	{ "arrivals beyond the world", call_show, true, "HSET", "vote:1", "2", "x" },
};

static void test_hostile(void)
{
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct group g;
		const char *at;

		group_make(&g, "hostile", 2);
		at = hostile[i].of_generation ? generation_key(&g.ks, hostile[i].key) : key(&g.ks, hostile[i].key);
		if (hostile[i].field)
			raw(hostile[i].command, at, hostile[i].field, hostile[i].value, NULL);
		else
			raw(hostile[i].command, at, hostile[i].value, NULL);
		if (is_int(hostile[i].call(&g), SYMM_EPROTO, "%s", hostile[i].name))
			has_str(symm_last_error(), "symm:{-/hostile}:", "%s: the detail names the key",
				hostile[i].name);
		raw("FLUSHALL", NULL);
	}
}

/* Values of megabytes, with every byte in them. */
static void test_huge(void)
{
	static const struct {
		const char *name;
		int (*call)(struct group *g);
		int expected;
		bool of_generation;
		const char *key, *script;
	} cases[] = {
		{ "verdict", call_poll, SYMM_EPROTO, true, "verdict:1",
		  "redis.call('SET', KEYS[1], string.rep('\\255\\0\\n', 2000000))" },
		{ "failure", call_poll, 0, true, "verdict:1",
		  "redis.call('SET', KEYS[1], 'fedcba9876543201 fail -3 0 ' .. string.rep('\\255\\0\\n%s', 2000000))" },
		{ "record", call_members, SYMM_EPROTO, false, "members",
		  "redis.call('HSET', KEYS[1], '1', string.rep(' inc=\\0', 1000000))" },
		{ "record, joining", call_join_other, SYMM_EPROTO, false, "members",
		  "redis.call('HDEL', 'symm:{-/huge}:group', 'sealed') redis.call('HSET', 'symm:{-/huge}:group', "
		  "'state', 'forming') "
		  "redis.call('HSET', KEYS[1], '0', string.rep('inc=0 ', 1000000))" },
		{ "line", call_members, 0, false, "doing",
		  "redis.call('HSET', KEYS[1], '1', string.rep('\\0\\255', 4000000))" },
		{ "many members", call_members, SYMM_EPROTO, false, "members",
		  "for i = 2, 100000 do redis.call('HSET', KEYS[1], tostring(i), 'v=1') end" },
		{ "many arrivals", call_publish, 0, true, "arrived:1",
		  "for i = 2, 100000 do redis.call('HSET', KEYS[1], tostring(i), '01010101010101010101010101010101 a') "
		  "end" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct group g;

		group_make(&g, "huge", 2);
		raw("EVAL", cases[i].script, "1",
		    cases[i].of_generation ? generation_key(&g.ks, cases[i].key) : key(&g.ks, cases[i].key), NULL);
		is_int(cases[i].call(&g), cases[i].expected, "huge %s", cases[i].name);
		raw("FLUSHALL", NULL);
	}
}

/* ---- rights ---- */

/* The rights that symm-keyspace(7) names are enough. */
static void test_rights(void)
{
	struct tap_redis redis;
	struct symm_store *all, *was = store;
	struct symm_verdict v;
	struct group g;
	char url[300];
	int64_t deleted;

	tap_redis_start(&redis, TAP_REDIS_PASSWORD);
	if (symm_store_open(loop, redis.url, soon(), &all))
		tap_bail("%s: %s", redis.url, symm_last_error());
	store = all;
	is_str(raw("ACL", "SETUSER", "symm", "on", ">rank", "~symm:{*", "+ping", "+eval", "+evalsha", "+get", "+set",
		   "+del", "+unlink", "+exists", "+pexpire", "+time", "+scan", NULL),
	       "OK", "the user is made");
	is_str(raw("ACL", "SETUSER", "symm", "+hget", "+hset", "+hsetnx", "+hmget", "+hdel", "+hexists", "+hlen",
		   "+hkeys", "+hgetall", "+zadd", "+zrem", "+zscore", "+zrangebyscore", "+sadd", "+srem", "+smembers",
		   "+xadd", NULL),
	       "OK", "with all rights that it needs");
	snprintf(url, sizeof(url), "redis://symm:rank@127.0.0.1:%d", redis.port);
	if (is_int(symm_store_open(loop, url, soon(), &store), 0, "a user with those rights alone")) {
		group_make(&g, "rights", 2);
		publish(&g, 0, 1, "a", NULL);
		publish(&g, 1, 1, "a", NULL);
		vote(&g, 0, 1, NULL);
		v = vote(&g, 1, 1, NULL);
		is_int(v.what, SYMM_VERDICT_READY, "its rendezvous is ready");
		is_int(call_members(&g), 0, "members");
		is_int(call_roster(&g), 0, "roster");
		is_int(call_missing(&g), 0, "missing");
		is_int(refresh(&g.ks, &g.member[0], "").code, 0, "refresh");
		is_poll(&g, 1, SYMM_VERDICT_READY, "rights");
		is_int(symm_keyspace_leave(&g.ks, &g.member[0], 1, 1, soon()), 0, "leave");
		is_int(symm_keyspace_remove(store, "-", "rights", soon(), &deleted), 0, "remove");
		symm_store_close(store);
	} else {
		tap_diag("%s", symm_last_error());
	}
	symm_store_close(all);
	store = was;
	tap_redis_stop(&redis);
}

int main(void)
{
	struct tap_redis redis;

	suite_start(&redis, TAP_REDIS_UNIX);
	test_ttl();
	test_operators();
	test_hostile();
	test_huge();
	test_rights();
	return suite_end(&redis);
}
