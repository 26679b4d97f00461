/* What is made again and again leaves nothing behind: descriptors, mappings, memory, threads, keys in Redis. And many
 * descriptors at once, as an unprivileged user. */
#include "ask.h"
#include "rig.h"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORLD 3
#define BYTES 16384
#define NOBODY 65534

static struct tap_redis redis;
static int *rally;

/* ---- what a process uses ---- */

struct usage {
	long fds, mappings, address_kib, shared_kib, threads, keys;
};

static long count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	long n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

static long count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	long n = 0;
	int c;

	while (file != NULL && (c = getc(file)) != EOF)
		n += c == '\n';
	if (file != NULL)
		fclose(file);
	return n;
}

static void read_status(struct usage *usage)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		sscanf(line, "VmSize: %ld", &usage->address_kib);
		sscanf(line, "RssShmem: %ld", &usage->shared_kib);
		sscanf(line, "Threads: %ld", &usage->threads);
	}
	if (file != NULL)
		fclose(file);
}

/* All ranks look at the same time, when nobody is in a call. */
static struct usage look(int world)
{
	struct usage usage = { 0 };

	tap_rally(rally, world);
	usage.fds = count_fds();
	usage.mappings = count_mappings();
	read_status(&usage);
	sscanf(ask(&redis, "DBSIZE"), ":%ld", &usage.keys);
	tap_rally(rally, world);
	return usage;
}

/* malloc and the arena of synchronisation words may stand elsewhere, and the first refresh of a lease makes a key; what
 * leaked each time would be far above. A sanitizer keeps what was freed, and maps some more of its own, once. */
static int compare(const struct usage *before, const struct usage *after)
{
	bool sanitizer = patience(1) != 1;

	CHECK(after->fds == before->fds, "(%ld, then %ld)", before->fds, after->fds);
	CHECK(after->threads == before->threads, "(%ld, then %ld)", before->threads, after->threads);
	CHECK(after->keys <= before->keys + 1, "(%ld, then %ld)", before->keys, after->keys);
	CHECK(after->mappings <= before->mappings + (sanitizer ? 48 : 16), "(%ld, then %ld)", before->mappings,
	      after->mappings);
	CHECK(after->shared_kib <= before->shared_kib + 1024, "(%ld, then %ld)", before->shared_kib, after->shared_kib);
	if (!sanitizer)
		CHECK(after->address_kib <= before->address_kib + 4096, "(%ld, then %ld)", before->address_kib,
		      after->address_kib);
	return 0;
}

/* ---- again and again ---- */

static int once(struct rig *rig, int rank)
{
	struct symm_mem *mem;
	void *ptr;

	(void)rank;
	GOOD(rig_memory(rig, BYTES, &ptr, &mem));
	for (int peer = 0; peer < rig->world; peer++)
		CHECK(block_fill(mem, peer, 1, BYTES));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	return 0;
}

static int once_failing(struct rig *rig, int rank)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(symm_alloc(rig->group, rank == 1 ? 2 * BYTES : BYTES, NULL, &ptr));
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EMISMATCH, "size=");
	GOOD(symm_free(ptr));
	return 0;
}

/* A life of a rank, from open to close. */
static int once_all(struct rig *rig, int rank)
{
	GOOD(rig_join(rig, rank));
	if (once(rig, rank) != 0)
		return 1;
	GOOD(symm_group_leave(rig->group));
	GOOD(symm_close(rig->context));
	return 0;
}

static int repeat(struct rig *rig, int rank, int times, int (*what)(struct rig *rig, int rank))
{
	struct usage before, after;

	for (int i = 0; i < 10; i++)
		if (what(rig, rank) != 0)
			return 1;
	before = look(rig->world);
	for (int i = 10; i < times; i++)
		if (what(rig, rank) != 0)
			return 1;
	after = look(rig->world);
	return compare(&before, &after);
}

static int rendezvous(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	if (repeat(rig, rank, 10 + rounds(490), once) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

static int failing_rendezvous(int rank, void *arg)
{
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	if (repeat(rig, rank, 10 + rounds(90), once_failing) != 0)
		return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

static int lives(int rank, void *arg)
{
	return repeat(arg, rank, 10 + rounds(90), once_all);
}

/* ---- many descriptors ---- */

/* Root may have any number of descriptors in flight; others not. */
static int become_nobody(void)
{
	struct rlimit limit = { 1024, 1024 };

	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (geteuid() != 0)
		return 0;
	CHECK(syscall(SYS_setgroups, 0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
	/* Lost with the user. */
	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	return 0;
}

static int many_fds(int rank, void *arg)
{
	enum { ALLOCATIONS = 20 };
	struct rig *rig = arg;
	struct symm_mem *mem[ALLOCATIONS];
	char *ptr;
	void *got;

	if (become_nobody() != 0)
		return 1;
	GOOD(rig_join(rig, rank));
	for (int i = 0; i < ALLOCATIONS; i++) {
		GOOD(rig_memory(rig, (size_t)rig->world, &got, &mem[i]));
		for (int peer = 0; peer < rig->world; peer++)
			((char *)symm_mem_buffer(mem[i], peer))[rank] = (char)(rank + i);
	}
	GOOD(symm_barrier(mem[0], 0, 0));
	for (int i = 0; i < ALLOCATIONS; i++) {
		ptr = symm_mem_buffer(mem[i], rank);
		for (int peer = 0; peer < rig->world; peer++)
			CHECK(ptr[peer] == peer + i, "(allocation %d, rank %d)", i, peer);
	}
	GOOD(symm_barrier(mem[0], 0, 0));
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct {
		const char *name;
		int world;
		int (*run)(int rank, void *arg);
	} tests[] = {
		{ "500 times alloc, rendezvous and free", WORLD, rendezvous },
		{ "100 rendezvous that fail", WORLD, failing_rendezvous },
		{ "100 lives", WORLD, lives },
		{ "20 allocations of 33 unprivileged ranks", 33, many_fds },
	};

	if (!need_device(2))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_TCP); /* another user cannot reach the socket */
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		int world = tests[i].world < most_ranks() ? tests[i].world : most_ranks();
		struct rig rig = { .url = redis.url, .world = world };

		if (tests[i].run == many_fds && !on_host()) {
			tap_skip(1, "%s: another user may have no device", tests[i].name);
			continue;
		}
		*rally = 0;
		tap_ranks(tests[i].name, world, tests[i].run, &rig, 60);
	}
	has_str(ask(&redis, "DBSIZE"), ":0", "nothing is left in Redis");
	tap_redis_stop(&redis);
	return tap_done();
}
