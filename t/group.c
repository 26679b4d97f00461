/* Groups by the public API: who meets, who is missed, who does not agree, and what is left behind. */
#include "ask.h"
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct tap_redis redis;
static struct rig rig;

/* What the ranks of a case tell each other. */
static struct {
	int rally, step;
	int pid[4];
} * shared;

static struct rig rig_of(int world)
{
	struct rig r = rig;

	r.world = world;
	return r;
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

/* Runs a case and looks at what it left in Redis. */
static void run(const char *name, int n, int (*fn)(int rank, void *arg), void *arg)
{
	if (!world_fits(name, n))
		return;
	memset(shared, 0, sizeof(*shared));
	tap_ranks(name, n, fn, arg, 20);
	if (!is_str(ask(&redis, "DBSIZE"), ":0\r\n", "%s: nothing is left in Redis", name))
		tap_diag("%s", ask(&redis, "KEYS *"));
	ask(&redis, "FLUSHALL");
}

#define LATE(since, limit) CHECK(seconds_now() - (since) <= patience(limit), "it took %.3f s", seconds_now() - (since))

static const char *host(void)
{
	static char name[65];

	gethostname(name, sizeof(name) - 1);
	return name;
}

/* ---- joining ---- */

static int join(int rank, void *arg)
{
	const int *world = arg;
	struct rig r = rig_of(*world);
	struct symm_group *found = NULL;

	GOOD(rig_join(&r, rank));
	CHECK(symm_group_rank(r.group) == rank && symm_group_world_size(r.group) == *world);
	CHECK(symm_context_rank(r.context) == rank && symm_context_world_size(r.context) == *world);
	CHECK(symm_group_generation(r.group) == 1, "%d", (int)symm_group_generation(r.group));
	CHECK(strcmp(symm_group_name(r.group), "world") == 0);
	CHECK(strcmp(symm_group_store(r.group), redis.url) == 0, "%s", symm_group_store(r.group));
	GOOD(symm_group_find(r.context, "world", &found));
	CHECK(found == r.group);
	BAD(symm_group_find(r.context, "other", &found), SYMM_ENOENT, "no group other");
	BAD(symm_group_join(r.context, "world", SYMM_AUTO, SYMM_AUTO, 0, &found), SYMM_EEXIST,
	    "in group world already");
	GOOD(symm_group_status(r.group));
	if (rank % 2 == 0)
		GOOD(symm_group_leave(r.group));
	GOOD(symm_close(r.context));
	return 0;
}

static void test_join(void)
{
	static const int worlds[] = { 1, 2, 3, 4, 8, 33 };

	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
		char name[32];
		int world = worlds[i];

		snprintf(name, sizeof(name), "%d join", world);
		run(name, world, join, &world);
	}
}

/* ---- who is not there ---- */

static int without_the_last(int rank, void *arg)
{
	struct rig r = rig_of(3);
	int ms = 500 + 300 * rank;
	double start;

	(void)arg;
	GOOD(rig_open(&r, rank));
	tap_rally(&shared->rally, 2);
	start = seconds_now();
	BAD(symm_group_join(r.context, "world", rank, 3, ms, &r.group), SYMM_ETIMEDOUT,
	    rank == 0 ? "missing rank 2 (not there)" : "missing rank 2 (not there); rank 0 (came, and has withdrawn)");
	CHECK(seconds_now() - start >= ms / 1e3 - 0.01);
	LATE(start, ms / 1e3 + 0.5);
	GOOD(symm_close(r.context));
	return 0;
}

/* The keys would be gone before rank 1 comes, if rank 0 did not keep them. */
static int long_join(int rank, void *arg)
{
	struct rig r = rig_of(2);

	(void)arg;
	r.lease_ms = 100;
	GOOD(rig_open(&r, rank));
	if (rank == 1)
		nap_ms(1000);
	GOOD(symm_group_join(r.context, "world", rank, 2, 0, &r.group));
	CHECK(symm_group_generation(r.group) == 1);
	tap_rally(&shared->rally, 2);
	GOOD(symm_close(r.context));
	return 0;
}

/* Rank 2 is in the join of another group while the others wait for it. */
static int without_the_other(int rank, void *arg)
{
	struct rig r = rig_of(3);
	struct symm_group *group;
	struct symm_mem *mem;
	char text[128];
	void *ptr;

	(void)arg;
	GOOD(rig_join(&r, rank));
	shared->pid[rank] = getpid();
	GOOD(symm_alloc(r.group, 4096, NULL, &ptr));
	tap_rally(&shared->rally, 3);
	snprintf(text, sizeof(text), "rank 2 (%s, pid %d), now in join of group other", host(), shared->pid[2]);
	if (rank == 2) {
		BAD(symm_group_join(r.context, "other", 0, 2, 900, &group), SYMM_ETIMEDOUT, "rank 1 (not there)");
		/* Too late: what was decided without it stands. */
		BAD(symm_rendezvous(ptr, NULL, 500, &mem), SYMM_ETIMEDOUT, text);
	} else {
		double start = seconds_now();

		BAD(symm_rendezvous(ptr, NULL, 500, &mem), SYMM_ETIMEDOUT, text);
		LATE(start, 1.0);
	}
	tap_rally(&shared->rally, 3);
	/* One rank's wrong argument is an error on all. */
	BAD(symm_rendezvous(ptr, NULL, rank == 1 ? -1 : 0, &mem), SYMM_EINVAL, "timeout_ms is -1");
	CHECK(strstr(symm_last_error(), "rank 1 (") != NULL, "%s", symm_last_error());
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	GOOD(symm_close(r.context));
	return 0;
}

/* ---- who does not agree ---- */

static int other_world(int rank, void *arg)
{
	struct rig r = rig_of(rank == 2 ? 4 : 3);
	struct symm_group *group;

	(void)arg;
	GOOD(rig_open(&r, rank));
	tap_rally(&shared->rally, 3);
	if (rank == 2)
		nap_ms(200);
	BAD(symm_group_join(r.context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group), SYMM_EMISMATCH, "rank 2 (host ");
	CHECK(strstr(symm_last_error(), "world size 4") != NULL && strstr(symm_last_error(), "has 3") != NULL, "%s",
	      symm_last_error());
	tap_rally(&shared->rally, 3);
	/* What failed while forming stands in nobody's way. */
	GOOD(symm_group_join(r.context, "world", rank, 3, 0, &group));
	GOOD(symm_close(r.context));
	return 0;
}

/* 0 and 2 are ranks 0 and 1; 1 claims to be rank 0 while the group is forming, and again when it is complete. */
static int duplicate(int who, void *arg)
{
	struct rig r = rig_of(2);
	char text[128];

	(void)arg;
	GOOD(rig_open(&r, who / 2));
	shared->pid[who] = getpid();
	tap_rally(&shared->rally, 3);
	snprintf(text, sizeof(text), "rank 0 of group world is held by pid %d on %s", shared->pid[0], host());
	if (who == 0) {
		GOOD(symm_group_join(r.context, "world", 0, 2, 0, &r.group));
	} else if (who == 1) {
		nap_ms(150);
		BAD(symm_group_join(r.context, "world", 0, 2, 0, &r.group), SYMM_EEXIST, text);
		next_step();
		await_step(2);
		BAD(symm_group_join(r.context, "world", 0, 2, 0, &r.group), SYMM_EEXIST, text);
	} else {
		await_step(1);
		GOOD(symm_group_join(r.context, "world", 1, 2, 0, &r.group));
		next_step();
	}
	tap_rally(&shared->rally, 3);
	GOOD(symm_close(r.context));
	return 0;
}

/* ---- subgroups ---- */

struct meeting {
	struct symm_group *group;
	int delay_ms, rc;
};

static void *meet(void *arg)
{
	struct meeting *m = arg;
	struct symm_mem *mem;
	void *ptr;

	nap_ms(m->delay_ms);
	m->rc = symm_alloc(m->group, 1000, NULL, &ptr);
	if (m->rc == 0)
		m->rc = symm_rendezvous(ptr, NULL, 0, &mem);
	if (m->rc == 0)
		m->rc = symm_barrier(mem, 0, 0);
	return NULL;
}

static int join_both(struct rig *r, int rank, struct symm_group *group[2])
{
	GOOD(rig_open(r, rank));
	GOOD(symm_group_join(r->context, "a", rank, 2, 0, &group[0]));
	GOOD(symm_group_join(r->context, "b", rank, 2, 0, &group[1]));
	return 0;
}

static int cross_by_threads(int rank, void *arg)
{
	struct rig r = rig_of(2);
	struct symm_group *group[2];
	struct meeting m[2];
	pthread_t thread[2];

	(void)arg;
	if (join_both(&r, rank, group) != 0)
		return 1;
	for (int i = 0; i < 2; i++) {
		m[i] = (struct meeting){ .group = group[i], .delay_ms = i == rank ? 0 : 50 };
		CHECK(pthread_create(&thread[i], NULL, meet, &m[i]) == 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	GOOD(m[0].rc);
	GOOD(m[1].rc);
	GOOD(symm_close(r.context));
	return 0;
}

/* Rank 0 goes to a first, rank 1 to b first; when that has failed, both go on. */
static int cross_by_one_thread(int rank, void *arg)
{
	struct rig r = rig_of(2);
	struct symm_group *group[2];
	struct symm_mem *mem;
	char text[160];
	void *ptr[2];
	double start;

	(void)arg;
	if (join_both(&r, rank, group) != 0)
		return 1;
	for (int i = 0; i < 2; i++)
		GOOD(symm_alloc(group[i], 1000, NULL, &ptr[i]));
	shared->pid[rank] = getpid();
	tap_rally(&shared->rally, 2);
	start = seconds_now();
	snprintf(text, sizeof(text), "rank %d (%s, pid %d), now in rendezvous 1 of group %s", !rank, host(),
		 shared->pid[!rank], rank == 0 ? "b" : "a");
	BAD(symm_rendezvous(ptr[rank], NULL, 600, &mem), SYMM_ETIMEDOUT, text);
	LATE(start, 1.1);
	tap_rally(&shared->rally, 2);
	BAD(symm_rendezvous(ptr[!rank], NULL, 600, &mem), SYMM_ETIMEDOUT, "rendezvous 1");
	for (int i = 0; i < 2; i++)
		GOOD(symm_rendezvous(ptr[i], NULL, 0, &mem));
	GOOD(symm_close(r.context));
	return 0;
}

/* ---- fork ---- */

static int child_of(struct rig *r, struct symm_mem *mem, void *ptr)
{
	struct symm_context *context;
	struct symm_group *group;
	struct symm_options options = SYMM_OPTIONS_INIT;

	options.url = rig.url;
	BAD(symm_open(&options, &context), SYMM_EFORK, "fork");
	BAD(symm_group_join(r->context, "g", 0, 1, 0, &group), SYMM_EFORK, "fork");
	BAD(symm_group_status(r->group), SYMM_EFORK, "fork");
	BAD(symm_alloc(r->group, 8, NULL, &ptr), SYMM_EFORK, "fork");
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EFORK, "fork");
	BAD(symm_barrier(mem, 0, 0), SYMM_EFORK, "fork");
	BAD(symm_free(ptr), SYMM_EFORK, "fork");
	BAD(symm_mem_release(mem), SYMM_EFORK, "fork");
	BAD(symm_group_leave(r->group), SYMM_EFORK, "fork");
	BAD(symm_close(r->context), SYMM_EFORK, "fork");
	return 0;
}

static int forked(int rank, void *arg)
{
	struct rig r = rig_of(2);
	struct symm_mem *mem;
	void *ptr;
	int status, pid;

	(void)arg;
	GOOD(rig_join(&r, rank));
	GOOD(rig_memory(&r, 4096, &ptr, &mem));
	if (rank == 0) {
		pid = fork();
		if (pid == 0)
			exit(child_of(&r, mem, ptr));
		CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%d", status);
	}
	for (int i = 0; i < 100; i++)
		GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_free(ptr));
	GOOD(rig_memory(&r, 100, &ptr, &mem));
	GOOD(symm_close(r.context));
	return 0;
}

/* ---- coming and going ---- */

static int again(int rank, void *arg)
{
	struct rig r = rig_of(2);
	struct symm_group *old;

	(void)arg;
	GOOD(rig_join(&r, rank));
	for (int i = 0; i < 5; i++) {
		old = r.group;
		GOOD(symm_group_leave(r.group));
		GOOD(symm_group_join(r.context, "world", SYMM_AUTO, SYMM_AUTO, 0, &r.group));
		CHECK(symm_group_generation(r.group) == 1, "%d", (int)symm_group_generation(r.group));
		CHECK(symm_group_status(old) == SYMM_ESTALE);
	}
	GOOD(symm_close(r.context));
	return 0;
}

/* Rank 1 stays in the group that rank 0 left: there is no way back into it. */
static int no_way_back(int rank, void *arg)
{
	struct rig r = rig_of(2);
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&r, rank));
	shared->pid[rank] = getpid();
	tap_rally(&shared->rally, 2);
	if (rank == 0) {
		char text[128];

		GOOD(symm_group_leave(r.group));
		next_step();
		snprintf(text, sizeof(text), "still there: rank 1 (%s, pid %d)", host(), shared->pid[1]);
		BAD(symm_group_join(r.context, "world", 0, 2, 300, &r.group), SYMM_EBUSY, text);
	} else {
		await_step(1);
		GOOD(symm_alloc(r.group, 64, NULL, &ptr));
		BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EPEER, "left");
	}
	tap_rally(&shared->rally, 2);
	GOOD(symm_close(r.context));
	return 0;
}

static int without_close(int rank, void *arg)
{
	struct rig r = rig_of(3);
	struct symm_mem *mem;
	void *ptr, *stream;

	(void)arg;
	GOOD(rig_join(&r, rank));
	GOOD(rig_memory(&r, 1 << 20, &ptr, &mem));
	GOOD(symm_stream_create(r.context, &stream));
	GOOD(symm_barrier_on_stream(mem, 1, 0, stream));
	GOOD(symm_barrier(mem, 0, 0));
	return 0;
}

static void test_without_close(void)
{
	double start = seconds_now();

	if (!world_fits("exit without close", 3))
		return;
	tap_ranks("exit without close", 3, without_close, NULL, 10);
	ok(seconds_now() - start < patience(2) + opening(), "and without a hang");
	ok(strcmp(ask(&redis, "DBSIZE"), ":0\r\n") != 0, "its keys are left");
	is_str(ask(&redis, "EVAL \"local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do "
			   "if redis.call('PTTL', k) <= 0 then n = n + 1 end end return n\" 0"),
	       ":0\r\n", "for a while: each has a TTL");
	ask(&redis, "FLUSHALL");
}

/* ---- many contexts of one process ---- */

static int two_contexts(int rank, void *arg)
{
	struct rig one = rig_of(4), two = rig_of(1);
	struct symm_group *group;

	(void)arg;
	two.job = "second";
	GOOD(rig_open(&one, rank));
	GOOD(rig_open(&two, SYMM_AUTO));
	GOOD(symm_group_join(two.context, "world", 0, 1, 0, &two.group));
	BAD(symm_group_find(one.context, "world", &group), SYMM_ENOENT, "no group world");
	GOOD(symm_close(one.context));
	GOOD(symm_group_status(two.group));
	GOOD(symm_close(two.context));
	return 0;
}

struct many {
	struct rig rig;
	int rank, rc;
	pthread_t thread;
};

static int use_one_of_many(struct many *m)
{
	struct symm_mem *mem;
	void *ptr;
	int next = (m->rank + 1) % m->rig.world;

	GOOD(rig_join(&m->rig, m->rank));
	GOOD(rig_memory(&m->rig, sizeof(uint64_t), &ptr, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(word_set(mem, next, 0, (uint64_t)m->rank));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(word_get(mem, m->rank, 0) == (uint64_t)((m->rank + m->rig.world - 1) % m->rig.world));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_close(m->rig.context));
	return 0;
}

static void *one_of_many(void *arg)
{
	struct many *m = arg;

	m->rc = use_one_of_many(m);
	return NULL;
}

static int many(int rank, void *arg)
{
	int world = *(const int *)arg, rc = 0;
	struct rlimit files = { .rlim_cur = 0 };
	struct many *all = calloc((size_t)world, sizeof(*all));

	(void)rank;
	CHECK(all != NULL && getrlimit(RLIMIT_NOFILE, &files) == 0);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < world; i++) {
		all[i] = (struct many){ .rig = rig_of(world), .rank = i };
		all[i].rig.timeout_ms = 60000;
		CHECK(pthread_create(&all[i].thread, NULL, one_of_many, &all[i]) == 0);
	}
	for (int i = 0; i < world; i++) {
		pthread_join(all[i].thread, NULL);
		rc |= all[i].rc;
	}
	free(all);
	return rc;
}

static size_t free_gib(void)
{
	size_t kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return kib >> 20;
}

static void test_many(int world)
{
	struct rlimit files;
	char name[64];

	getrlimit(RLIMIT_NOFILE, &files);
	snprintf(name, sizeof(name), "%d contexts of one process", world);
	if (!on_host())
		tap_skip(1, "%s: a device cannot run so many kernels at once", name);
	else if (free_gib() < 6)
		tap_skip(2, "%s: less than 6 GiB of memory are free", name);
	else if (files.rlim_max < 4 * (rlim_t)world)
		tap_skip(2, "%s: no more than %d open files are allowed", name, (int)files.rlim_max);
	else if (patience(1) > 1 && world > 100)
		tap_skip(2, "%s: this build is too slow for it", name);
	else
		run(name, 1, many, &world);
}

int main(void)
{
	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	rig.url = redis.url;
	shared = tap_shared(sizeof(*shared));
	test_join();
	run("the last rank never comes", 2, without_the_last, NULL);
	run("a rank comes late", 2, long_join, NULL);
	run("a rank is elsewhere", 3, without_the_other, NULL);
	run("another world size", 3, other_world, NULL);
	run("duplicate rank", 3, duplicate, NULL);
	run("two groups by threads", 2, cross_by_threads, NULL);
	run("two groups crossed", 2, cross_by_one_thread, NULL);
	run("fork", 2, forked, NULL);
	run("leave and join", 2, again, NULL);
	run("no way back", 2, no_way_back, NULL);
	test_without_close();
	run("two contexts", 1, two_contexts, NULL);
	test_many(64);
	test_many(1024);
	tap_redis_stop(&redis);
	return tap_done();
}
