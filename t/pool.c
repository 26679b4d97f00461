/* Pools: the same offsets on all ranks, what is refused, persistent pieces, what each mismatch is called, and what
 * it all may cost. */
#include "cases.h"
#include "cuda_help.h"
#include "heap.h"
#include "pool_help.h"

#define OPERATIONS 20000
#define LIVE 500

static struct tap_redis redis;
static int *rally;      /* [2]: two places to meet, shared by the ranks */
static size_t *offsets; /* [OPERATIONS]: what rank 0 was given, shared */

/* ---- the same on all ranks ---- */

/* One operation of a trace that every rank makes alike. */
static int operate(struct symm_pool *pool, void *live[LIVE], uint64_t *seed, size_t *offset)
{
	void **at = &live[next_random(seed) % LIVE];
	size_t bytes = 1 + next_random(seed) % 10000;
	int rc;

	*offset = SIZE_MAX;
	if (*at != NULL) {
		GOOD(symm_pool_free(pool, *at));
		*at = NULL;
		return 0;
	}
	rc = symm_pool_alloc(pool, bytes, at);
	if (rc == 0)
		rc = symm_pool_offset(pool, *at, offset);
	CHECK(rc == SYMM_ENOMEM || (rc == 0 && (uintptr_t)*at % SYMM_POOL_ALIGN == 0), "(%d)", rc);
	return 0;
}

static int same_offsets(int rank, void *arg)
{
	static void *live[LIVE];
	static size_t mine[OPERATIONS];
	struct rig *rig = arg;
	struct symm_pool *pool;
	uint64_t seed = 7;

	GOOD(rig_pool(rig, rank, &pool));
	for (int i = 0; i < OPERATIONS; i++) {
		if (operate(pool, live, &seed, &mine[i]) != 0)
			return 1;
		if (i % (OPERATIONS / rounds(100)) == 0)
			GOOD(symm_pool_check(pool, 0));
	}
	if (rank == 0)
		memcpy(offsets, mine, sizeof(mine));
	tap_rally(rally, rig->world);
	CHECK(memcmp(offsets, mine, sizeof(mine)) == 0);
	for (int i = 0; i < LIVE; i++)
		GOOD(symm_pool_free(pool, live[i]));
	GOOD(symm_pool_check(pool, 0));
	if (is_empty(pool) != 0)
		return 1;
	GOOD(symm_pool_destroy(pool));
	GOOD(symm_close(rig->context));
	return 0;
}

/* No rank may see what another tells at the next check in the place of what it told at this one. */
static int checks_in_a_row(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	void *ptr;

	GOOD(rig_pool(rig, rank, &pool));
	for (int i = 0; i < rounds(2000); i++) {
		GOOD(symm_pool_alloc(pool, 256, &ptr));
		GOOD(symm_pool_check(pool, 0));
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* Each rank writes into a piece of the other's, by address and by put. */
static int write_to_peer(struct symm_pool *pool, int rank, unsigned char *piece, const char *text)
{
	struct symm_mem *mem = symm_pool_mem(pool);
	unsigned char *theirs = symm_pool_peer(pool, piece + 100, 1 - rank);
	char got[32];
	size_t offset;

	GOOD(symm_pool_offset(pool, piece + 200, &offset));
	CHECK(theirs == (unsigned char *)symm_mem_buffer(mem, 1 - rank) + offset - 100);
	CHECK(symm_pool_peer(pool, piece, rank) == piece);
	CHECK(device_write(device_of(mem), theirs, text, 16));
	GOOD(symm_put(mem, 1 - rank, offset, text, 16));
	GOOD(symm_barrier(mem, SYMM_CHANNELS - 1, 0));
	for (int i = 1; i <= 2; i++) {
		CHECK(device_read(device_of(mem), got, piece + (size_t)i * 100, 16));
		CHECK(strncmp(got, text, 10) == 0 && got[10] == '0' + 1 - rank, "(%s)", got);
	}
	GOOD(symm_barrier(mem, SYMM_CHANNELS - 1, 0));
	return 0;
}

static int sharing(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	struct symm_mem *mem, *found;
	char text[16] = "from rank ?";
	void *first, *piece;
	size_t bytes;

	GOOD(rig_pool(rig, rank, &pool));
	mem = symm_pool_mem(pool);
	CHECK(symm_mem_buffer_size(mem) == CAPACITY && pad_is_zero(mem, rank));
	GOOD(symm_pool_alloc(pool, 1000, &first));
	GOOD(symm_pool_alloc(pool, 1000, &piece));
	CHECK((char *)piece == (char *)first + 1024);
	text[10] = (char)('0' + rank);
	if (write_to_peer(pool, rank, piece, text) != 0)
		return 1;
	/* Every piece is in the allocation that had the rendezvous. */
	GOOD(symm_rendezvous(piece, NULL, 0, &found));
	CHECK(found == mem);
	GOOD(symm_mem_release(found));
	GOOD(symm_mem_find((char *)piece + 999, rig->group, &found));
	CHECK(found == mem);
	GOOD(symm_mem_release(found));
	GOOD(symm_alloc_size(piece, &bytes));
	CHECK(bytes == CAPACITY);
	/* The whole segment is the users': the check keeps what it writes elsewhere. */
	CHECK(block_fill(mem, 1 - rank, 0xff, CAPACITY));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_pool_check(pool, 0));
	CHECK(block_holds(mem, rank, 0xff, CAPACITY) && pad_is_zero(mem, rank));
	GOOD(symm_pool_check(pool, 0));
	GOOD(symm_pool_destroy(pool));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- refusals ---- */

static int refused_queries(struct symm_pool *pool, char *base)
{
	size_t offset = 17;

	BAD(symm_pool_offset(pool, base - 1, &offset), SYMM_ENOENT, "is not in this rank's segment");
	BAD(symm_pool_offset(pool, base + CAPACITY, &offset), SYMM_ENOENT, "is not in this rank's segment");
	BAD(symm_pool_offset(pool, base, NULL), SYMM_EINVAL, "offset is NULL");
	CHECK(offset == 17);
	GOOD(symm_pool_offset(pool, base + CAPACITY - 1, &offset));
	CHECK(offset == CAPACITY - 1);
	CHECK(symm_pool_peer(pool, base, 1) == NULL &&
	      strcmp(symm_last_error(), "symm_pool_peer: rank 1 is not in the group of 1") == 0);
	CHECK(symm_pool_peer(pool, base, -1) == NULL && symm_pool_peer(pool, base + CAPACITY, 0) == NULL);
	CHECK(symm_pool_peer(NULL, base, 0) == NULL && symm_pool_mem(NULL) == NULL);
	GOOD(symm_pool_usage(pool, NULL, NULL, NULL));
	BAD(symm_pool_check(pool, -1), SYMM_EINVAL, "symm_pool_check: ");
	BAD(symm_pool_check(NULL, 0), SYMM_EINVAL, "is not a symm_pool");
	BAD(symm_pool_usage((struct symm_pool *)(void *)symm_pool_mem(pool), NULL, NULL, NULL), SYMM_ESTALE,
	    "this symm_pool is no more, or never was one");
	return 0;
}

static int refused_pieces(struct symm_pool *pool, char *base)
{
	void *ptr = base, *one;

	BAD(symm_pool_alloc(pool, 0, &ptr), SYMM_EINVAL, "symm_pool_alloc: 0 bytes were asked for");
	BAD(symm_pool_alloc(pool, CAPACITY + 1, &ptr), SYMM_ENOMEM,
	    "1048577 bytes are asked for, and of 1048576 bytes 1048576 are free, the largest piece 1048576");
	BAD(symm_pool_alloc(pool, SIZE_MAX, &ptr), SYMM_ENOMEM, "bytes are asked for");
	BAD(symm_pool_alloc(pool, 1, NULL), SYMM_EINVAL, "ptr is NULL");
	BAD(symm_pool_alloc_persistent(pool, 0, 1, &ptr), SYMM_EINVAL, "symm_pool_alloc_persistent: 0 bytes");
	CHECK(ptr == base);
	GOOD(symm_pool_alloc(pool, 300, &one));
	BAD(symm_pool_free(pool, base + 256), SYMM_ENOENT, "no allocation begins at offset 256");
	BAD(symm_pool_free(pool, (char *)one + 1), SYMM_ENOENT, "no allocation begins at offset 1");
	BAD(symm_pool_free(pool, base + CAPACITY), SYMM_ENOENT, "is not in this rank's segment");
	BAD(symm_free(one), SYMM_EINVAL, "is a symm_pool's: symm_pool_free gives it back");
	BAD(symm_free((char *)one + 8), SYMM_EINVAL, "symm_pool_free");
	BAD(symm_mem_release(symm_pool_mem(pool)), SYMM_EINVAL, "no reference to release");
	GOOD(symm_pool_free(pool, one));
	BAD(symm_pool_free(pool, one), SYMM_ENOENT, "no allocation begins at offset 0");
	GOOD(symm_pool_free(pool, NULL));
	BAD(symm_pool_free(NULL, one), SYMM_EINVAL, "is not a symm_pool");
	return is_empty(pool);
}

static int persistent_pieces(struct symm_pool *pool)
{
	void *first, *again, *other = NULL;
	size_t used;

	GOOD(symm_pool_alloc_persistent(pool, 5000, 0, &first));
	BAD(symm_pool_alloc_persistent(pool, 5000, 0, &again), SYMM_EBUSY,
	    "the allocation with alloc_id 0 is still active, 5000 bytes at offset 0: free it first");
	GOOD(symm_pool_free(pool, first));
	BAD(symm_pool_free(pool, first), SYMM_ENOENT, "the persistent allocation at offset 0 has been freed");
	BAD(symm_pool_alloc_persistent(pool, 5001, 0, &other), SYMM_EMISMATCH,
	    "alloc_id 0 stands for 5000 bytes, and 5001 are asked for");
	GOOD(symm_pool_usage(pool, NULL, &used, NULL));
	CHECK(used == 5120, "(%zu)", used);
	GOOD(symm_pool_alloc(pool, 5000, &other));
	GOOD(symm_pool_alloc_persistent(pool, 5000, UINT64_MAX, &again));
	CHECK(other != first && again != first && again != other);
	GOOD(symm_pool_alloc_persistent(pool, 5000, 0, &again));
	CHECK(again == first);
	GOOD(symm_pool_check(pool, 0));
	return 0;
}

static int pieces(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	char *base;

	GOOD(rig_pool(rig, rank, &pool));
	base = symm_mem_buffer(symm_pool_mem(pool), 0);
	if (refused_pieces(pool, base) != 0 || refused_queries(pool, base) != 0 || persistent_pieces(pool) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- creating ---- */

static int one_has_no_pool(struct rig *rig, int rank)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct symm_pool *pool = NULL;

	BAD(symm_pool_create(rig->group, rank == 1 ? 0 : CAPACITY, NULL, 0, &pool), SYMM_EINVAL,
	    "0 bytes were asked for");
	CHECK(strstr(symm_last_error(), "symm_pool_create: rank 1 (") != NULL, "(%s)", symm_last_error());
	BAD(symm_pool_create(rig->group, rank == 1 ? SIZE_MAX : 1, NULL, 0, &pool), SYMM_EINVAL, "address space");
	BAD(symm_pool_create(rig->group, rank == 0 ? (size_t)1 << 45 : 1, NULL, 0, &pool), SYMM_ENOMEM, "rank 0 (");
	options.persistent = rank;
	BAD(symm_pool_create(rig->group, CAPACITY, &options, 0, &pool), SYMM_EINVAL, "options.persistent is set");
	options.persistent = 0;
	options.size = rank;
	BAD(symm_pool_create(rig->group, CAPACITY, &options, 0, &pool), SYMM_EINVAL, "options.size is ");
	BAD(symm_pool_create(rig->group, CAPACITY, NULL, -rank, &pool), SYMM_EINVAL, "timeout");
	CHECK(pool == NULL);
	return 0;
}

/* Once set, the next pool finds no memory for its accounts, when it has its segment. */
static bool no_accounts;
int __real_symm_heap_create(size_t bytes, struct heap **heap);
int __wrap_symm_heap_create(size_t bytes, struct heap **heap);

int __wrap_symm_heap_create(size_t bytes, struct heap **heap)
{
	if (no_accounts)
		return symm_error(SYMM_ENOMEM, "no memory to keep account of %zu bytes", bytes);
	return __real_symm_heap_create(bytes, heap);
}

static int creating(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool = NULL, *second;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	BAD(symm_pool_create(rig->group, 1, NULL, 0, NULL), SYMM_EINVAL, "symm_pool_create: pool is NULL");
	BAD(symm_pool_create(NULL, 1, NULL, 0, &pool), SYMM_EINVAL, "is not a symm_group");
	if (one_has_no_pool(rig, rank) != 0)
		return 1;
	no_accounts = rank == 1;
	BAD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool), SYMM_ENOMEM,
	    "no memory to keep account of 1048576");
	no_accounts = false;
	BAD(symm_pool_create(rig->group, CAPACITY + (size_t)rank * 256, NULL, 0, &pool), SYMM_EMISMATCH,
	    "size=1048576 ");
	GOOD(symm_alloc(rig->group, CAPACITY, NULL, &ptr));
	BAD(rank == 0 ? symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool) : symm_rendezvous(ptr, NULL, 0, &mem),
	    SYMM_EMISMATCH, "alloc_id=pool");
	GOOD(symm_free(ptr));
	CHECK(pool == NULL);
	/* Sizes are rounded up; two pools are two. */
	GOOD(symm_pool_create(rig->group, CAPACITY - (size_t)rank, NULL, 0, &pool));
	GOOD(symm_pool_create(rig->group, 1, NULL, 0, &second));
	GOOD(symm_pool_alloc(second, 256, &ptr));
	BAD(symm_pool_free(pool, ptr), SYMM_ENOENT, "is not in this rank's segment");
	GOOD(symm_pool_check(pool, 0));
	GOOD(symm_pool_check(second, 0));
	GOOD(symm_pool_destroy(second));
	GOOD(symm_pool_check(pool, 0));
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- mismatches ---- */

/* What the odd rank and the others do before a check: (a)lloc, (p)ersistent alloc with id 7, (f)ree of the oldest; a
 * number follows an a or p: so many hundred bytes. */
static int play(struct symm_pool *pool, const char *moves)
{
	void *ptr[16];
	int n = 0, freed = 0;

	for (; *moves != '\0'; moves++) {
		size_t bytes = 100 * (size_t)(moves[1] - '0');

		if (*moves == 'f') {
			GOOD(symm_pool_free(pool, ptr[freed++]));
			continue;
		}
		if (*moves++ == 'a')
			GOOD(symm_pool_alloc(pool, bytes, &ptr[n++]));
		else
			GOOD(symm_pool_alloc_persistent(pool, bytes, 7, &ptr[n++]));
	}
	return 0;
}

struct mismatch {
	const char *odd, *others;
	const char *odd_hears, *others_hear;
};
static const struct mismatch mismatches[] = {
	/* Also if both get the same piece of memory. */
	{ "a1a1", "a1a2", "its operation 2 is alloc of 200 bytes, ours alloc of 100 bytes",
	  "its operation 2 is alloc of 100 bytes, ours alloc of 200 bytes" },
	{ "a1a2", "a1a3", "its operation 2 is alloc of 300 bytes, ours alloc of 200 bytes",
	  "its operation 2 is alloc of 200 bytes, ours alloc of 300 bytes" },
	{ "a1f", "a1a1", "its operation 2 is alloc of 100 bytes, ours free of 100 bytes at offset 0",
	  "its operation 2 is free of 100 bytes at offset 0, ours alloc of 100 bytes" },
	{ "a1", "p1", "its operation 1 is alloc of 100 bytes with alloc_id 7, ours alloc of 100 bytes",
	  "its operation 1 is alloc of 100 bytes, ours alloc of 100 bytes with alloc_id 7" },
	{ "p1f", "p1", "our operation 2 is free of 100 bytes at offset 0 with alloc_id 7, which rank 0 (",
	  "its operation 2 is free of 100 bytes at offset 0 with alloc_id 7, which we have not done" },
	{ "", "a5", "its operation 1 is alloc of 500 bytes, which we have not done",
	  "our operation 1 is alloc of 500" },
};

static int mismatch(struct rig *rig, int rank, const struct mismatch *m, bool is_odd, int odd)
{
	struct symm_pool *pool;
	char name[32];

	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool));
	if (play(pool, "a4fa9") != 0)
		return 1;
	GOOD(symm_pool_check(pool, 0));
	GOOD(symm_pool_destroy(pool));
	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool));
	if (play(pool, is_odd ? m->odd : m->others) != 0)
		return 1;
	for (int again = 0; again < 2; again++) {
		snprintf(name, sizeof(name), "rank %d (", is_odd ? odd == 0 : odd);
		BAD(symm_pool_check(pool, 0), SYMM_EMISMATCH, is_odd ? m->odd_hears : m->others_hear);
		CHECK(strncmp(symm_last_error(), "symm_pool_check: ", 17) == 0 &&
			      strstr(symm_last_error(), name) != NULL,
		      "rank %d: %s", rank, symm_last_error());
	}
	GOOD(symm_group_status(rig->group));
	GOOD(symm_pool_destroy(pool));
	return 0;
}

static int all_mismatches(int rank, void *arg)
{
	const int odd = 2;
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(mismatches) / sizeof(mismatches[0]); i++)
		if (mismatch(rig, rank, &mismatches[i], rank == odd, odd) != 0)
			return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- what it costs ---- */

#define BATCH 100

static double lesser(double a, double b)
{
	return a < b ? a : b;
}

/* Pieces of many sizes, with holes between them. */
static int fragment(struct symm_pool *pool)
{
	void *ptr[LIVE];
	uint64_t seed = 3;

	for (int i = 0; i < LIVE; i++)
		GOOD(symm_pool_alloc(pool, 1 + next_random(&seed) % 2000, &ptr[i]));
	for (int i = 0; i < LIVE; i += 2)
		GOOD(symm_pool_free(pool, ptr[i]));
	return 0;
}

/* us[0]: of an alloc, us[1]: of a free, if one of this batch is the fastest yet. */
static int time_batch(struct symm_pool *pool, double us[2])
{
	void *ptr[BATCH];
	double start = seconds_now(), middle, end;

	for (int i = 0; i < BATCH; i++)
		GOOD(symm_pool_alloc(pool, 1 + (size_t)i * 20, &ptr[i]));
	middle = seconds_now();
	for (int i = 0; i < BATCH; i++)
		GOOD(symm_pool_free(pool, ptr[i]));
	end = seconds_now();
	us[0] = lesser(us[0], (middle - start) * 1e6 / BATCH);
	us[1] = lesser(us[1], (end - middle) * 1e6 / BATCH);
	return 0;
}

/* What else runs on the machine makes some slow, but not all. */
static int fast_pieces(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	double us[2] = { 1e9, 1e9 };

	GOOD(rig_pool(rig, rank, &pool));
	if (fragment(pool) != 0)
		return 1;
	for (int i = 0; i < 50; i++)
		if (time_batch(pool, us) != 0)
			return 1;
	CHECK(us[0] < patience(1), "alloc takes %.2f us", us[0]);
	CHECK(us[1] < patience(1), "free takes %.2f us", us[1]);
	GOOD(symm_close(rig->context));
	return 0;
}

/* Each by itself: of four ranks on two busy cores hardly any two in a row find all others awake. */
static int fast_checks(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	double us = 1e9;

	GOOD(rig_pool(rig, rank, &pool));
	for (int i = 0; i < 200; i++) {
		double start = seconds_now();

		GOOD(symm_pool_check(pool, 0));
		us = lesser(us, (seconds_now() - start) * 1e6);
	}
	CHECK(us < patience(100), "a check takes %.1f us", us);
	GOOD(symm_close(rig->context));
	return 0;
}

static int no_driver(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	void *ptr, *kept;
	int before;

	GOOD(rig_pool(rig, rank, &pool));
	before = fake_calls(NULL);
	CHECK(before > 0);
	for (size_t i = 1; i <= 10; i++) {
		GOOD(symm_pool_alloc(pool, 1000 * i, &ptr));
		GOOD(symm_pool_alloc_persistent(pool, 1000, 7, &kept));
		GOOD(symm_pool_free(pool, kept));
		GOOD(symm_pool_free(pool, ptr));
	}
	CHECK(fake_calls(NULL) == before, "%d calls of the driver", fake_calls(NULL) - before);
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "the same offsets on all ranks", 2, same_offsets },
		{ "checks in a row", 2, checks_in_a_row },
		{ "pieces are shared", 2, sharing },
		{ "refusals, persistent pieces", 1, pieces },
		{ "creating", 2, creating },
		{ "each mismatch is named", 4, all_mismatches },
	};
	static const struct test_case times[] = {
		{ "alloc and free take less than 1 us", 1, fast_pieces },
		{ "a check takes less than 100 us", 4, fast_checks },
	};
	static const struct test_case calls[] = {
		{ "alloc and free call no driver", 1, no_driver },
	};

	if (!need_device(1))
		return 0;
	rally = tap_shared(sizeof(*rally));
	offsets = tap_shared(OPERATIONS * sizeof(*offsets));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, rally, tests);
	if (on_host())
		TEST_CASES(&redis, rally, times);
	else
		tap_skip(3, "times: they are the host device's");
	if (fake_only("calls of the driver", 2))
		TEST_CASES(&redis, rally, calls);
	tap_redis_stop(&redis);
	return tap_done();
}
