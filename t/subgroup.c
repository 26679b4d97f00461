/* Groups by lists of ranks: who becomes which rank, lists that cannot be, lists that differ, and one allocation in a
 * group and in two groups of its ranks. */
#include "cases.h"

#define RANKS 4
#define CHANNEL 5

static struct tap_redis redis;
static int *rally;

static int join(const struct rig *rig, const char *name, const int *ranks, int n, struct symm_group **group)
{
	return symm_group_join_ranks(rig->group, name, ranks, n, 0, group);
}

/* ---- lists ---- */

static const struct list {
	const char *name;
	int n, ranks[RANKS];
} lists[] = {
	{ "reversed", 4, { 3, 2, 1, 0 } }, { "outer", 2, { 3, 0 } }, { "inner", 2, { 1, 2 } },
	{ "three", 3, { 0, 2, 3 } },       { "one", 1, { 2 } },
};

static int index_in(const struct list *list, int rank)
{
	int i = 0;

	while (i < list->n && list->ranks[i] != rank)
		i++;
	return i < list->n ? i : -1;
}

/* Each rank writes its old number into the next one's block. */
static int check_order(const struct list *list, struct symm_group *group, int me)
{
	int next = (me + 1) % list->n, before = (me + list->n - 1) % list->n;
	struct symm_mem *mem;
	void *ptr;

	CHECK(symm_group_rank(group) == me && symm_group_world_size(group) == list->n, "(%s)", list->name);
	CHECK(strcmp(symm_group_name(group), list->name) == 0);
	GOOD(symm_alloc(group, 64, NULL, &ptr));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	CHECK(word_set(mem, next, 0, (uint64_t)list->ranks[me]));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(word_get(mem, me, 0) == (uint64_t)list->ranks[before], "(%s)", list->name);
	GOOD(symm_barrier(mem, 0, 0));
	return 0;
}

static int orders(int rank, void *arg)
{
	struct symm_group *group, *found;
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		int me = index_in(&lists[i], rank);

		if (me < 0)
			continue;
		GOOD(join(rig, lists[i].name, lists[i].ranks, lists[i].n, &group));
		GOOD(symm_group_find(rig->context, lists[i].name, &found));
		CHECK(found == group);
		if (check_order(&lists[i], group, me) != 0)
			return 1;
		BAD(join(rig, lists[i].name, lists[i].ranks, lists[i].n, &group), SYMM_EEXIST, "is in group");
		/* Some stay to the end. */
		if (i % 2 == 0)
			GOOD(symm_group_leave(found));
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- refusals ---- */

static int refusals(int rank, void *arg)
{
	static const struct {
		int n, ranks[3];
		const char *text;
	} cases[] = {
		{ 0, { 0 }, "a list of 0 ranks of group world, which has 2" },
		{ -1, { 0 }, "a list of -1 ranks" },
		{ 3, { 0, 1, 1 }, "a list of 3 ranks of group world, which has 2" },
		{ 2, { 1, 1 }, "ranks[1]: rank 1 stands twice in the list" },
		{ 2, { 0, 2 }, "ranks[1]: rank 2 is not in group world of 2" },
		{ 2, { -1, 0 }, "ranks[0]: rank -1 is not in group world of 2" },
		{ 1, { INT32_MAX }, "ranks[0]: rank 2147483647 is not in group world" },
	};
	const int both[] = { 0, 1 }, other[] = { 1 - rank };
	struct rig *rig = arg;
	struct symm_group *untouched = (struct symm_group *)(void *)rig, *group = untouched;
	char text[96];

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		BAD(join(rig, "sub", cases[i].ranks, cases[i].n, &group), SYMM_EINVAL, cases[i].text);
		CHECK(group == untouched && strncmp(symm_last_error(), "symm_group_join_ranks: ", 23) == 0, "(%s)",
		      symm_last_error());
	}
	snprintf(text, sizeof(text), "rank %d of group world calls, and is not one of ranks %d of group world", rank,
		 1 - rank);
	BAD(join(rig, "sub", other, 1, &group), SYMM_EINVAL, text);
	BAD(join(rig, NULL, both, 2, &group), SYMM_EINVAL, "may not be NULL");
	BAD(join(rig, "sub", NULL, 2, &group), SYMM_EINVAL, "may not be NULL");
	BAD(join(rig, "sub", both, 2, NULL), SYMM_EINVAL, "may not be NULL");
	BAD(join(rig, "a b", both, 2, &group), SYMM_EINVAL, "group");
	BAD(symm_group_join_ranks(rig->group, "sub", both, 2, -1, &group), SYMM_EINVAL, "timeout_ms is -1");
	BAD(symm_group_join_ranks(NULL, "sub", both, 2, 0, &group), SYMM_EINVAL, "is not a symm_group");
	BAD(symm_group_join_ranks((struct symm_group *)(void *)rig->context, "sub", both, 2, 0, &group), SYMM_ESTALE,
	    "symm_group");
	BAD(symm_group_join_ranks(rig->group, "alone", both + rank, 1, 100, NULL), SYMM_EINVAL, "may not be NULL");
	if (rank == 0)
		BAD(symm_group_join_ranks(rig->group, "sub", both, 2, 200, &group), SYMM_ETIMEDOUT, "rank 1");
	CHECK(group == untouched);
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- lists that differ ---- */

struct disagreement {
	const char *what, *mine, *theirs; /* mine: of rank 1, who comes last */
	int n[2], ranks[2][3];            /* of rank 0, who has rank 2 on its side if it names it; of rank 1 */
};

static const struct disagreement disagreements[] = {
	{ "another order", "ranks 1,0 of group world", "ranks 0,1 of group world", { 2, 2 }, { { 0, 1 }, { 1, 0 } } },
	{ "other ranks", "ranks 1,2 of group world", "ranks 0,1 of group world", { 2, 2 }, { { 0, 1 }, { 1, 2 } } },
	{ "one more", "ranks 0,1 of group world", "ranks 0-2 of group world", { 3, 2 }, { { 0, 1, 2 }, { 0, 1 } } },
	{ "three in another order",
	  "ranks 0,2,1 of group world",
	  "ranks 0-2 of group world",
	  { 3, 3 },
	  { { 0, 1, 2 }, { 0, 2, 1 } } },
	{ "no list", "no list of ranks", "ranks 0,1 of group world", { 2, 0 }, { { 0, 1 }, { 0 } } },
	{ "a list where there is none", "ranks 0,1 of group world", "no list of ranks", { 0, 2 }, { { 0 }, { 0, 1 } } },
};

/* Waits until so many are in the forming group. */
static void await_members(const char *name, int n)
{
	char command[128], wanted[16];

	snprintf(command, sizeof(command), "HLEN symm:{test/%s}:members", name);
	snprintf(wanted, sizeof(wanted), ":%d\r\n", n);
	while (strcmp(ask(&redis, command), wanted) != 0)
		nap_ms(1);
}

static int come(const struct rig *rig, const char *name, const struct disagreement *d, int side, int rank,
		struct symm_group **group)
{
	if (d->n[side] == 0)
		return symm_group_join(rig->context, name, rank, 2, 0, group);
	return join(rig, name, d->ranks[side], d->n[side], group);
}

static int disagree(struct rig *rig, const struct disagreement *d, int rank)
{
	struct symm_group *group = NULL;
	const int all[] = { 2, 0, 1 };
	bool with_two = d->n[0] == 3;
	char name[32];
	int rc;

	snprintf(name, sizeof(name), "d%d", (int)(d - disagreements));
	if (rank == 1)
		await_members(name, with_two ? 2 : 1);
	if (rank != 2 || with_two) {
		rc = come(rig, name, d, rank == 1, rank, &group);
		CHECK(rc == SYMM_EMISMATCH && group == NULL, "(%s: %s: %s)", d->what, symm_strerror(rc),
		      symm_last_error());
		CHECK(strstr(symm_last_error(), d->mine) != NULL && strstr(symm_last_error(), d->theirs) != NULL &&
			      strstr(symm_last_error(), "rank 0 (host ") != NULL,
		      "(%s: %s)", d->what, symm_last_error());
	}
	tap_rally(rally, 3);
	/* They agree the next time, under the same name. */
	GOOD(join(rig, name, all, 3, &group));
	CHECK(symm_group_rank(group) == (rank + 1) % 3);
	GOOD(symm_group_leave(group));
	tap_rally(rally, 3);
	return 0;
}

static int disagreeing(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(disagreements) / sizeof(disagreements[0]); i++)
		if (disagree(rig, &disagreements[i], rank) != 0)
			return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

#define MANY 500

/* The parent seems to have many ranks, all alive: only its numbers, and who is gone, are looked at. */
static int pretend(struct symm_group *handle, int world_size)
{
	static struct symm_sync_mirror *real, *large;
	bool many = world_size == 2 * MANY;
	struct group *group;
	int rc;

	group = symm_group_get(handle, &rc);
	if (group == NULL)
		return rc;
	if (many) {
		real = group->mirror;
		large = calloc(1, symm_sync_mirror_bytes(2 * MANY));
	}
	group->world_size = world_size;
	group->mirror = many ? large : real;
	if (!many)
		free(large);
	symm_group_put(group);
	return 0;
}

/* Two long lists that differ in the middle only: the checksums do too. */
static int long_lists(int rank, void *arg)
{
	struct symm_group *group;
	struct rig *rig = arg;
	const char *mine, *end;
	int ranks[MANY], rc;

	GOOD(rig_join(rig, rank));
	GOOD(pretend(rig->group, 2 * MANY));
	for (int i = 0; i < MANY; i++)
		ranks[i] = i < 2 ? i : 2 * i;
	if (rank == 1)
		ranks[MANY / 2]++;
	rc = join(rig, "many", ranks, MANY, &group);
	GOOD(pretend(rig->group, rig->world));
	CHECK(rc == SYMM_EMISMATCH, "(%s: %s)", symm_strerror(rc), symm_last_error());
	mine = strstr(symm_last_error(), "ranks 0,1,4,6,8,");
	end = mine != NULL ? strstr(mine, ",... (500, checksum ") : NULL;
	CHECK(end != NULL && end - mine < 90 && strstr(end + 1, ",... (500, checksum ") != NULL &&
		      strstr(end + 1, " of group world") != NULL,
	      "(%s)", symm_last_error());
	CHECK(strncmp(end + 20, strstr(end + 20, "checksum ") + 9, 16) != 0, "(%s)", symm_last_error());
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- the parent's end ---- */

/* A subgroup lives on when its parent is left, and a failed parent gives no further one. */
static int parents(int rank, void *arg)
{
	const int both[] = { 1, 0 };
	struct symm_group *sub, *more;
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(join(rig, "sub", both, 2, &sub));
	GOOD(symm_group_join_ranks(sub, "subsub", both, 2, 0, &more));
	CHECK(symm_group_rank(more) == rank);
	GOOD(symm_group_leave(rig->group));
	BAD(join(rig, "late", both, 2, &more), SYMM_ESTALE, "this symm_group is no more");
	GOOD(symm_alloc(sub, 64, NULL, &ptr));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	if (rank == 0)
		BAD(symm_wait_signal(mem, 1 - symm_mem_rank(mem), 0, 50), SYMM_ETIMEDOUT, "timed out");
	while (symm_group_status(sub) == 0)
		nap_ms(1);
	BAD(symm_group_join_ranks(sub, "late", both, 2, 0, &more), SYMM_ETIMEDOUT, "group sub has failed");
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- one allocation in a group and in two of its halves ---- */

struct shares {
	struct symm_mem *world, *half;
	int me, peer; /* in the half */
};

/* A signal pending in one is not heard in the other, on the same channel. */
static int signals_apart(const struct rig *rig, const struct shares *s, int rank)
{
	int opposite = (rank + 2) % RANKS;

	if (rank < 2)
		GOOD(symm_put_signal(s->world, opposite, CHANNEL, 0));
	if (s->me == 0)
		GOOD(symm_put_signal(s->half, 1, CHANNEL, 0));
	tap_rally(rally, rig->world);
	if (s->me == 1)
		GOOD(symm_wait_signal(s->half, 0, CHANNEL, 0));
	if (rank >= 2)
		GOOD(symm_wait_signal(s->world, opposite, CHANNEL, 0));
	return 0;
}

/* Halves pass their barriers as often as they like, in between those of all. */
static int barriers_apart(const struct shares *s, int rank, int round)
{
	uint64_t told = (uint64_t)round * 10;

	for (int i = 0; i < (rank % 2 == 0 ? 3 : 5); i++) {
		CHECK(word_set(s->half, s->peer, 8, told + (uint64_t)i));
		GOOD(symm_barrier(s->half, CHANNEL, 0));
		CHECK(word_get(s->half, s->me, 8) == told + (uint64_t)i);
		GOOD(symm_barrier(s->half, CHANNEL, 0));
	}
	CHECK(word_set(s->world, (rank + 1) % RANKS, 9, told + (uint64_t)rank));
	GOOD(symm_barrier(s->world, CHANNEL, 0));
	CHECK(word_get(s->world, rank, 9) == told + (uint64_t)((rank + RANKS - 1) % RANKS));
	GOOD(symm_barrier(s->world, CHANNEL, 0));
	return 0;
}

/* The halves' blocks are those of the world, wherever they are mapped. */
static int same_blocks(const struct shares *s, int rank)
{
	CHECK(word_set(s->half, s->peer, 10, 100 + (uint64_t)rank));
	GOOD(symm_barrier(s->world, 0, 0));
	CHECK(word_get(s->world, rank, 10) == 100 + (uint64_t)((rank + 2) % RANKS));
	CHECK(word_get(s->world, (rank + 1) % RANKS, 10) == 100 + (uint64_t)((rank + 3) % RANKS));
	GOOD(symm_barrier(s->world, 0, 0));
	return 0;
}

static int halves(int rank, void *arg)
{
	static const int ranks[2][2] = { { 2, 0 }, { 1, 3 } };
	struct rig *rig = arg;
	struct symm_group *half;
	struct shares s;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(join(rig, rank % 2 == 0 ? "even" : "odd", ranks[rank % 2], 2, &half));
	s.me = symm_group_rank(half);
	s.peer = 1 - s.me;
	CHECK(ranks[rank % 2][s.me] == rank);
	GOOD(rig_memory(rig, 128, &ptr, &s.world));
	GOOD(symm_rendezvous(ptr, half, 0, &s.half));
	CHECK(s.half != s.world && symm_mem_buffer(s.half, s.me) == ptr && symm_mem_buffer(s.world, rank) == ptr);
	for (int round = 0; round < rounds(10); round++)
		if (signals_apart(rig, &s, rank) != 0 || barriers_apart(&s, rank, round) != 0 ||
		    same_blocks(&s, rank) != 0)
			return 1;
	/* A failure of one half is its own. */
	if (rank == 0)
		BAD(symm_wait_signal(s.half, s.peer, 0, 50), SYMM_ETIMEDOUT, "timed out");
	tap_rally(rally, rig->world);
	if (rank % 2 == 0)
		BAD(symm_barrier(s.half, 0, 0), SYMM_ETIMEDOUT, "group even has failed");
	else
		GOOD(symm_barrier(s.half, 0, 0));
	GOOD(symm_barrier(s.world, 0, 0));
	GOOD(symm_close(rig->context));
	return 0;
}

/* Who died in the parent will not come: nobody waits for it until the deadline. */
static int one_died(int rank, void *arg)
{
	static const int all[] = { 2, 0, 1 };
	struct symm_group *group;
	struct rig *rig = arg;
	double start;

	GOOD(rig_join(rig, rank));
	tap_rally(rally, rig->world);
	if (rank == 2)
		_exit(0);
	start = seconds_now();
	BAD(symm_group_join_ranks(rig->group, "all", all, 3, 20000, &group), SYMM_EPEER, "rank 2 (");
	CHECK(strstr(symm_last_error(), "of group world died before it joined group all") != NULL);
	CHECK(seconds_now() - start < patience(2), "after %.3f s", seconds_now() - start);
	GOOD(symm_close(rig->context));
	return 0;
}

/* It leaves its keys behind. */
static void test_death(void)
{
	struct rig rig = { .url = redis.url, .world = 3 };

	if (!world_fits("one that died", rig.world))
		return;
	tap_ranks("one that died", rig.world, one_died, &rig, 30);
	ask(&redis, "FLUSHALL");
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "the list's order", RANKS, orders },
		{ "lists that cannot be", 2, refusals },
		{ "lists that differ", 3, disagreeing },
		{ "long lists that differ", 2, long_lists },
		{ "a parent that is gone, or has failed", 2, parents },
		{ "one allocation in a group and its halves", RANKS, halves },
	};

	if (!need_device(2))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	test_death();
	TEST_CASES(&redis, rally, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
