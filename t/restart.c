/* What outlives what: jobs killed and started again on the same keyspace, and a Redis that goes away or comes back
 * empty. */
#include "ask.h"
#include "rig.h"

#include <signal.h>
#include <sys/wait.h>

#define RANKS 4

static struct tap_redis redis;
static struct rig rig;

static struct {
	int rally, ready, step;
} * shared;

static void begin(const char *name)
{
	memset(shared, 0, sizeof(*shared));
	ask(&redis, "FLUSHALL");
	tap_diag("%s", name);
}

static int is_ready(void)
{
	return __atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE);
}

static void await_ready(int n)
{
	for (double end = seconds_now() + patience(10) + opening(); is_ready() < n && seconds_now() < end;)
		nap_ms(1);
	is_int(is_ready(), n, "%d ranks are ready", n);
}

static void ready(void)
{
	__atomic_fetch_add(&shared->ready, 1, __ATOMIC_RELEASE);
}

static void await_step(int step)
{
	while (__atomic_load_n(&shared->step, __ATOMIC_ACQUIRE) < step)
		nap_ms(1);
}

static void next_step(void)
{
	__atomic_fetch_add(&shared->step, 1, __ATOMIC_RELEASE);
}

static void end_ranks(const int *pid, int n)
{
	for (int i = 0; i < n; i++)
		kill(pid[i], SIGKILL);
	for (int i = 0; i < n; i++)
		waitpid(pid[i], NULL, 0);
}

static void all_well(const int *pid, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		is_int(tap_wait(pid[i], 20), 0, "%s: rank %d", name, i);
}

/* ---- a job that is killed ---- */

enum { FORMING, IDLE, MEETING }; /* what the ranks are in when they die */

struct life {
	const char *name;
	int what;
	const char *job;
	int generation; /* of the next life */
};

static int first_life(int rank, void *arg)
{
	const struct life *life = arg;
	struct rig r = rig;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_open(&r, rank));
	if (life->what == FORMING) {
		ready();
		if (rank == RANKS - 1)
			pause();
	}
	GOOD(rig_enter(&r));
	GOOD(rig_memory(&r, 4096, &ptr, &mem));
	ready();
	GOOD(symm_alloc(r.group, 4096, NULL, &ptr));
	if (life->what == MEETING && rank != 0)
		GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	pause();
	return 1;
}

/* It meets and works, and soon. */
static int next_life(int rank, void *arg)
{
	const struct life *life = arg;
	struct rig r = rig;
	struct symm_mem *mem;
	double start;
	void *ptr;

	r.job = life->job;
	GOOD(rig_open(&r, rank));
	start = seconds_now();
	GOOD(rig_enter(&r));
	CHECK(seconds_now() - start < patience(1), "it took %.3f s", seconds_now() - start);
	CHECK(symm_group_generation(r.group) == life->generation, "%d", (int)symm_group_generation(r.group));
	GOOD(rig_memory(&r, 4096, &ptr, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_close(r.context));
	return 0;
}

static const struct life lives[] = {
	{ "killed while idle", IDLE, NULL, 2 },
	{ "killed while idle, then another job", IDLE, "other", 1 },
	{ "killed in a rendezvous", MEETING, NULL, 2 },
	{ "killed in a rendezvous, then another job", MEETING, "other", 1 },
	{ "killed in the join", FORMING, NULL, 1 },
};

static void test_killed(const struct life *life)
{
	int pid[RANKS];

	begin(life->name);
	tap_ranks_start(RANKS, first_life, (void *)(uintptr_t)life, pid);
	await_ready(RANKS);
	nap_ms(100);
	end_ranks(pid, RANKS);
	tap_ranks(life->name, RANKS, next_life, (void *)(uintptr_t)life, 10);
}

/* ---- a job of which some are left ---- */

static int lives_on(int rank, void *arg)
{
	struct rig r = rig;

	(void)arg;
	GOOD(rig_join(&r, rank));
	ready();
	pause();
	return 1;
}

static int comes_in_vain(int rank, void *arg)
{
	const int *pid = arg;
	struct rig r = rig;
	char text[64];
	double start;

	for (int alive = 2; alive < RANKS; alive++) {
		snprintf(text, sizeof(text), ", pid %d)", pid[alive]);
		GOOD(rig_open(&r, rank));
		start = seconds_now();
		BAD(symm_group_join(r.context, "world", rank, RANKS, 400, &r.group), SYMM_EBUSY, text);
		CHECK(seconds_now() - start < patience(0.9), "it took %.3f s", seconds_now() - start);
		CHECK(strstr(symm_last_error(), "rank 0") == NULL, "%s", symm_last_error());
		GOOD(symm_close(r.context));
	}
	return 0;
}

/* The old holder of the rank lives: no use in waiting. */
static int comes_for_the_living(int rank, void *arg)
{
	struct rig r = rig;
	double start;

	(void)arg;
	GOOD(rig_open(&r, rank + 2));
	start = seconds_now();
	BAD(rig_enter(&r), SYMM_EEXIST, "which is alive");
	CHECK(seconds_now() - start < patience(0.5), "it took %.3f s", seconds_now() - start);
	GOOD(symm_close(r.context));
	return 0;
}

static int waits_its_turn(int rank, void *arg)
{
	struct rig r = rig;

	(void)arg;
	GOOD(rig_open(&r, rank));
	ready();
	if (rank >= 2)
		await_step(1);
	GOOD(rig_enter(&r));
	CHECK(symm_group_generation(r.group) == 2);
	GOOD(symm_close(r.context));
	return 0;
}

static void test_half_killed(void)
{
	int pid[RANKS], next[RANKS];

	begin("half of a job is killed");
	tap_ranks_start(RANKS, lives_on, NULL, pid);
	await_ready(RANKS);
	end_ranks(pid, 2);
	tap_ranks("newcomers among the living", 2, comes_in_vain, pid, 10);
	tap_ranks("newcomers in the place of the living", 2, comes_for_the_living, NULL, 10);
	tap_ranks_start(RANKS, waits_its_turn, NULL, next);
	await_ready(2 * RANKS);
	nap_ms(200);
	end_ranks(pid + 2, 2);
	next_step();
	all_well(next, RANKS, "the last of the old die meanwhile");
}

/* ---- two hosts ---- */

/* Six of them outlast the time from the death of a job to its next life, or the store has forgotten it. */
#define SHORT_LEASE ((int64_t)(patience(0.6) < 4 ? patience(0.6) * 1000 : 4000)) /* joins have 20 s */

/* A host of its own for each half. The memory of another host cannot be mapped, so they only meet. */
static int on_two_hosts(int rank, void *arg)
{
	const int *life = arg;
	struct rig r = rig;
	double start, took;

	setenv("SYMM_BOOT_ID", rank < 2 ? "boot-a" : "boot-b", 1);
	r.lease_ms = SHORT_LEASE;
	GOOD(rig_open(&r, rank));
	start = seconds_now();
	GOOD(rig_enter(&r));
	took = seconds_now() - start;
	CHECK(symm_group_generation(r.group) == *life, "it is %lld", (long long)symm_group_generation(r.group));
	ready();
	if (*life == 1)
		pause();
	CHECK((took > 0.3 || !on_host()) && took < patience(SHORT_LEASE * 2.5e-3), "it took %.3f s", took);
	tap_rally(&shared->rally, RANKS);
	GOOD(symm_close(r.context));
	return 0;
}

static void test_two_hosts(void)
{
	int pid[RANKS], life = 1;

	begin("two hosts");
	tap_ranks_start(RANKS, on_two_hosts, &life, pid);
	await_ready(RANKS);
	end_ranks(pid, RANKS);
	life = 2;
	tap_ranks("restart on two hosts", RANKS, on_two_hosts, &life, 10);
}

/* Half of the job is on a host that dies: the other half hears by its lease, and its collectives end. */
static int left_alone(int rank, void *arg)
{
	struct rig r = rig;
	struct symm_mem *mem;
	void *ptr;
	double start;

	(void)arg;
	setenv("SYMM_BOOT_ID", rank < 2 ? "boot-a" : "boot-b", 1);
	r.lease_ms = SHORT_LEASE;
	GOOD(rig_join(&r, rank));
	ready();
	if (rank >= 2)
		pause();
	await_step(1);
	start = seconds_now();
	GOOD(symm_alloc(r.group, 64, NULL, &ptr));
	BAD(symm_rendezvous(ptr, NULL, 5000, &mem), SYMM_EUNREACH, "cannot map the memory of rank 2");
	CHECK(seconds_now() - start < patience(1), "it took %.3f s", seconds_now() - start);
	GOOD(symm_close(r.context));
	return 0;
}

static void test_dead_host(void)
{
	int pid[RANKS];

	begin("a host dies");
	tap_ranks_start(RANKS, left_alone, NULL, pid);
	await_ready(RANKS);
	end_ranks(pid + 2, 2);
	next_step();
	all_well(pid, 2, "the other host's ranks");
}

/* ---- Redis ---- */

#define AWAY_MS 1100 /* more than two leases of the ranks */

struct outage {
	const char *name;
	int signal; /* to the server; 0: it is only started again, empty */
	int code;   /* of the next rendezvous */
};

static const struct outage outages[] = {
	{ "Redis restarted empty", 0, SYMM_ESTALE },
	{ "Redis killed, and back empty", SIGKILL, SYMM_ESTALE },
	{ "Redis stopped for a while", SIGSTOP, SYMM_OK },
};

/* All pass the same number: until rank 0, who looks between two barriers, has seen the step. */
static int barriers_until(struct symm_mem *mem, int rank, int step)
{
	do {
		GOOD(symm_barrier(mem, 0, 0));
		if (rank == 0)
			CHECK(word_set(mem, 0, 0, (uint64_t)__atomic_load_n(&shared->step, __ATOMIC_ACQUIRE)));
		GOOD(symm_barrier(mem, 0, 0));
	} while (word_get(mem, 0, 0) < (uint64_t)step);
	return 0;
}

static int through_outage(int rank, void *arg)
{
	const struct outage *outage = arg;
	struct rig r = rig;
	struct symm_mem *mem, *other;
	void *ptr;

	r.lease_ms = AWAY_MS / 2 - 50;
	GOOD(rig_join(&r, rank));
	GOOD(rig_memory(&r, 4096, &ptr, &mem));
	ready();
	if (barriers_until(mem, rank, 1) != 0)
		return 1;
	await_step(2);
	GOOD(symm_group_status(r.group));
	GOOD(symm_alloc(r.group, 64, NULL, &ptr));
	if (outage->code == 0)
		GOOD(symm_rendezvous(ptr, NULL, 0, &other));
	else
		BAD(symm_rendezvous(ptr, NULL, 0, &other), outage->code, "group");
	GOOD(symm_barrier(mem, 1, 0));
	GOOD(symm_free(ptr));
	GOOD(symm_group_leave(r.group));
	GOOD(symm_group_join(r.context, "next", rank, RANKS, 0, &r.group));
	GOOD(symm_close(r.context));
	return 0;
}

static void test_outage(const struct outage *outage)
{
	int pid[RANKS];

	begin(outage->name);
	tap_ranks_start(RANKS, through_outage, (void *)(uintptr_t)outage, pid);
	await_ready(RANKS);
	if (outage->signal != 0)
		kill(redis.pid, outage->signal);
	else
		tap_redis_restart(&redis);
	nap_ms(AWAY_MS);
	next_step();
	if (outage->signal == SIGSTOP)
		kill(redis.pid, SIGCONT);
	if (outage->signal == SIGKILL) {
		tap_redis_restart(&redis);
		nap_ms(1500); /* a back-off may be longer than these leases */
	}
	next_step();
	all_well(pid, RANKS, outage->name);
}

static int await_failure(struct symm_group *group, double limit)
{
	int rc = 0;

	for (double end = seconds_now() + limit; rc == 0 && seconds_now() < end;) {
		nap_ms(1);
		rc = symm_group_status(group);
	}
	return rc;
}

/* Ranks 0 and 1 are in a rendezvous when Redis goes; the others only hear of it, by their links. */
static int without_redis(int rank, void *arg)
{
	struct rig r = rig;
	struct symm_mem *mem, *other;
	void *ptr;
	double start;

	(void)arg;
	r.lease_ms = 500;
	GOOD(rig_join(&r, rank));
	GOOD(rig_memory(&r, 4096, &ptr, &mem));
	GOOD(symm_alloc(r.group, 64, NULL, &ptr));
	ready();
	if (rank < 2) {
		BAD(symm_rendezvous(ptr, NULL, 0, &other), SYMM_ESTORE, redis.socket);
		await_step(1);
	} else {
		await_step(1);
		start = seconds_now();
		BAD(await_failure(r.group, 10), SYMM_ESTORE, "group world has failed");
		CHECK(seconds_now() - start < patience(1.2), "it took %.3f s", seconds_now() - start);
	}
	BAD(symm_group_status(r.group), SYMM_ESTORE, "group world has failed");
	BAD(symm_barrier(mem, 0, 0), SYMM_ESTORE, "group world has failed");
	GOOD(symm_free(ptr));
	start = seconds_now();
	GOOD(symm_close(r.context));
	CHECK(seconds_now() - start < patience(1.5), "it took %.3f s", seconds_now() - start);
	return 0;
}

static void test_without_redis(void)
{
	int pid[RANKS];

	begin("Redis stops during a rendezvous");
	tap_ranks_start(RANKS, without_redis, NULL, pid);
	await_ready(RANKS);
	nap_ms(100);
	kill(redis.pid, SIGSTOP);
	next_step();
	all_well(pid, RANKS, "without Redis");
	kill(redis.pid, SIGCONT);
}

int main(void)
{
	if (!need_device(RANKS))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	rig = (struct rig){ .url = redis.url, .world = RANKS };
	shared = tap_shared(sizeof(*shared));
	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++)
		test_killed(&lives[i]);
	test_half_killed();
	test_two_hosts();
	test_dead_host();
	for (size_t i = 0; i < sizeof(outages) / sizeof(outages[0]); i++)
		test_outage(&outages[i]);
	test_without_redis();
	tap_redis_stop(&redis);
	return tap_done();
}
