/* The rendezvous: memory seen by all, look-ups, disagreement, absence, groups that share an allocation, and who may
 * be a rank. */
#include "ask.h"
#include "rig.h"

#include <pthread.h>

#define MAX_WORLD 33
#define SLICE 1000
#define TEXT 640

static struct tap_redis redis;

/* What the ranks of a test share. */
static struct shared {
	int rally;
	char text[MAX_WORLD][TEXT];
} * shared;

static void meet(const struct rig *rig)
{
	tap_rally(&shared->rally, rig->world);
}

/* A failure is the same on all ranks: code, and text but for the name of the call. */
static int same_failure(const struct rig *rig, int rank, int rc, int code)
{
	snprintf(shared->text[rank], TEXT, "%d %s", rc, symm_last_error());
	CHECK(rc == code, "(%s: %s)", symm_strerror(rc), shared->text[rank]);
	meet(rig);
	for (int other = 0; other < rig->world; other++)
		CHECK(strcmp(shared->text[rank], shared->text[other]) == 0, "\n#   %s\n#   %s", shared->text[rank],
		      shared->text[other]);
	meet(rig);
	return 0;
}

static int holds(int rank, const char *part)
{
	CHECK(strstr(shared->text[rank], part) != NULL, "(\"%s\" is not in: %s)", part, shared->text[rank]);
	return 0;
}

#define SAME(rc, code)                                                                                                 \
	do {                                                                                                           \
		if (same_failure(rig, rank, rc, code) != 0)                                                            \
			return 1;                                                                                      \
	} while (0)
#define HOLDS(part)                                                                                                    \
	do {                                                                                                           \
		if (holds(rank, part) != 0)                                                                            \
			return 1;                                                                                      \
	} while (0)

/* ---- memory seen by all ---- */

static unsigned char pattern(int from, int to, size_t i)
{
	return (unsigned char)(from * 37 + to * 101 + (int)(i * 7) + 1);
}

/* Every rank fills its slice of every rank's block, and then finds all slices of its own block filled. */
static int fill_and_verify(struct symm_mem *mem, int channel)
{
	int me = symm_mem_rank(mem), world = symm_mem_world_size(mem);
	unsigned char slice[SLICE];

	for (int to = 0; to < world; to++) {
		for (size_t i = 0; i < SLICE; i++)
			slice[i] = pattern(me, to, i);
		CHECK(block_write(mem, to, (size_t)me * SLICE, slice, SLICE));
	}
	GOOD(symm_barrier(mem, channel, 0));
	for (int from = 0; from < world; from++) {
		CHECK(block_read(mem, me, (size_t)from * SLICE, slice, SLICE));
		for (size_t i = 0; i < SLICE; i++)
			CHECK(slice[i] == pattern(from, me, i), "(rank %d's byte %zu)", from, i);
	}
	GOOD(symm_barrier(mem, channel, 0));
	return 0;
}

/* An entry of a table that the device's kernels read. */
static const void *device_entry(struct symm_mem *mem, void *const *table, int rank)
{
	void *entry = NULL;

	return device_read(device_of(mem), &entry, table + rank, sizeof(entry)) ? entry : NULL;
}

static int check_accessors(struct symm_mem *mem, int rank, int world)
{
	CHECK(symm_mem_rank(mem) == rank && symm_mem_world_size(mem) == world);
	CHECK(symm_mem_buffer_size(mem) == (size_t)world * SLICE && symm_mem_signal_pad_size(mem) > 0);
	CHECK(symm_mem_buffers(mem) != NULL && symm_mem_signal_pads(mem) != NULL);
	for (int peer = 0; peer < world; peer++) {
		const char *pad = symm_mem_signal_pad(mem, peer);

		CHECK(symm_mem_buffer(mem, peer) == symm_mem_buffers(mem)[peer]);
		CHECK(symm_mem_buffer(mem, peer) == device_entry(mem, symm_mem_buffers_dev(mem), peer));
		CHECK(pad == symm_mem_signal_pads(mem)[peer]);
		CHECK(pad == device_entry(mem, symm_mem_signal_pads_dev(mem), peer));
		CHECK(pad_is_zero(mem, peer));
	}
	CHECK(symm_mem_buffer(mem, -1) == NULL && strstr(symm_last_error(), "rank -1 is not in the group") != NULL);
	CHECK(symm_mem_signal_pad(mem, world) == NULL && strstr(symm_last_error(), "is not in the group") != NULL);
	return 0;
}

static int everyone(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, (size_t)rig->world * SLICE, &ptr, &mem));
	CHECK(symm_mem_buffer(mem, rank) == ptr);
	if (check_accessors(mem, rank, rig->world) != 0 || fill_and_verify(mem, 0) != 0 ||
	    check_accessors(mem, rank, rig->world) != 0)
		return 1;
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- look-ups ---- */

struct looker {
	void *ptr;
	struct symm_mem *mem;
	int code;
	pthread_t thread;
};

static void *looker_run(void *arg)
{
	struct looker *looker = arg;

	looker->code = symm_rendezvous(looker->ptr, NULL, 0, &looker->mem);
	return NULL;
}

/* Threads rendezvous pointers into one allocation at once: all get one handle. */
static int rendezvous_at_once(char *ptr, size_t bytes, struct symm_mem **mem)
{
	struct looker looker[4];
	const size_t n = sizeof(looker) / sizeof(looker[0]);

	for (size_t i = 0; i < n; i++) {
		looker[i] = (struct looker){ .ptr = ptr + i * (bytes - 1) / (n - 1) };
		CHECK(pthread_create(&looker[i].thread, NULL, looker_run, &looker[i]) == 0);
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(looker[i].thread, NULL);
	for (size_t i = 0; i < n; i++)
		CHECK(looker[i].code == 0 && looker[i].mem == looker[0].mem, "(thread %zu: %d)", i, looker[i].code);
	for (size_t i = 1; i < n; i++)
		GOOD(symm_mem_release(looker[i].mem));
	*mem = looker[0].mem;
	return 0;
}

static int look_ups(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem, *found = NULL;
	void *got;
	char *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 3 * SLICE, NULL, &got));
	ptr = got;
	CHECK(symm_rendezvous_completed(ptr, NULL) == 0 && symm_rendezvous_completed(ptr + 7, rig->group) == 0);
	BAD(symm_mem_find(ptr, NULL, &found), SYMM_ENOENT, "no rendezvous");
	BAD(symm_mem_find(ptr, rig->group, &found), SYMM_ENOENT, "with group world has been done");
	BAD(symm_rendezvous(ptr, NULL, 0, NULL), SYMM_EINVAL, "mem is NULL");
	CHECK(found == NULL);
	GOOD(symm_rendezvous(ptr + 1234, NULL, 0, &mem));
	CHECK(symm_rendezvous_completed(ptr, NULL) == 1 && symm_rendezvous_completed(ptr + 2999, rig->group) == 1);
	CHECK(symm_rendezvous_completed(ptr + 3000, rig->group) == SYMM_ENOENT);
	GOOD(symm_mem_find(ptr + 2999, NULL, &found));
	CHECK(found == mem && symm_mem_buffer(mem, rank) == ptr);
	if (rendezvous_at_once(ptr, 3 * SLICE, &found) != 0)
		return 1;
	CHECK(found == mem);
	BAD(symm_mem_find(&found, rig->group, &found), SYMM_ENOENT, "not inside");
	BAD(symm_mem_find(NULL, NULL, &found), SYMM_ENOENT, "not inside");
	GOOD(symm_close(rig->context));
	return 0;
}

/* The first rendezvous of an allocation, by several threads of each rank. */
static int first_at_once(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	for (int round = 0; round < rounds(20); round++) {
		GOOD(symm_alloc(rig->group, (size_t)rig->world * SLICE, NULL, &ptr));
		if (rendezvous_at_once(ptr, (size_t)rig->world * SLICE, &mem) != 0 || fill_and_verify(mem, 1) != 0)
			return 1;
		GOOD(symm_mem_release(mem));
		BAD(symm_mem_release(mem), SYMM_EINVAL, "no reference");
		GOOD(symm_free(ptr));
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- disagreement ---- */

/* Both figures, both ranks; afterwards a rendezvous that agrees works. */
static int other_size(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem = NULL;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, rank == 1 ? 2000 : 1000, NULL, &ptr));
	SAME(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EMISMATCH);
	CHECK(mem == NULL && symm_rendezvous_completed(ptr, NULL) == 0);
	HOLDS("rank 1 (host ");
	HOLDS("\"size=2000 ");
	HOLDS("\"size=1000 ");
	GOOD(symm_group_status(rig->group));
	GOOD(symm_free(ptr));
	GOOD(rig_memory(rig, (size_t)rig->world * SLICE, &ptr, &mem));
	if (fill_and_verify(mem, 0) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

static int other_id(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr, *plain;

	GOOD(rig_join(rig, rank));
	options.persistent = 1;
	options.alloc_id = rank == 0 ? 70 : 71;
	GOOD(symm_alloc(rig->group, 64, &options, &ptr));
	SAME(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EMISMATCH);
	HOLDS("rank 0 (host ");
	HOLDS("alloc_id=70 ");
	HOLDS("alloc_id=71 ");
	GOOD(symm_alloc(rig->group, 64, NULL, &plain));
	SAME(symm_rendezvous(rank == 0 ? ptr : plain, NULL, 0, &mem), SYMM_EMISMATCH);
	HOLDS("alloc_id=none ");
	GOOD(symm_close(rig->context));
	return 0;
}

/* Two allocations, taken in the other order by rank 1: both rendezvous say so, on both ranks. */
static int other_order(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr[2];

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 100, NULL, &ptr[0]));
	GOOD(symm_alloc(rig->group, 200, NULL, &ptr[1]));
	for (int i = 0; i < 2; i++) {
		SAME(symm_rendezvous(ptr[rank == 0 ? i : 1 - i], NULL, 0, &mem), SYMM_EMISMATCH);
		HOLDS("rank 0 (host ");
		HOLDS("rank 1 (host ");
		HOLDS("\"size=100 ");
		HOLDS("\"size=200 ");
	}
	for (int i = 0; i < 2; i++)
		GOOD(symm_rendezvous(ptr[i], NULL, 0, &mem));
	GOOD(symm_close(rig->context));
	return 0;
}

/* What keeps one rank from taking part is told by all, and names it. */
static int bad_argument(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	char local;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 64, NULL, &ptr));
	SAME(symm_rendezvous(rank == 1 ? &local : ptr, rig->group, 0, &mem), SYMM_ENOENT);
	HOLDS("rank 1 (");
	HOLDS("is not inside an allocation");
	SAME(symm_rendezvous(ptr, rig->group, rank == 2 ? -1 : 0, &mem), SYMM_EINVAL);
	HOLDS("rank 2 (");
	HOLDS("timeout_ms is -1");
	BAD(symm_rendezvous(&local, NULL, 0, &mem), SYMM_ENOENT, "not inside an allocation");
	GOOD(symm_rendezvous(ptr, rig->group, 0, &mem));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- absence ---- */

static int late(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	if (rank == 1)
		nap_ms(2000);
	GOOD(rig_memory(rig, (size_t)rig->world * SLICE, &ptr, &mem));
	if (fill_and_verify(mem, 0) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* The absent rank comes after all and gets the verdict that the others got; then all try again. */
static int absent(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem = NULL;
	double start;
	void *ptr;
	int rc;

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, (size_t)rig->world * SLICE, NULL, &ptr));
	meet(rig);
	if (rank == 2)
		meet(rig);
	start = seconds_now();
	rc = symm_rendezvous(ptr, NULL, 500, &mem);
	CHECK(seconds_now() - start < patience(0.9), "(%f s)", seconds_now() - start);
	if (rank != 2)
		meet(rig);
	CHECK(rc == SYMM_ETIMEDOUT && mem == NULL);
	SAME(rc, SYMM_ETIMEDOUT);
	HOLDS("missing rank 2 (");
	HOLDS("in no call of symm");
	GOOD(symm_group_status(rig->group));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	if (fill_and_verify(mem, 0) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* A rank that leaves while others hold its memory: what it shared stays readable, and whoever waits for it is told. */
static int leaver(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	unsigned char byte;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, (size_t)rig->world * SLICE, &ptr, &mem));
	if (fill_and_verify(mem, 0) != 0)
		return 1;
	if (rank == 0) {
		GOOD(symm_group_leave(rig->group));
		BAD(symm_mem_release(mem), SYMM_ESTALE, "");
		BAD(symm_free(ptr), SYMM_ENOENT, "");
	}
	meet(rig);
	nap_ms(50); /* what rank 0's leaving sends has come */
	if (rank != 0) {
		CHECK(block_read(mem, 0, (size_t)rank * SLICE, &byte, 1) && byte == pattern(rank, 0, 0));
		for (int i = 0; i < 2; i++) {
			BAD(symm_barrier(mem, 0, 0), SYMM_ESTALE, "rank 0 (");
			BAD(symm_put_signal(mem, 0, 1, 0), SYMM_ESTALE, "has freed the allocation");
			BAD(symm_wait_signal(mem, 0, 1, 0), SYMM_ESTALE, "has freed the allocation");
		}
		GOOD(symm_put_signal(mem, 3 - rank, 1, 0));
		GOOD(symm_wait_signal(mem, 3 - rank, 1, 0));
		GOOD(symm_group_status(rig->group));
		CHECK(block_read(mem, 0, (size_t)rank * SLICE, &byte, 1) && byte == pattern(rank, 0, 0));
	}
	meet(rig);
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- several groups ---- */

/* Three groups of the same ranks, in the second of which ranks are reversed, over one allocation; signals pending in
 * each. */
static int three_groups(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_group *group[3];
	struct symm_mem *mem[3];
	void *ptr;

	GOOD(rig_join(rig, rank));
	group[0] = rig->group;
	GOOD(symm_group_join(rig->context, "reversed", 1 - rank, 2, 0, &group[1]));
	GOOD(symm_group_join(rig->context, "third", rank, 2, 0, &group[2]));
	GOOD(symm_alloc(group[0], 2 * SLICE, NULL, &ptr));
	for (int i = 0; i < 3; i++) {
		CHECK(symm_rendezvous_completed(ptr, group[i]) == 0);
		GOOD(symm_rendezvous(ptr, group[i], 0, &mem[i]));
		CHECK(symm_mem_buffer(mem[i], symm_mem_rank(mem[i])) == ptr);
	}
	CHECK(mem[0] != mem[1] && mem[1] != mem[2]);
	/* Rank 0 puts in the groups 0 and 2, rank 1 in group 1; only then all that is pending is consumed. */
	for (int i = 0; i < 3; i++)
		if (i % 2 == rank)
			GOOD(symm_put_signal(mem[i], 1 - symm_mem_rank(mem[i]), 0, 0));
	meet(rig);
	for (int i = 2; i >= 0; i--)
		if (i % 2 != rank)
			GOOD(symm_wait_signal(mem[i], 1 - symm_mem_rank(mem[i]), 0, 0));
	meet(rig);
	for (int i = 0; i < 3; i++)
		if (fill_and_verify(mem[i], 0) != 0)
			return 1;
	if (rank == 1)
		BAD(symm_wait_signal(mem[1], 1, 0, 50), SYMM_ETIMEDOUT,
		    "wait_signal on channel 0 timed out waiting for rank 1");
	meet(rig);
	GOOD(symm_group_status(group[0]));
	GOOD(symm_barrier(mem[0], 0, 0));
	GOOD(symm_barrier(mem[2], 0, 0));
	GOOD(symm_close(rig->context));
	return 0;
}

/* A group that an allocation was not made for may go; the pointer's own group, and the others, stay. */
static int borrowed_group(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_group *other;
	struct symm_mem *own, *borrowed;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(symm_group_join(rig->context, "other", rank, 2, 0, &other));
	for (int freed = 0; freed < 2; freed++) {
		GOOD(symm_alloc(rig->group, 2 * SLICE, NULL, &ptr));
		GOOD(symm_rendezvous(ptr, other, 0, &borrowed));
		if (freed)
			GOOD(symm_free(ptr));
		if (fill_and_verify(borrowed, 0) != 0)
			return 1;
		GOOD(symm_group_leave(other));
		BAD(symm_barrier(borrowed, 0, 0), SYMM_ESTALE, "no more");
		if (!freed) {
			GOOD(symm_rendezvous(ptr, NULL, 0, &own));
			if (fill_and_verify(own, 0) != 0)
				return 1;
			GOOD(symm_group_join(rig->context, "other", rank, 2, 0, &other));
		}
	}
	BAD(symm_free(ptr), SYMM_ENOENT, "is not the address of an allocation");
	GOOD(symm_close(rig->context));
	return 0;
}

/* {0,1}, {1,2} and {0,2}: each rank is in two groups, and enters them in the order of their names. */
static int subgroups(int rank, void *arg)
{
	static const int members[3][2] = { { 0, 1 }, { 0, 2 }, { 1, 2 } };
	static const char *const names[] = { "01", "02", "12" };
	struct symm_mem *mem[3] = { NULL };
	struct rig *rig = arg;
	void *ptr;

	GOOD(rig_open(rig, rank));
	for (int i = 0; i < 3; i++) {
		struct symm_group *group;
		int mine = members[i][0] == rank ? 0 : members[i][1] == rank ? 1 : -1;

		if (mine < 0)
			continue;
		GOOD(symm_group_join(rig->context, names[i], mine, 2, 0, &group));
		GOOD(symm_alloc(group, 2 * SLICE, NULL, &ptr));
		GOOD(symm_rendezvous(ptr, NULL, 0, &mem[i]));
	}
	for (int round = 0; round < rounds(50); round++)
		for (int i = 0; i < 3; i++)
			if (mem[i] != NULL && fill_and_verify(mem[i], 0) != 0)
				return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- who may be a rank ---- */

static int two_hosts(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	if (rank == 1)
		setenv("SYMM_BOOT_ID", "another-host", 1);
	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 64, NULL, &ptr));
	SAME(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EUNREACH);
	HOLDS("rank 0");
	HOLDS("rank 1");
	HOLDS("cannot map the memory of rank");
	GOOD(symm_group_status(rig->group));
	GOOD(symm_close(rig->context));
	return 0;
}

struct member {
	struct rig rig;
	int rank, result;
	pthread_t thread;
};

static void *member_run(void *arg)
{
	struct member *member = arg;

	member->result = everyone(member->rank, &member->rig);
	return NULL;
}

/* Ranks first .. first + n - 1 are contexts of this process, each with a thread. */
static int contexts(const struct rig *rig, int first, int n)
{
	struct member member[16];

	for (int i = 0; i < n; i++) {
		member[i] = (struct member){ .rig = *rig, .rank = first + i };
		CHECK(pthread_create(&member[i].thread, NULL, member_run, &member[i]) == 0);
	}
	for (int i = 0; i < n; i++)
		pthread_join(member[i].thread, NULL);
	for (int i = 0; i < n; i++)
		CHECK(member[i].result == 0);
	return 0;
}

static int one_process(int rank, void *arg)
{
	(void)rank;
	many_queues();
	return contexts(arg, 0, ((struct rig *)arg)->world);
}

static int two_processes(int rank, void *arg)
{
	return contexts(arg, 2 * rank, 2);
}

int main(void)
{
	static const struct {
		const char *name;
		int processes, world;
		int (*run)(int rank, void *arg);
	} tests[] = {
		{ "2 ranks", 2, 2, everyone },
		{ "3 ranks", 3, 3, everyone },
		{ "4 ranks", 4, 4, everyone },
		{ "8 ranks", 8, 8, everyone },
		{ "33 ranks", MAX_WORLD, MAX_WORLD, everyone },
		{ "alone", 1, 1, everyone },
		{ "look-ups", 2, 2, look_ups },
		{ "the first time by four threads at once", 2, 2, first_at_once },
		{ "another size", 3, 3, other_size },
		{ "another alloc_id", 2, 2, other_id },
		{ "another order", 2, 2, other_order },
		{ "a bad argument of one rank", 3, 3, bad_argument },
		{ "a late rank", 3, 3, late },
		{ "an absent rank", 3, 3, absent },
		{ "a rank that leaves", 3, 3, leaver },
		{ "three groups over one allocation", 2, 2, three_groups },
		{ "a group that an allocation was not made for", 2, 2, borrowed_group },
		{ "overlapping subgroups", 3, 3, subgroups },
		{ "two hosts", 2, 2, two_hosts },
		{ "2 contexts of a process", 1, 2, one_process },
		{ "16 contexts of a process", 1, 16, one_process },
		{ "2 contexts of 2 processes", 2, 4, two_processes },
	};

	if (!need_device(1))
		return 0;
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct rig rig = { .url = redis.url, .world = tests[i].world };

		if (!world_fits(tests[i].name, tests[i].world))
			continue;
		shared->rally = 0;
		tap_ranks(tests[i].name, tests[i].processes, tests[i].run, &rig, 30);
	}
	has_str(ask(&redis, "DBSIZE"), ":0", "nothing is left in Redis");
	tap_redis_stop(&redis);
	return tap_done();
}
