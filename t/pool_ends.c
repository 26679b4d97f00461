/* Pools used by threads, and every way in which one ends. */
#include "cases.h"
#include "doing.h"
#include "pool_help.h"

#include <pthread.h>
#include <signal.h>

static struct tap_redis redis;
static int *rally; /* [2]: two places to meet, shared by the ranks */

/* ---- threads ---- */

#define THREADS 4

struct user {
	pthread_t thread;
	struct symm_pool *pool;
	char *base, *owned; /* [CAPACITY / SYMM_POOL_ALIGN] by whom */
	int number, wrong, code;
	struct symm_group *group;
};

static bool mark(struct user *user, char *ptr, size_t bytes, char from, char to)
{
	size_t first = (size_t)(ptr - user->base) / SYMM_POOL_ALIGN;
	bool good = true;

	for (size_t i = 0; i < (bytes + SYMM_POOL_ALIGN - 1) / SYMM_POOL_ALIGN; i++)
		good = __atomic_exchange_n(&user->owned[first + i], to, __ATOMIC_RELAXED) == from && good;
	return good;
}

static void *use(void *arg)
{
	struct user *user = arg;
	uint64_t seed = (uint64_t)user->number;
	char me = (char)(1 + user->number);
	size_t bytes[50];
	void *ptr[50] = { NULL };

	for (int i = 0; i < 10000; i++) {
		int at = (int)(next_random(&seed) % 50);

		if (ptr[at] != NULL) {
			user->wrong += !mark(user, ptr[at], bytes[at], me, 0);
			user->wrong += symm_pool_free(user->pool, ptr[at]) != 0;
			ptr[at] = NULL;
			continue;
		}
		bytes[at] = 1 + next_random(&seed) % 5000;
		user->wrong +=
			symm_pool_alloc(user->pool, bytes[at], &ptr[at]) != 0 || !mark(user, ptr[at], bytes[at], 0, me);
	}
	for (int at = 0; at < 50; at++)
		user->wrong += ptr[at] != NULL &&
			       (!mark(user, ptr[at], bytes[at], me, 0) || symm_pool_free(user->pool, ptr[at]) != 0);
	return NULL;
}

static int run_threads(struct user *user, int n, void *(*run)(void *arg))
{
	int wrong = 0;

	for (int i = 0; i < n; i++)
		CHECK(pthread_create(&user[i].thread, NULL, run, &user[i]) == 0);
	for (int i = 0; i < n; i++) {
		pthread_join(user[i].thread, NULL);
		wrong += user[i].wrong;
	}
	CHECK(wrong == 0, "(%d)", wrong);
	return 0;
}

static int used_by_threads(int rank, void *arg)
{
	static char owned[CAPACITY / SYMM_POOL_ALIGN];
	struct rig *rig = arg;
	struct symm_pool *pool;
	struct user user[THREADS];

	GOOD(rig_pool(rig, rank, &pool));
	for (int i = 0; i < THREADS; i++)
		user[i] = (struct user){
			.pool = pool, .base = symm_mem_buffer(symm_pool_mem(pool), 0), .owned = owned, .number = i
		};
	if (run_threads(user, THREADS, use) != 0 || is_empty(pool) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

static void *check_often(void *arg)
{
	struct user *user = arg;

	for (int i = 0; i < rounds(25); i++)
		user->wrong += symm_pool_check(user->pool, 0) != 0;
	return NULL;
}

/* Checks of several threads take turns, on every rank as many. */
static int checked_by_threads(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;
	struct user user[THREADS];

	GOOD(rig_pool(rig, rank, &pool));
	for (int i = 0; i < THREADS; i++)
		user[i] = (struct user){ .pool = pool };
	if (run_threads(user, THREADS, check_often) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- ends ---- */

static int is_stale(struct symm_pool *pool, void *ptr)
{
	void *other = NULL;

	BAD(symm_pool_alloc(pool, 1, &other), SYMM_ESTALE, "symm_pool_alloc: this symm_pool is no more");
	BAD(symm_pool_free(pool, ptr), SYMM_ESTALE, "this symm_pool is no more");
	BAD(symm_pool_check(pool, 0), SYMM_ESTALE, "this symm_pool is no more");
	BAD(symm_pool_destroy(pool), SYMM_ESTALE, "symm_pool_destroy: this symm_pool is no more");
	CHECK(symm_pool_mem(pool) == NULL && symm_pool_peer(pool, ptr, 0) == NULL && other == NULL);
	return 0;
}

static void *check_once(void *arg)
{
	struct user *user = arg;

	user->code = symm_pool_check(user->pool, 20000);
	return NULL;
}

/* Waits until another thread of this rank waits in a check. */
static int await_check(const struct rig *rig)
{
	char line[512] = "";
	struct context *context;
	int rc;

	for (int i = 0; i < 10000 && strstr(line, "barrier on channel 32") == NULL; i++) {
		context = symm_handle_get(rig->context, SYMM_HANDLE_CONTEXT, &rc);
		CHECK(context != NULL);
		symm_doing_line(context, line, sizeof(line));
		symm_handle_put(rig->context);
		nap_ms(1);
	}
	CHECK(strstr(line, "barrier on channel 32") != NULL, "(%s)", line);
	return 0;
}

/* Rank 0's thread waits in a check to which rank 1 does not come; then its pool goes. */
static int destroyed_in_check(struct rig *rig, int rank)
{
	struct user user = { .number = 0 };
	double start;

	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &user.pool));
	if (rank == 0) {
		CHECK(pthread_create(&user.thread, NULL, check_once, &user) == 0);
		if (await_check(rig) != 0)
			return 1;
		start = seconds_now();
		GOOD(symm_pool_destroy(user.pool));
		CHECK(seconds_now() - start < patience(5));
		pthread_join(user.thread, NULL);
		CHECK(user.code == SYMM_ESTALE, "(%d)", user.code);
	}
	tap_rally(rally, 2);
	if (rank == 1) {
		/* Rank 0 had come to the first. */
		GOOD(symm_pool_check(user.pool, 0));
		BAD(symm_pool_check(user.pool, 0), SYMM_ESTALE, "has freed the allocation");
		GOOD(symm_pool_destroy(user.pool));
	}
	GOOD(symm_group_status(rig->group));
	return is_stale(user.pool, &user);
}

/* Who holds a reference goes on with the memory when the pool is gone. */
static int memory_outlives(struct rig *rig, int rank)
{
	struct symm_pool *pool;
	struct symm_mem *mem;
	void *ptr;

	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool));
	mem = symm_pool_mem(pool);
	GOOD(symm_mem_retain(mem));
	GOOD(symm_pool_alloc(pool, 64, &ptr));
	GOOD(symm_pool_destroy(pool));
	if (is_stale(pool, ptr) != 0)
		return 1;
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(word_set(mem, 1 - rank, 0, 5 + (uint64_t)rank));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(word_get(mem, rank, 0) == 6 - (uint64_t)rank);
	BAD(symm_free(ptr), SYMM_ENOENT, "has been freed");
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_mem_release(mem));
	BAD(symm_mem_release(mem), SYMM_ESTALE, "this symm_mem is no more");
	return 0;
}

static int child(struct symm_pool *pool, void *ptr)
{
	void *other;

	BAD(symm_pool_alloc(pool, 1, &other), SYMM_EFORK, "fork");
	BAD(symm_pool_free(pool, ptr), SYMM_EFORK, "fork");
	BAD(symm_pool_check(pool, 0), SYMM_EFORK, "fork");
	BAD(symm_pool_destroy(pool), SYMM_EFORK, "fork");
	return 0;
}

static int ends(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool, *other;
	void *ptr;
	int pid;

	GOOD(rig_join(rig, rank));
	if (destroyed_in_check(rig, rank) != 0 || memory_outlives(rig, rank) != 0)
		return 1;
	GOOD(symm_pool_destroy(NULL));
	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &pool));
	GOOD(symm_pool_alloc(pool, 64, &ptr));
	tap_rally(rally, 2);
	GOOD(symm_group_leave(rig->group));
	if (is_stale(pool, ptr) != 0)
		return 1;
	GOOD(rig_enter(rig));
	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &other));
	CHECK(other != pool);
	GOOD(symm_pool_alloc(other, 64, &ptr));
	pid = fork();
	if (pid == 0)
		_exit(child(other, ptr));
	CHECK(tap_wait(pid, 10) == 0);
	GOOD(symm_pool_free(other, ptr));
	GOOD(symm_close(rig->context));
	return is_stale(other, ptr);
}

/* While another thread waits in a check, a pool whose memory lives on is not ended within the deadline, and can be
 * later. */
static int busy(int rank, void *arg)
{
	struct user user = { .number = 0 };
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	rig->timeout_ms = rank == 0 ? 100 : 0;
	GOOD(rig_open(rig, rank));
	GOOD(symm_group_join(rig->context, "world", rank, 2, 20000, &rig->group));
	GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 20000, &user.pool));
	mem = symm_pool_mem(user.pool);
	GOOD(symm_mem_retain(mem));
	if (rank == 0) {
		CHECK(pthread_create(&user.thread, NULL, check_once, &user) == 0);
		if (await_check(rig) != 0)
			return 1;
		BAD(symm_pool_destroy(user.pool), SYMM_EBUSY, "another thread is still in a call on this symm_pool");
		BAD(symm_pool_alloc(user.pool, 1, &ptr), SYMM_ESTALE, "this symm_pool is no more");
	}
	tap_rally(rally, 2);
	if (rank == 0)
		pthread_join(user.thread, NULL);
	else
		user.code = symm_pool_check(user.pool, 0);
	CHECK(user.code == 0, "(%d)", user.code);
	GOOD(symm_pool_destroy(user.pool));
	GOOD(symm_barrier(mem, 0, 20000));
	GOOD(symm_close(rig->context));
	return is_stale(user.pool, &user);
}

static void *end_one(void *arg)
{
	struct user *user = arg;

	if (user->number == 0)
		user->code = symm_group_leave(user->group);
	else
		user->code = symm_pool_destroy(user->pool);
	return NULL;
}

/* Threads end a pool, at most one of them, while one leaves the group and another is in the midst of an allocation. */
static int ends_at_once(int rank, void *arg)
{
	struct rig *rig = arg;
	struct user user[THREADS];
	void *ptr;
	int ended, rc;

	GOOD(rig_open(rig, rank));
	for (int round = 0; round < rounds(100); round++) {
		GOOD(rig_enter(rig));
		GOOD(symm_pool_create(rig->group, CAPACITY, NULL, 0, &user[0].pool));
		for (int i = 0; i < THREADS; i++) {
			user[i] = (struct user){ .pool = user[0].pool,
						 .group = rig->group,
						 .number = (i + round) % THREADS };
			CHECK(pthread_create(&user[i].thread, NULL, end_one, &user[i]) == 0);
		}
		while ((rc = symm_pool_alloc(user[0].pool, 1, &ptr)) == 0)
			;
		ended = 0;
		for (int i = 0; i < THREADS; i++) {
			pthread_join(user[i].thread, NULL);
			ended += user[i].code == 0;
			CHECK(user[i].code == 0 || (user[i].code == SYMM_ESTALE && user[i].number > 0), "(%d: %d)",
			      user[i].number, user[i].code);
		}
		CHECK(ended <= 2 && (rc == SYMM_ESTALE || rc == SYMM_ENOMEM), "(%d, %d)", ended, rc);
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- who does not come ---- */

static int late(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;

	GOOD(rig_pool(rig, rank, &pool));
	GOOD(symm_pool_check(pool, 0));
	if (rank == 0) {
		BAD(symm_pool_check(pool, 200), SYMM_ETIMEDOUT, "symm_pool_check: group world has failed: ");
		CHECK(strstr(symm_last_error(), "timed out waiting for rank 1 (") != NULL, "(%s)", symm_last_error());
		BAD(symm_group_status(rig->group), SYMM_ETIMEDOUT, "");
		BAD(symm_pool_check(pool, 0), SYMM_ETIMEDOUT, "rank 1 (");
	}
	tap_rally(rally, 2);
	GOOD(symm_pool_destroy(pool));
	GOOD(symm_close(rig->context));
	return 0;
}

static int die_or_wait(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_pool *pool;

	GOOD(rig_pool(rig, rank, &pool));
	GOOD(symm_pool_check(pool, 0));
	if (rank == 1)
		raise(SIGKILL);
	BAD(symm_pool_check(pool, 0), SYMM_EPEER, "rank 1 (");
	GOOD(symm_pool_destroy(pool));
	GOOD(symm_close(rig->context));
	return 0;
}

static void test_death(struct rig rig)
{
	int pid[2], status[2];

	if (!world_fits("a rank dies", 2))
		return;
	tap_ranks_start(2, die_or_wait, &rig, pid);
	for (int i = 0; i < 2; i++)
		status[i] = tap_wait(pid[i], 30);
	ok(status[0] == 0 && status[1] == SIGKILL, "a rank dies: the other is told so by its check");
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "threads allocate", 1, used_by_threads },
		{ "threads check", 2, checked_by_threads },
		{ "ends", 2, ends },
		{ "busy", 2, busy },
		{ "several threads end one pool", 1, ends_at_once },
		{ "a rank that does not come", 2, late },
	};
	struct rig dying = { .world = 2, .job = "death" }; /* the keys that it leaves go with their time */

	if (!need_device(1))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, rally, tests);
	dying.url = redis.url;
	test_death(dying);
	tap_redis_stop(&redis);
	return tap_done();
}
