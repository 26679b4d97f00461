#include "keyspace_help.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static void test_names(void)
{
	static const char *const good[] = { "-", "a", "A.b_c:d-9",
					    "0123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const bad[] = { "",    "a b",
					   "a}",  "a/b",
					   "a*",  "\xc3\xa9",
					   "a\n", "01234567890123456789012345678901234567890123456789012345678901234" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		is_int(symm_name_check("group", good[i]), SYMM_OK, "name \"%s\"", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		is_int(symm_name_check("group", bad[i]), SYMM_EINVAL, "bad name %d", (int)i);
	has_str(symm_last_error(), "group name", "a bad name's detail says what it names");
	is_int(symm_name_check("job", NULL), SYMM_EINVAL, "no name");
}

/* ---- the join's state machine ---- */

struct step {
	const char *name;
	int rank, life;
	const char *host;
	int world, expected, fresh;
	bool replace_generation;
	int replace;
	int what, nonce, number, state; /* the answer */
	int holder;                     /* TAKEN: its life */
	const char *text;               /* FAILED */
};

static const struct step walk[] = {
	{ "the first opens", 0, 1, "a", 3, 0, 1, false, 0, SYMM_JOIN_ENTERED, 1, 1, SYMM_FORMING, 0, NULL },
	{ "expects none, and there is one", 1, 2, "b", 3, 0, 2, false, 0, SYMM_JOIN_OTHER, 1, 1, SYMM_FORMING, 0,
	  NULL },
	{ "enters", 1, 2, "b", 3, 1, 2, false, 0, SYMM_JOIN_ENTERED, 1, 1, SYMM_FORMING, 0, NULL },
	{ "a duplicate rank", 1, 3, "a", 3, 1, 2, false, 0, SYMM_JOIN_TAKEN, 1, 1, SYMM_FORMING, 2, NULL },
	{ "replaces a life that is not there", 1, 3, "a", 3, 1, 2, false, 1, SYMM_JOIN_TAKEN, 1, 1, SYMM_FORMING, 2,
	  NULL },
	{ "replaces a dead life", 1, 3, "a", 3, 1, 2, false, 2, SYMM_JOIN_ENTERED, 1, 1, SYMM_FORMING, 0, NULL },
	{ "the replaced life comes back", 1, 2, "b", 3, 1, 2, false, 0, SYMM_JOIN_TAKEN, 1, 1, SYMM_FORMING, 3, NULL },
	{ "a forming generation is not replaced", 1, 2, "b", 3, 1, 2, true, 0, SYMM_JOIN_TAKEN, 1, 1, SYMM_FORMING, 3,
	  NULL },
	{ "expects what never was", 2, 4, "c", 3, 9, 2, false, 0, SYMM_JOIN_OTHER, 1, 1, SYMM_FORMING, 0, NULL },
	{ "the last seals", 2, 4, "c", 3, 1, 2, false, 0, SYMM_JOIN_SEALED, 1, 1, SYMM_SEALED, 0, NULL },
	{ "a member comes again", 0, 1, "a", 3, 1, 2, false, 0, SYMM_JOIN_SEALED, 1, 1, SYMM_SEALED, 0, NULL },
	{ "another life meets a sealed one", 0, 5, "a", 3, 1, 3, false, 0, SYMM_JOIN_OTHER, 1, 1, SYMM_SEALED, 0,
	  NULL },
	{ "takes over from the dead", 0, 5, "a", 2, 1, 3, true, 0, SYMM_JOIN_ENTERED, 3, 2, SYMM_FORMING, 0, NULL },
	{ "an old member comes again", 0, 1, "a", 3, 1, 2, false, 0, SYMM_JOIN_OTHER, 3, 2, SYMM_FORMING, 0, NULL },
	{ "takes over too late", 1, 6, "b", 2, 1, 4, true, 0, SYMM_JOIN_OTHER, 3, 2, SYMM_FORMING, 0, NULL },
	{ "another world size", 1, 6, "b", 3, 3, 4, false, 0, SYMM_JOIN_FAILED, 3, 2, SYMM_FAILED, 0,
	  "rank 1 (host b) came with world size 3 where rank 0 (host a) has 2" },
	{ "meets the failed one", 1, 7, "b", 2, 3, 4, false, 0, SYMM_JOIN_FAILED, 3, 2, SYMM_FAILED, 0,
	  "rank 1 (host b) came with world size 3 where rank 0 (host a) has 2" },
	{ "opens over the failed one", 1, 7, "b", 2, 3, 4, true, 0, SYMM_JOIN_ENTERED, 4, 3, SYMM_FORMING, 0, NULL },
	{ "fills it", 0, 8, "a", 2, 4, 5, false, 0, SYMM_JOIN_SEALED, 4, 3, SYMM_SEALED, 0, NULL },
};

static void take_step(struct symm_keyspace *ks, const struct step *s, const char *again)
{
	struct symm_member me = member(s->rank, s->life, s->host);
	struct symm_join join = { .member = &me,
				  .world = s->world,
				  .expected = nonce(s->expected),
				  .fresh = nonce(s->fresh),
				  .replace_generation = s->replace_generation };
	struct symm_join_answer a;

	if (s->replace)
		join.replace = member(0, s->replace, "a").incarnation;
	if (!is_int(symm_keyspace_join(ks, &join, soon(), &a), 0, "%s%s", s->name, again)) {
		tap_diag("%s", symm_last_error());
		return;
	}
	is_int(a.what, s->what, "%s%s: answer", s->name, again);
	ok(a.generation.nonce == nonce(s->nonce) && ks->nonce == nonce(s->nonce), "%s%s: nonce", s->name, again);
	is_int(a.generation.number, s->number, "%s%s: number", s->name, again);
	is_int(a.generation.state, s->state, "%s%s: state", s->name, again);
	if (s->holder) {
		is_int(a.holder.process.pid, 1000 + s->holder, "%s%s: holder", s->name, again);
		ok(a.holder_lease_ms > 0 && a.holder_lease_ms <= LEASE_MS, "%s%s: holder's lease", s->name, again);
	}
	if (s->text)
		is_verdict(&a.verdict, SYMM_VERDICT_FAILED, SYMM_EMISMATCH, 1, s->text, s->name);
}

static void test_join(void)
{
	struct group g = { .world = 3 };
	struct symm_member *members, me = member(1, 7, "b");
	size_t n;

	symm_keyspace_init(&g.ks, store, "-", "walk", LEASE_MS);
	for (size_t i = 0; i < sizeof(walk) / sizeof(walk[0]); i++) {
		take_step(&g.ks, &walk[i], "");
		take_step(&g.ks, &walk[i], ", sent again");
		if (strcmp(walk[i].name, "the last seals") == 0) {
			is_poll(&g, 0, SYMM_VERDICT_READY, "sealed");
			is_int(symm_keyspace_roster(&g.ks, "boot-of-b", soon(), &members, &n), 0, "roster of b");
			is_int((int64_t)n, 0, "the replaced life is not on its host's roster");
			free(members);
		}
		if (strcmp(walk[i].name, "another world size") == 0)
			is_poll(&g, 0, SYMM_VERDICT_FAILED, "failed while forming");
	}
	symm_keyspace_leave(&g.ks, &me, 1, 0, soon());
	raw("FLUSHALL", NULL);
}

static void test_unjoin(void)
{
	struct symm_member m[2] = { member(0, 1, "a"), member(1, 2, "b") }, stranger = member(0, 3, "a");
	struct symm_join join = { .member = &m[0], .world = 3, .fresh = nonce(1) };
	struct symm_join_answer a;
	struct symm_keyspace ks;
	struct group g;
	bool sealed = true;

	symm_keyspace_init(&ks, store, "-", "unjoin", LEASE_MS);
	is_int(symm_keyspace_join(&ks, &join, soon(), &a), 0, "one enters");
	join.member = &m[1];
	join.expected = nonce(1);
	is_int(symm_keyspace_join(&ks, &join, soon(), &a), 0, "another enters");
	is_int(symm_keyspace_unjoin(&ks, &stranger, soon(), &sealed), 0, "who is not there goes");
	is_str(raw("HLEN", key(&ks, "members"), NULL), "2", "and takes nobody out");
	for (int i = 0; i < 4; i++) {
		sealed = true;
		is_int(symm_keyspace_unjoin(&ks, &m[i / 2], soon(), &sealed), 0, "rank %d goes%s", i / 2,
		       i % 2 ? ", again" : "");
		ok(!sealed, "it was not sealed");
	}
	is_empty("after the last has gone");

	group_make(&g, "unjoin", 2);
	is_int(symm_keyspace_unjoin(&g.ks, &g.member[1], soon(), &sealed), 0, "too late to go");
	ok(sealed, "it was sealed");
	g.ks.nonce++;
	is_int(symm_keyspace_unjoin(&g.ks, &g.member[1], soon(), &sealed), SYMM_ESTALE, "of another generation");
	raw("FLUSHALL", NULL);
}

static void test_decide_join(void)
{
	struct symm_member m = member(0, 1, "a");
	struct symm_join join = { .member = &m, .world = 2, .fresh = nonce(1) };
	struct symm_join_answer a;
	struct symm_verdict v;
	struct group g = { .world = 2 };

	symm_keyspace_init(&g.ks, store, "-", "forming", LEASE_MS);
	is_int(symm_keyspace_join(&g.ks, &join, soon(), &a), 0, "one of two enters");
	is_poll(&g, 0, SYMM_VERDICT_NONE, "forming");
	v = decide(&g, 0, 0, SYMM_ETIMEDOUT, "rank 1 did not come");
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ETIMEDOUT, 0, "rank 1 did not come", "decided");
	v = decide(&g, 1, 0, SYMM_EPEER, "too late");
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ETIMEDOUT, 0, "rank 1 did not come", "the first stays");
	is_str(raw("HGET", key(&g.ks, "group"), "state", NULL), "failed", "the generation has failed");
	raw("FLUSHALL", NULL);

	group_make(&g, "sealed", 2);
	v = decide(&g, 0, 0, SYMM_ETIMEDOUT, "too late");
	is_verdict(&v, SYMM_VERDICT_READY, 0, 0, NULL, "sealed before");
	raw("DEL", generation_key(&g.ks, "verdict:0"), NULL);
	v = decide(&g, 0, 0, SYMM_ETIMEDOUT, "too late");
	is_verdict(&v, SYMM_VERDICT_READY, 0, 0, NULL, "sealed before, key gone");
	raw("FLUSHALL", NULL);
}

/* ---- rendezvous ---- */

static void test_agree(void)
{
	struct symm_verdict v;
	struct group g;

	group_make(&g, "agree", 3);
	for (int seq = 1; seq <= 3; seq++) {
		for (int r = 2; r >= 0; r--) {
			v = publish(&g, r, (uint64_t)seq, "size=4096 id=7", NULL);
			is_verdict(&v, r ? SYMM_VERDICT_NONE : SYMM_VERDICT_GO, 0, 0, NULL, "published");
		}
		for (int r = 0; r < 3; r++) {
			v = vote(&g, r, (uint64_t)seq, NULL);
			is_verdict(&v, r < 2 ? SYMM_VERDICT_GO : SYMM_VERDICT_READY, 0, 0, NULL, "voted");
		}
		v = decide(&g, 1, (uint64_t)seq, SYMM_ETIMEDOUT, "too late");
		is_verdict(&v, SYMM_VERDICT_READY, 0, 0, NULL, "ready stays");
		is_poll(&g, (uint64_t)seq, SYMM_VERDICT_READY, "all agree");
	}
	is_str(raw("EXISTS", generation_key(&g.ks, "arrived:2"), NULL), "0",
	       "the keys of the one before are gone: arrived");
	is_str(raw("EXISTS", generation_key(&g.ks, "vote:2"), NULL), "0", "vote");
	is_str(raw("EXISTS", generation_key(&g.ks, "verdict:2"), NULL), "0", "verdict");
	for (int i = 0; i < 6; i++)
		is_int(symm_keyspace_leave(&g.ks, &g.member[i / 2], 1, 3, soon()), 0, "rank %d leaves%s", i / 2,
		       i % 2 ? ", again" : "");
	is_empty("all have left");
}

/* A part has verdicts of its own, and its keys go with those of the whole. */
static void test_part(void)
{
	struct symm_err broken = { SYMM_EDEVICE, "it does not work" };
	struct symm_verdict v;
	struct group g, part;

	group_make(&g, "part", 2);
	for (int r = 0; r < 2; r++)
		publish(&g, r, 1, "whole", NULL);
	part = g;
	strcpy(part.ks.part, "multicast");
	v = publish(&part, 0, 1, "part", NULL);
	is_verdict(&v, SYMM_VERDICT_NONE, 0, 0, NULL, "the whole's \"go\" is not the part's");
	v = publish(&part, 1, 1, "part", NULL);
	is_verdict(&v, SYMM_VERDICT_GO, 0, 0, NULL, "the part's");
	v = vote(&part, 1, 1, &broken);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EDEVICE, 1, "it does not work", "the part fails");
	is_poll(&g, 1, SYMM_VERDICT_GO, "the whole does not");
	for (int r = 0; r < 2; r++)
		v = vote(&g, r, 1, NULL);
	is_verdict(&v, SYMM_VERDICT_READY, 0, 0, NULL, "the whole is ready");
	is_poll(&part, 1, SYMM_VERDICT_FAILED, "the part has failed");
	for (int r = 0; r < 2; r++)
		publish(&g, r, 2, "whole", NULL);
	is_poll(&part, 1, SYMM_VERDICT_NONE, "the next rendezvous forgets it");
	is_str(raw("EXISTS", generation_key(&g.ks, "multicast-arrived:1"), NULL), "0", "its arrivals");
	is_str(raw("EXISTS", generation_key(&g.ks, "multicast-vote:1"), NULL), "0", "its votes");
	publish(&part, 0, 2, "part", NULL);
	for (int r = 0; r < 2; r++)
		is_int(symm_keyspace_leave(&g.ks, &g.member[r], 1, 3, soon()), 0, "rank %d leaves", r);
	is_empty("all have left");
}

/* What ranks of other hosts shall find is there with "go", and goes with the next rendezvous or the last rank. */
static void test_offers(void)
{
	struct symm_offer offer[2] = { { .count = 0 } }, found[3];
	struct symm_verdict v;
	struct group g;

	group_make(&g, "offers", 3);
	for (int r = 0; r < 2; r++) {
		offer[r] = (struct symm_offer){ .incarnation = g.member[r].incarnation, .count = 1 + r };
		memset(offer[r].handle, 0xa0 + r, (size_t)offer[r].count * SYMM_FABRIC_BYTES);
	}
	is_int(symm_keyspace_offers(&g.ks, 3, 1, soon(), found), 0, "nothing is offered yet");
	ok(found[0].count == 0 && found[2].count == 0, "and nothing is found");
	for (int r = 0; r < 3; r++)
		for (int again = 0; again < 2; again++)
			is_int(symm_keyspace_publish(&g.ks, &g.member[r], 3, 1, "a", r < 2 ? &offer[r] : NULL, NULL,
						     TTL_MS, soon(), NULL, &v),
			       0, "rank %d offers%s", r, again ? ", again" : "");
	is_verdict(&v, SYMM_VERDICT_GO, 0, 0, NULL, "offers are not compared");
	is_int(symm_keyspace_offers(&g.ks, 3, 1, soon(), found), 0, "offers");
	ok(memcmp(found, offer, sizeof(offer)) == 0 && found[2].count == 0, "as they were made");
	ok(atoll(raw("PTTL", generation_key(&g.ks, "fabric:1"), NULL)) > TTL_MS / 2, "they expire by themselves");

	raw("HSET", generation_key(&g.ks, "fabric:1"), "2", "junk", NULL);
	is_int(symm_keyspace_offers(&g.ks, 3, 1, soon(), found), SYMM_EPROTO, "an offer that is none");
	has_str(symm_last_error(), "fabric:1, field 2", "the detail names the key");
	raw("HDEL", generation_key(&g.ks, "fabric:1"), "2", NULL);
	raw("HSET", generation_key(&g.ks, "fabric:1"), "3", "junk", NULL);
	is_int(symm_keyspace_offers(&g.ks, 3, 1, soon(), found), SYMM_EPROTO, "an offer of no rank");
	raw("SET", generation_key(&g.ks, "fabric:9"), "x", NULL);
	is_int(symm_keyspace_offers(&g.ks, 3, 9, soon(), found), SYMM_EPROTO, "a key of another type");
	raw("DEL", generation_key(&g.ks, "fabric:9"), NULL);

	for (int r = 0; r < 3; r++)
		is_int(symm_keyspace_publish(&g.ks, &g.member[r], 3, 2, "a", r < 2 ? &offer[r] : NULL, NULL, TTL_MS,
					     soon(), NULL, &v),
		       0, "rank %d offers for 2", r);
	is_str(raw("EXISTS", generation_key(&g.ks, "fabric:1"), NULL), "0", "the offers of the one before are gone");
	for (int r = 0; r < 3; r++)
		symm_keyspace_leave(&g.ks, &g.member[r], 1, 2, soon());
	is_empty("all have left");
}

static void test_mismatch(void)
{
	static const char text[] =
		"rank 2 (host c) came with \"size=4096 id=7\" where rank 1 (host b) came with \"size=8192 id=7\"";
	struct symm_verdict v;
	struct group g;

	group_make(&g, "mismatch", 4);
	v = publish(&g, 3, 1, "size=8192 id=7", NULL);
	v = publish(&g, 1, 1, "size=8192 id=7", NULL);
	is_verdict(&v, SYMM_VERDICT_NONE, 0, 0, NULL, "two agree");
	v = publish(&g, 2, 1, "size=4096 id=7", NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EMISMATCH, 2, text, "the third differs");
	v = publish(&g, 0, 1, "size=8192 id=7", NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EMISMATCH, 2, text, "the late one hears of it");
	is_str(raw("HLEN", generation_key(&g.ks, "arrived:1"), NULL), "4", "and has been seen to come");
	v = vote(&g, 0, 1, NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EMISMATCH, 2, text, "a vote changes nothing");
	v = publish(&g, 0, 2, "a", NULL);
	v = publish(&g, 2, 2, "b", NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EMISMATCH, 2,
		   "rank 2 (host c) came with \"b\" where rank 0 (host a) came with \"a\"", "rank 0 is the lowest");
	raw("FLUSHALL", NULL);
}

static void test_failures(void)
{
	struct symm_err failure;
	struct symm_verdict v;
	struct group g;
	char longest[SYMM_ERROR_TEXT];

	group_make(&g, "failures", 2);
	symm_err_set(&failure, SYMM_ENOMEM, "rank 1: no\nmemory\x01");
	v = publish(&g, 1, 1, "a", &failure);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ENOMEM, 1, "rank 1: no memory ", "cannot take part");
	v = publish(&g, 0, 1, "a", NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ENOMEM, 1, "rank 1: no memory ", "the other hears of it");

	publish(&g, 0, 2, "a", NULL);
	publish(&g, 1, 2, "a", NULL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	symm_err_set(&failure, SYMM_EPEER, "%s", longest);
	longest[SYMM_VERDICT_TEXT - 1] = '\0';
	v = vote(&g, 1, 2, &failure);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EPEER, 1, longest, "a vote against, with a long text");
	v = vote(&g, 0, 2, NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_EPEER, 1, longest, "a vote for, too late");

	v = decide(&g, 0, 3, SYMM_ETIMEDOUT, "rank 1 has not come");
	v = publish(&g, 1, 3, "a", NULL);
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ETIMEDOUT, 0, "rank 1 has not come", "came after the decision");
	publish(&g, 0, 4, "a", NULL);
	publish(&g, 1, 4, "a", NULL);
	v = decide(&g, -1, 4, SYMM_ETIMEDOUT, "no votes");
	is_verdict(&v, SYMM_VERDICT_FAILED, SYMM_ETIMEDOUT, -1, "no votes", "decided after go");

	g.member[0].incarnation = symm_id_new();
	is_int(symm_keyspace_publish(&g.ks, &g.member[0], 2, 4, "a", NULL, NULL, TTL_MS, soon(), NULL, &v), SYMM_ESTALE,
	       "another life publishes");
	publish(&g, 0, 5, "a", NULL);
	is_int(symm_keyspace_publish(&g.ks, &g.member[0], 2, 5, longest, NULL, NULL, TTL_MS, soon(), NULL, &v),
	       SYMM_EINVAL, "too long a digest");
	raw("FLUSHALL", NULL);
}

static void test_missing(void)
{
	struct symm_presence who[2];
	size_t missing = 0;
	bool voting = true;
	struct group g;

	group_make(&g, "missing", 4);
	raw("HSET", key(&g.ks, "doing"), "1", "in a barrier", NULL);
	publish(&g, 2, 1, "a", NULL);
	is_int(symm_keyspace_missing(&g.ks, 4, 1, soon(), who, 2, &missing, &voting), 0, "who is missing");
	ok(!voting && missing == 3, "three have not come");
	ok(who[0].member.rank == 0 && who[1].member.rank == 1, "the first two of them");
	is_str(who[1].member.process.host, "b", "where");
	is_str(who[1].doing, "in a barrier", "doing what");
	ok(who[1].lease_ms > 0, "alive");
	for (int r = 0; r < 4; r++)
		publish(&g, r, 1, "a", NULL);
	vote(&g, 0, 1, NULL);
	is_int(symm_keyspace_missing(&g.ks, 4, 1, soon(), who, 2, &missing, &voting), 0, "whose vote is missing");
	ok(voting && missing == 3 && who[0].member.rank == 1, "three have not voted");
	is_int(symm_keyspace_missing(&g.ks, 6, 0, soon(), who, 2, &missing, &voting), 0, "who has not joined");
	ok(!voting && missing == 2 && who[1].member.rank == 5 && who[1].member.process.host[0] == '\0',
	   "two that nobody knows");
	ok(who[1].lease_ms < 0, "without a lease");
	raw("FLUSHALL", NULL);
}

/* ---- leases ---- */

static void test_leases(void)
{
	struct symm_presence *members;
	struct symm_member stranger = member(1, 9, "b");
	struct symm_err why;
	struct refreshed r;
	struct group g;
	size_t n;

	group_make(&g, "leases", 3);
	r = refresh(&g.ks, &g.member[0], "in rendezvous 5\n");
	ok(r.code == 0 && r.n_expired == 0 && r.failed_code == 0, "all are alive");
	is_str(raw("HGET", key(&g.ks, "doing"), "0", NULL), "in rendezvous 5 ", "what it is doing");
	r = refresh(&g.ks, &stranger, "");
	is_int(r.code, SYMM_ENOENT, "no member any more");

	g.ks.lease_ms = 300;
	for (int i = 0; i < 3; i++)
		refresh(&g.ks, &g.member[i], "");
	symm_sleep(200 * SYMM_NS_PER_MS, INT64_MAX);
	refresh(&g.ks, &g.member[0], "");
	refresh(&g.ks, &g.member[2], "");
	symm_sleep(200 * SYMM_NS_PER_MS, INT64_MAX);
	r = refresh(&g.ks, &g.member[0], "");
	ok(r.code == 0 && r.n_expired == 1 && r.expired == 1, "rank 1 is silent");
	is_int(symm_keyspace_members(&g.ks, soon(), &members, &n), 0, "members");
	ok(n == 3 && members[0].lease_ms > 0 && members[1].lease_ms <= 0 && members[2].member.rank == 2, "and say so");
	free(members);

	symm_err_set(&why, SYMM_EPEER, "rank 1 is dead");
	symm_keyspace_fail(&g.ks, 0, &why);
	symm_err_set(&why, SYMM_ETIMEDOUT, "too late");
	symm_keyspace_fail(&g.ks, 2, &why);
	refresh(&g.ks, &g.member[2], ""); /* it may overtake a script that the server sees for the first time */
	r = refresh(&g.ks, &g.member[2], "");
	is_int(r.code, 0, "a failed group is refreshed");
	is_int(r.failed_code, SYMM_EPEER, "the group has failed, for the first reason");
	symm_sleep(6 * 300 * SYMM_NS_PER_MS + 100 * SYMM_NS_PER_MS, INT64_MAX);
	raw("DEL", generation_key(&g.ks, "host:boot-of-b"), generation_key(&g.ks, "host:boot-of-c"), NULL);
	is_str(raw("DEL", generation_key(&g.ks, "verdict:0"), NULL), "1", "the join's verdict has its first lifetime");
	is_empty("six leases later");
}

/* ---- a store that lost its data ---- */

static void test_stale(void)
{
	struct symm_presence *presences, who[1];
	struct symm_member *members;
	struct symm_err failure;
	struct symm_verdict v;
	struct group g;
	size_t n;
	bool flag;

	symm_err_set(&failure, SYMM_EPEER, "x");
	for (int other = 0; other < 2; other++) {
		const char *when = other ? "another generation" : "after FLUSHALL";

		group_make(&g, "stale", 2);
		raw("FLUSHALL", NULL);
		if (other) {
			group_make(&g, "stale", 2);
			g.ks.nonce = nonce(2);
		}
		is_int(symm_keyspace_roster(&g.ks, "boot-of-a", soon(), &members, &n), SYMM_ESTALE, "roster, %s", when);
		is_int(symm_keyspace_members(&g.ks, soon(), &presences, &n), SYMM_ESTALE, "members, %s", when);
		is_int(symm_keyspace_publish(&g.ks, &g.member[0], 2, 1, "a", NULL, NULL, TTL_MS, soon(), NULL, &v),
		       SYMM_ESTALE, "publish, %s", when);
		is_int(symm_keyspace_vote(&g.ks, &g.member[0], 2, 1, NULL, TTL_MS, soon(), &v), SYMM_ESTALE, "vote, %s",
		       when);
		is_int(symm_keyspace_decide(&g.ks, 0, 1, &failure, TTL_MS, soon(), &v), SYMM_ESTALE, "decide, %s",
		       when);
		is_int(symm_keyspace_decide(&g.ks, 0, 0, &failure, TTL_MS, soon(), &v), SYMM_ESTALE, "decide on 0, %s",
		       when);
		is_int(symm_keyspace_missing(&g.ks, 2, 1, soon(), who, 1, &n, &flag), SYMM_ESTALE, "missing, %s", when);
		is_int(refresh(&g.ks, &g.member[0], "").code, SYMM_ESTALE, "refresh, %s", when);
		is_int(symm_keyspace_leave(&g.ks, &g.member[0], 1, 1, soon()), other ? SYMM_ESTALE : SYMM_OK,
		       "leave, %s", when);
		is_poll(&g, 1, SYMM_VERDICT_NONE, when);
	}
	has_str(symm_last_error(), "symm:{-/stale}:group", "the detail names the key");
	raw("FLUSHALL", NULL);
}

/* ---- races ---- */

enum { RACERS = 6, ROUNDS = 60 };

struct racer {
	struct group *group;
	int rank;
	struct symm_verdict last[ROUNDS];
	bool bad;
};

/* Comes, then votes or decides against; obeys whatever stands. */
static void *race(void *arg)
{
	struct racer *r = arg;
	struct symm_keyspace ks = r->group->ks;
	const struct symm_member *me = &r->group->member[r->rank];
	struct symm_err late = { SYMM_ETIMEDOUT, "late" };
	int rc = 0;

	for (uint64_t seq = 1; seq <= ROUNDS && !rc; seq++) {
		struct symm_verdict *v = &r->last[seq - 1];

		snprintf(late.text, sizeof(late.text), "rank %d was late", r->rank);
		rc = symm_keyspace_publish(&ks, me, RACERS, seq, "a", NULL, NULL, TTL_MS, soon(), NULL, v);
		while (!rc && v->what == SYMM_VERDICT_NONE && (seq + (uint64_t)r->rank) % 8 != 0)
			rc = symm_keyspace_poll(&ks, seq, soon(), v);
		if (!rc && v->what == SYMM_VERDICT_GO)
			rc = symm_keyspace_vote(&ks, me, RACERS, seq, NULL, TTL_MS, soon(), v);
		for (int i = 0; !rc && i < 3 * r->rank && v->what == SYMM_VERDICT_GO; i++)
			rc = symm_keyspace_poll(&ks, seq, soon(), v);
		if (!rc && v->what < SYMM_VERDICT_READY)
			rc = symm_keyspace_decide(&ks, r->rank, seq, &late, TTL_MS, soon(), v);
	}
	r->bad = rc != 0;
	return NULL;
}

static void test_race(void)
{
	static struct racer racers[RACERS];
	pthread_t thread[RACERS];
	struct group g;
	int ready = 0, failed = 0, split = 0, bad = 0;

	group_make(&g, "race", RACERS);
	for (int r = 0; r < RACERS; r++) {
		racers[r] = (struct racer){ .group = &g, .rank = r };
		pthread_create(&thread[r], NULL, race, &racers[r]);
	}
	for (int r = 0; r < RACERS; r++) {
		pthread_join(thread[r], NULL);
		bad += racers[r].bad;
	}
	for (int round = 0; round < ROUNDS; round++) {
		const struct symm_verdict *first = &racers[0].last[round];

		ready += first->what == SYMM_VERDICT_READY;
		failed += first->what == SYMM_VERDICT_FAILED;
		for (int r = 1; r < RACERS; r++)
			split += racers[r].last[round].what != first->what || racers[r].last[round].rank != first->rank;
	}
	is_int(bad, 0, "no call of a race fails");
	is_int(split, 0, "all ranks end with the same verdict");
	is_int(ready + failed, ROUNDS, "and it is final: %d ready, %d failed", ready, failed);
	raw("FLUSHALL", NULL);
}

/* ---- many ---- */

static void test_many(void)
{
	enum { MANY = 200 };
	struct symm_keyspace ks;
	struct symm_join_answer a = { .generation.world = 0 };
	struct symm_presence *members;
	struct symm_member *roster;
	int64_t began = symm_now();
	int entered = 0, left = 0;
	size_t n;

	symm_keyspace_init(&ks, store, "job", "many", LEASE_MS);
	for (int r = 0; r < MANY; r++) {
		struct symm_member m = member(r, r % 250 + 1, r % 2 ? "odd" : "even");
		struct symm_join join = {
			.member = &m, .world = MANY, .expected = r ? nonce(1) : 0, .fresh = nonce(1)
		};

		if (symm_keyspace_join(&ks, &join, soon(), &a) == 0 &&
		    a.what == (r < MANY - 1 ? SYMM_JOIN_ENTERED : SYMM_JOIN_SEALED))
			entered++;
	}
	is_int(entered, MANY, "two hundred enter");
	tap_diag("%d joins: %.1f ms", MANY, (double)(symm_now() - began) / 1e6);
	if (is_int(symm_keyspace_members(&ks, soon(), &members, &n), 0, "members")) {
		ok(n == MANY && members[MANY - 1].member.rank == MANY - 1, "all of them, in order");
		free(members);
	}
	if (is_int(symm_keyspace_roster(&ks, "boot-of-odd", soon(), &roster, &n), 0, "roster")) {
		ok(n == MANY / 2 && roster[0].rank == 1 && roster[99].rank == 199, "half of them, in order");
		free(roster);
	}
	for (int r = 0; r < MANY; r++) {
		struct symm_member m = member(r, r % 250 + 1, r % 2 ? "odd" : "even");

		left += symm_keyspace_leave(&ks, &m, 1, 0, soon()) == 0;
	}
	is_int(left, MANY, "two hundred leave");
	is_empty("two hundred");
}

int main(void)
{
	struct tap_redis redis;

	suite_start(&redis, TAP_REDIS_UNIX);
	test_names();
	test_join();
	test_unjoin();
	test_decide_join();
	test_agree();
	test_part();
	test_offers();
	test_mismatch();
	test_failures();
	test_missing();
	test_leases();
	test_stale();
	test_race();
	test_many();
	return suite_end(&redis);
}
