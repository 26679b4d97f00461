/* What a context counts: symm_context_stats. */
#include "ask.h"
#include "rig.h"
#include "symm/pool.h"

#include <pthread.h>

#define RANKS 2
#define BYTES 4096

static struct tap_redis redis;
static int *rally;

static int stats_of(const struct rig *rig, struct symm_stats *stats)
{
	*stats = (struct symm_stats)SYMM_STATS_INIT;
	return symm_context_stats(rig->context, stats);
}

/* The field has that value. */
#define COUNTED(rig, field, expected)                                                                                  \
	do {                                                                                                           \
		struct symm_stats stats_;                                                                              \
		GOOD(stats_of((rig), &stats_));                                                                        \
		CHECK(stats_.field == (expected), "%llu, not %llu", (unsigned long long)stats_.field,                  \
		      (unsigned long long)(expected));                                                                 \
	} while (0)

static int arguments(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	struct symm_stats stats = { .size = 8, .barriers = 77 };

	(void)arg;
	BAD(symm_context_stats(NULL, &(struct symm_stats)SYMM_STATS_INIT), SYMM_EINVAL, "not a symm_context");
	GOOD(rig_open(&rig, rank));
	BAD(symm_context_stats(rig.context, NULL), SYMM_EINVAL, "stats is NULL");
	BAD(symm_context_stats(rig.context, &stats), SYMM_EINVAL, "stats.size is 8, not");
	CHECK(stats.barriers == 77);
	GOOD(stats_of(&rig, &stats));
	CHECK(stats.size == sizeof(stats) && stats.barriers == 0 && stats.rendezvous_done == 0);
	CHECK(stats.store_commands > 0 && stats.store_reconnects == 0 && stats.store_retries == 0);
	GOOD(symm_close(rig.context));
	BAD(stats_of(&rig, &stats), SYMM_ESTALE, "symm_context_stats: ");
	return 0;
}

/* ---- memory ---- */

/* What the rank has of memory of its own and of peers. */
static int memory_is(const struct rig *rig, uint64_t allocations, uint64_t reuses)
{
	struct symm_stats stats;

	GOOD(stats_of(rig, &stats));
	CHECK(stats.allocations == allocations, "%llu", (unsigned long long)stats.allocations);
	CHECK(stats.persistent_reuses == reuses, "%llu", (unsigned long long)stats.persistent_reuses);
	CHECK((stats.allocated_bytes > allocations * BYTES) == (allocations > 0));
	/* The ranks are processes, so each maps the block of the other. */
	CHECK(stats.mapped_bytes == stats.allocated_bytes);
	return 0;
}

static int memory(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *mem, *again, *kept;
	struct symm_stats joined, met;
	void *ptr, *persistent;
	double start;

	(void)arg;
	options.persistent = 1;
	options.alloc_id = 9;
	GOOD(rig_join(&rig, rank));
	GOOD(stats_of(&rig, &joined));
	start = seconds_now();
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	start = seconds_now() - start;
	GOOD(stats_of(&rig, &met));
	CHECK(met.collective_ns > joined.collective_ns &&
		      (double)(met.collective_ns - joined.collective_ns) / 1e9 <= start,
	      "%llu after %llu, in %.6f s", (unsigned long long)met.collective_ns,
	      (unsigned long long)joined.collective_ns, start);
	COUNTED(&rig, rendezvous_done, 1);
	GOOD(symm_rendezvous(ptr, NULL, 0, &again));
	COUNTED(&rig, collective_ns, met.collective_ns);
	COUNTED(&rig, rendezvous_cached, 1);
	COUNTED(&rig, rendezvous_done, 1);
	GOOD(symm_mem_release(again));
	GOOD(symm_alloc(rig.group, BYTES, &options, &persistent));
	GOOD(symm_rendezvous(persistent, NULL, 0, &kept));
	if (memory_is(&rig, 2, 0) != 0)
		return 1;
	GOOD(symm_mem_release(kept));
	GOOD(symm_free(persistent));
	GOOD(symm_alloc(rig.group, BYTES, &options, &persistent));
	if (memory_is(&rig, 2, 1) != 0)
		return 1;
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	if (memory_is(&rig, 1, 1) != 0)
		return 1;
	return symm_close(rig.context);
}

/* The ranks ask for other sizes. */
static int mismatch(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(symm_alloc(rig.group, rank == 0 ? BYTES : 2 * BYTES, NULL, &ptr));
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EMISMATCH, "size");
	COUNTED(&rig, rendezvous_failed, 1);
	COUNTED(&rig, rendezvous_done, 0);
	COUNTED(&rig, mapped_bytes, 0);
	COUNTED(&rig, timeouts, 0);
	return symm_close(rig.context);
}

/* ---- synchronisation ---- */

static int sync_is(const struct rig *rig, uint64_t barriers, uint64_t signals, uint64_t enqueued)
{
	COUNTED(rig, barriers, barriers);
	COUNTED(rig, signals_put, signals);
	COUNTED(rig, signals_waited, signals);
	COUNTED(rig, enqueued, enqueued);
	return 0;
}

/* On two channels, by calls that wait and calls that enqueue. */
static int synchronise(struct symm_mem *mem, int peer, void *stream, int n)
{
	for (int i = 0; i < n; i++) {
		GOOD(symm_barrier(mem, i % 2, 0));
		GOOD(symm_put_signal(mem, peer, 31, 0));
		GOOD(symm_wait_signal(mem, peer, 31, 0));
		GOOD(symm_barrier_on_stream(mem, 5, 0, stream));
		GOOD(symm_put_signal_on_stream(mem, peer, 6, 0, stream));
		GOOD(symm_wait_signal_on_stream(mem, peer, 6, 0, stream));
	}
	GOOD(symm_stream_synchronize(stream, 0));
	return 0;
}

/* Each thing is counted once, and what a symm_mem has counted stays when it goes. */
static int work(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	uint64_t n = (uint64_t)rounds(20);
	struct symm_mem *mem, *other;
	void *ptr, *second, *stream;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	GOOD(rig_memory(&rig, BYTES, &second, &other));
	GOOD(symm_stream_create(rig.context, &stream));
	if (synchronise(mem, 1 - rank, stream, (int)n) != 0 || sync_is(&rig, 2 * n, 2 * n, 3 * n) != 0)
		return 1;
	if (synchronise(other, 1 - rank, stream, (int)n) != 0 || sync_is(&rig, 4 * n, 4 * n, 6 * n) != 0)
		return 1;
	GOOD(symm_put_on_stream(mem, rank, 0, symm_mem_buffer(mem, rank), 64, stream));
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	if (sync_is(&rig, 4 * n, 4 * n, 6 * n + 1) != 0)
		return 1;
	GOOD(symm_stream_destroy(stream));
	GOOD(symm_group_leave(rig.group));
	if (sync_is(&rig, 4 * n, 4 * n, 6 * n + 1) != 0)
		return 1;
	return symm_close(rig.context);
}

/* Who comes first has waited, who comes last has not. */
static int waits(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_stats before, after;
	struct symm_mem *mem;
	double waited, start;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(stats_of(&rig, &before));
	CHECK(before.collective_ns > 0);
	GOOD(symm_write_value(mem, rank, 0, 1, 8)); /* waits for nobody */
	COUNTED(&rig, waited_ns, before.waited_ns);
	tap_rally(rally, RANKS);
	start = seconds_now();
	if (rank == 1)
		nap_ms(200);
	GOOD(symm_barrier(mem, 0, 0));
	start = seconds_now() - start;
	GOOD(stats_of(&rig, &after));
	waited = (double)(after.waited_ns - before.waited_ns) / 1e9;
	if (rank == 0)
		CHECK(waited > 0.15 && waited <= start, "%.3f s of %.3f", waited, start);
	else
		CHECK(waited < 0.15, "%.3f s of %.3f", waited, start);
	return symm_close(rig.context);
}

static int times_out(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_stats stats;
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	if (rank == 0)
		BAD(symm_wait_signal(mem, 1, 3, 100), SYMM_ETIMEDOUT, ", after 0.1 s");
	tap_rally(rally, RANKS);
	COUNTED(&rig, timeouts, rank == 0);
	GOOD(stats_of(&rig, &stats));
	CHECK(rank != 0 || stats.waited_ns > 90000000, "%llu ns", (unsigned long long)stats.waited_ns);
	GOOD(symm_close(rig.context));
	GOOD(rig_open(&rig, rank));
	BAD(symm_group_join(rig.context, rank == 0 ? "alone0" : "alone1", 0, 2, 100, &rig.group), SYMM_ETIMEDOUT,
	    "timed out");
	COUNTED(&rig, timeouts, 1);
	GOOD(stats_of(&rig, &stats));
	CHECK(stats.polls > 2, "%llu", (unsigned long long)stats.polls);
	CHECK(stats.collective_ns >= 100000000, "%llu", (unsigned long long)stats.collective_ns);
	return symm_close(rig.context);
}

/* What a pool waits for counts as the same without one. */
static int pools_time_out(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_pool *pool;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(symm_pool_create(rig.group, BYTES, NULL, 0, &pool));
	if (rank == 0)
		BAD(symm_pool_create(rig.group, BYTES, NULL, 100, &pool), SYMM_ETIMEDOUT, "timed out");
	COUNTED(&rig, timeouts, rank == 0);
	if (rank == 0)
		BAD(symm_pool_check(pool, 100), SYMM_ETIMEDOUT, "timed out");
	tap_rally(rally, RANKS);
	COUNTED(&rig, timeouts, rank == 0 ? 2 : 0);
	COUNTED(&rig, rendezvous_failed, rank == 0);
	COUNTED(&rig, barriers, 0);
	return symm_close(rig.context);
}

/* ---- the store ---- */

static int reconnects(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	struct symm_stats before, after;
	double start = seconds_now();

	(void)arg;
	GOOD(rig_join(&rig, rank));
	GOOD(stats_of(&rig, &before));
	CHECK(before.store_reconnects == 0);
	ask(&redis, "CLIENT KILL TYPE normal SKIPME yes");
	do {
		nap_ms(5);
		GOOD(stats_of(&rig, &after));
	} while (after.store_reconnects == 0 && seconds_now() - start < patience(5));
	CHECK(after.store_reconnects == 1, "%llu", (unsigned long long)after.store_reconnects);
	GOOD(symm_group_leave(rig.group));
	GOOD(stats_of(&rig, &after));
	CHECK(after.store_commands > before.store_commands);
	return symm_close(rig.context);
}

/* Ends the script that keeps Redis busy, when a command has been sent again. */
static void *kill_script(void *arg)
{
	const struct rig *rig = arg;
	struct symm_stats stats;
	double start = seconds_now();

	while (stats_of(rig, &stats) == 0 && stats.store_retries == 0 && seconds_now() - start < patience(3))
		nap_ms(2);
	ask(&redis, "SCRIPT KILL");
	return NULL;
}

/* Rank 1 only keeps Redis busy. */
static int retries(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	struct symm_stats stats;
	pthread_t thread;

	(void)arg;
	if (rank == 1) {
		tap_rally(rally, RANKS);
		CHECK(strstr(ask(&redis, "EVAL 'while true do end' 0"), "SCRIPT KILL") != NULL);
		return 0;
	}
	GOOD(rig_join(&rig, rank));
	CHECK(strstr(ask(&redis, "CONFIG SET lua-time-limit 10"), "OK") != NULL);
	tap_rally(rally, RANKS);
	while (strncmp(ask(&redis, "PING"), "-BUSY", 5) != 0)
		nap_ms(1);
	CHECK(pthread_create(&thread, NULL, kill_script, &rig) == 0);
	GOOD(symm_group_leave(rig.group));
	pthread_join(thread, NULL);
	GOOD(stats_of(&rig, &stats));
	CHECK(stats.store_retries > 0 && stats.store_reconnects == 0, "%llu, %llu",
	      (unsigned long long)stats.store_retries, (unsigned long long)stats.store_reconnects);
	CHECK(strstr(ask(&redis, "CONFIG SET lua-time-limit 5000"), "OK") != NULL);
	return symm_close(rig.context);
}

/* ---- while others work ---- */

struct reader {
	struct rig rig;
	int stop, reads;
	const char *wrong; /* what went down */
};

static const char *went_down(const struct symm_stats *before, const struct symm_stats *after)
{
	if (after->barriers < before->barriers)
		return "barriers";
	if (after->signals_put < before->signals_put)
		return "signals_put";
	if (after->rendezvous_done < before->rendezvous_done)
		return "rendezvous_done";
	return NULL;
}

static void *read_on(void *arg)
{
	struct reader *reader = arg;
	struct symm_stats before = SYMM_STATS_INIT, after;

	for (; !__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE); reader->reads++) {
		if (stats_of(&reader->rig, &after) != 0)
			reader->wrong = "the call failed";
		else if (reader->wrong == NULL)
			reader->wrong = went_down(&before, &after);
		before = after;
	}
	return NULL;
}

/* A counter never goes down, whatever is made and freed meanwhile. */
static int monotone(int rank, void *arg)
{
	struct reader reader = { .rig = { .url = redis.url, .world = 1 } };
	const struct rig *rig = &reader.rig;
	int n = rounds(200);
	pthread_t thread;

	(void)arg;
	GOOD(rig_join(&reader.rig, rank));
	CHECK(pthread_create(&thread, NULL, read_on, &reader) == 0);
	for (int i = 0; i < n; i++) {
		struct symm_mem *mem;
		void *ptr;

		GOOD(rig_memory(&reader.rig, BYTES, &ptr, &mem));
		GOOD(symm_barrier(mem, 0, 0));
		GOOD(symm_put_signal(mem, 0, 0, 0));
		GOOD(symm_wait_signal(mem, 0, 0, 0));
		GOOD(symm_mem_release(mem));
		GOOD(symm_free(ptr));
	}
	__atomic_store_n(&reader.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	CHECK(reader.wrong == NULL, "%s", reader.wrong);
	CHECK(reader.reads > 0);
	if (sync_is(rig, (uint64_t)n, (uint64_t)n, 0) != 0)
		return 1;
	COUNTED(rig, allocations, 0);
	return symm_close(reader.rig.context);
}

int main(void)
{
	if (!need_device(RANKS))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("what is wrong", 1, arguments, NULL, 20);
	tap_ranks("memory", RANKS, memory, NULL, 20);
	tap_ranks("a rendezvous that fails", RANKS, mismatch, NULL, 20);
	tap_ranks("barriers and signals", RANKS, work, NULL, 20);
	tap_ranks("time waited", RANKS, waits, NULL, 20);
	tap_ranks("time-outs", RANKS, times_out, NULL, 20);
	tap_ranks("time-outs of pools", RANKS, pools_time_out, NULL, 20);
	tap_ranks("connections", 1, reconnects, NULL, 20);
	tap_ranks("commands that are sent again", RANKS, retries, NULL, 20);
	tap_ranks("while others work", 1, monotone, NULL, 20);
	tap_redis_stop(&redis);
	return tap_done();
}
