/* Multicast, on the fake driver and never on another: made and taken down, refused, failing at each of its driver calls
 * on one rank, and with a rank that dies or stops on the way. */
#include "cuda_help.h"
#include "keyspace.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>

#define BYTES 100000
#define MOST_RANKS 3

static struct tap_redis redis;
static struct {
	int rally;
	int voting[MOST_RANKS];
	int victim_pid;
	double died;
} * shared;
static int world;

/* ---- what the ranks ask of the store for multicast ---- */

enum { NOWHERE, BEFORE_PUBLISH, AFTER_PUBLISH, BEFORE_VOTE, AFTER_VOTE };

static struct {
	int at, signal;
} fault;
static int asked;
static int voting; /* handles of memory when the rank votes */

static void reach(const struct symm_keyspace *ks, int at)
{
	if (ks->part[0] == '\0')
		return;
	asked++;
	if (at == BEFORE_VOTE)
		voting = fake_counts().handles;
	if (fault.at != at)
		return;
	fault.at = NOWHERE;
	shared->died = seconds_now();
	raise(fault.signal);
}

#define WRAP(name, before, after, parameters, arguments)                                                               \
	int __real_##name parameters;                                                                                  \
	int __wrap_##name parameters;                                                                                  \
	int __wrap_##name parameters                                                                                   \
	{                                                                                                              \
		int rc;                                                                                                \
                                                                                                                       \
		reach(ks, before);                                                                                     \
		rc = __real_##name arguments;                                                                          \
		reach(ks, after);                                                                                      \
		return rc;                                                                                             \
	}

WRAP(symm_keyspace_publish, BEFORE_PUBLISH, AFTER_PUBLISH,
     (struct symm_keyspace * ks, const struct symm_member *member, int size, uint64_t seq, const char *digest,
      const struct symm_offer *offer, const struct symm_err *failure, int64_t ttl_ms, int64_t deadline,
      const struct symm_meanwhile *meanwhile, struct symm_verdict *verdict),
     (ks, member, size, seq, digest, offer, failure, ttl_ms, deadline, meanwhile, verdict))
WRAP(symm_keyspace_vote, BEFORE_VOTE, AFTER_VOTE,
     (struct symm_keyspace * ks, const struct symm_member *member, int size, uint64_t seq,
      const struct symm_err *failure, int64_t ttl_ms, int64_t deadline, struct symm_verdict *verdict),
     (ks, member, size, seq, failure, ttl_ms, deadline, verdict))

/* ---- a rank ---- */

static int join(struct rig *rig, int rank, int64_t timeout_ms)
{
	*rig = (struct rig){ .url = redis.url, .world = world, .timeout_ms = timeout_ms };
	return rig_join(rig, rank);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* What a rendezvous and its end must leave as it was. */
struct state {
	struct symm_fake_counts counts;
	int fds;
};

static struct state look(void)
{
	return (struct state){ fake_counts(), count_fds() };
}

static int same(const struct state *before)
{
	struct state now = look();

	CHECK(memcmp(&now.counts, &before->counts, sizeof(now.counts)) == 0,
	      "handles %d, before %d; mappings %d, before %d; reservations %d, before %d", now.counts.handles,
	      before->counts.handles, now.counts.mappings, before->counts.mappings, now.counts.reservations,
	      before->counts.reservations);
	CHECK(now.fds <= before->fds, "%d fds, before %d", now.fds, before->fds);
	return 0;
}

static int check_with(struct symm_mem *mem)
{
	char *all = symm_mem_multicast(mem);

	CHECK(symm_mem_has_multicast(mem) == 1 && all != NULL);
	for (int rank = 0; rank < world; rank++)
		CHECK(all != symm_mem_buffer(mem, rank));
	CHECK(device_write(device_of(mem), all, "x", 1), "%s", symm_last_error());
	return 0;
}

static int check_without(struct symm_mem *mem)
{
	CHECK(symm_mem_has_multicast(mem) == 0);
	CHECK(symm_mem_multicast(mem) == NULL && strstr(symm_last_error(), "without multicast") != NULL, "%s",
	      symm_last_error());
	CHECK(block_fill(mem, (symm_mem_rank(mem) + 1) % world, 7, BYTES));
	return 0;
}

static int end(void *ptr, struct symm_mem *mem)
{
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	tap_rally(&shared->rally, world);
	return 0;
}

/* One that leaves all as it was. */
static int with_multicast(struct rig *rig)
{
	struct state before;
	struct symm_mem *mem;
	void *ptr;

	tap_rally(&shared->rally, world);
	before = look();
	GOOD(rig_memory(rig, BYTES, &ptr, &mem));
	DO(check_with(mem));
	DO(end(ptr, mem));
	return same(&before);
}

/* The first makes what stays: the words of all synchronisation, streams, connections. */
static int warm_up(struct rig *rig)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_memory(rig, BYTES, &ptr, &mem));
	return end(ptr, mem);
}

/* ---- it works ---- */

static int works(int rank, void *arg)
{
	struct rig rig;
	struct symm_mem *mem, *kept;
	void *ptr;

	(void)arg;
	CHECK(symm_has_multicast_support("host") == 0 && symm_has_multicast_support("cuda:0") == 1);
	BAD(symm_has_multicast_support("no such"), SYMM_EINVAL, "no such");
	GOOD(join(&rig, rank, 0));
	DO(warm_up(&rig));
	for (int i = 0; i < 3; i++)
		DO(with_multicast(&rig));
	shared->voting[rank] = voting;
	tap_rally(&shared->rally, world);
	CHECK(shared->voting[0] == shared->voting[1] + 1,
	      "rank 0 has the object that it made until all have it: %d, %d", shared->voting[0], shared->voting[1]);
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	GOOD(symm_mem_find(ptr, NULL, &kept));
	CHECK(symm_mem_multicast(kept) == symm_mem_multicast(mem) && symm_mem_has_multicast(kept) == 1);
	GOOD(symm_mem_release(kept));
	GOOD(symm_close(rig.context));
	BAD(symm_mem_has_multicast(mem), SYMM_ESTALE, "");
	CHECK(symm_mem_multicast(mem) == NULL);
	return 0;
}

struct thread {
	pthread_t id;
	int rank, failed;
};

static int work_as_thread(int rank)
{
	char device[16];
	struct symm_options options = SYMM_OPTIONS_INIT;
	struct rig rig = { .url = redis.url, .world = world };
	struct symm_mem *mem;
	void *ptr;

	snprintf(device, sizeof(device), "cuda:%d", rank);
	options.url = redis.url;
	options.device = device;
	options.rank = rank;
	options.world_size = world;
	GOOD(symm_open(&options, &rig.context));
	GOOD(rig_enter(&rig));
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	DO(check_with(mem));
	DO(end(ptr, mem));
	GOOD(symm_close(rig.context));
	return 0;
}

static void *run_thread(void *arg)
{
	struct thread *thread = arg;

	thread->failed = work_as_thread(thread->rank);
	return NULL;
}

static int in_threads(int rank, void *arg)
{
	struct thread threads[MOST_RANKS];
	int failed = 0;

	(void)arg;
	for (rank = 0; rank < world; rank++) {
		threads[rank].rank = rank;
		pthread_create(&threads[rank].id, NULL, run_thread, &threads[rank]);
	}
	for (rank = 0; rank < world; rank++) {
		pthread_join(threads[rank].id, NULL);
		failed |= threads[rank].failed;
	}
	return failed;
}

/* ---- it is refused: nobody tries, and nobody asks the store for more than without ---- */

struct refusal {
	const char *name;
	const char *variable, *value; /* NULL: unset; on rank 1 */
	bool everywhere;
};

static const struct refusal refusals[] = {
	{ "not asked for by one", "SYMM_MULTICAST", NULL, false },
	{ "not asked for", "SYMM_MULTICAST", NULL, true },
	{ "SYMM_MULTICAST=0", "SYMM_MULTICAST", "0", false },
	{ "NCCL_NVLS_ENABLE=0", "NCCL_NVLS_ENABLE", "0", false },
	{ "NVSHMEM_DISABLE_NVLS=1", "NVSHMEM_DISABLE_NVLS", "1", false },
	{ "TORCH_SYMM_MEM_DISABLE_MULTICAST=1", "TORCH_SYMM_MEM_DISABLE_MULTICAST", "1", true },
	{ "a device without it", "SYMM_FAKE_MULTICAST", "0", false },
	{ "a driver without it", "SYMM_FAKE_DRIVER_VERSION", "12000", false },
	{ "a shared GPU", "CUDA_VISIBLE_DEVICES", "0", true },
};

static int refused(int rank, void *arg)
{
	const struct refusal *r = arg;
	bool mine = rank == 1 || r->everywhere;
	struct rig rig;
	struct symm_mem *mem;
	void *ptr;

	if (mine && r->value != NULL)
		setenv(r->variable, r->value, 1);
	else if (mine)
		unsetenv(r->variable);
	if (strcmp(r->variable, "CUDA_VISIBLE_DEVICES") != 0)
		CHECK(symm_has_multicast_support("cuda:0") == !mine);
	GOOD(join(&rig, rank, 0));
	GOOD(rig_memory(&rig, BYTES, &ptr, &mem));
	DO(check_without(mem));
	CHECK(asked == 0 && fake_calls("cuMulticastCreate") == 0 && fake_calls("cuMulticastAddDevice") == 0);
	DO(end(ptr, mem));
	GOOD(symm_close(rig.context));
	return 0;
}

/* ---- a driver call fails on one rank: all go on without ---- */

struct failure {
	const char *call;
	bool maker; /* only rank 0 makes it, for the object */
	const char *why;
};

static const struct failure failures[] = {
	{ "cuMulticastGetGranularity", true, "granularity of multicast" },
	{ "cuMulticastCreate", true, "cannot make a multicast object" },
	{ "cuMemExportToShareableHandle", true, "cannot export" },
	{ "cuMemImportFromShareableHandle", false, "cannot import" },
	{ "cuMulticastAddDevice", false, "to a multicast object" },
	{ "cuMulticastBindMem", false, "cannot bind" },
	{ "cuMemAddressReserve", false, "cannot reserve" },
	{ "cuMemMap", false, "cannot map" },
	{ "cuMemSetAccess", false, "cannot get access" },
};

struct failing {
	const struct failure *failure;
	int rank;
};

/* How often a rendezvous makes the call: the last time it is for the object. */
static int count_calls(struct rig *rig, const char *call, int *n)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(symm_alloc(rig->group, BYTES, NULL, &ptr));
	*n = fake_calls(call);
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	*n = fake_calls(call) - *n;
	return end(ptr, mem);
}

/* Every rank logs the one reason, and who it was. */
static int rendezvous_without(const struct failing *f, int rank, int n, void *ptr, struct symm_mem **mem)
{
	char text[64], who[16], log[4096] = "";
	int saved, rc;

	snprintf(text, sizeof(text), "%s:%d=800", f->failure->call, fake_calls(f->failure->call) + n);
	if (rank == f->rank)
		fake_fail(text);
	DO(stderr_take(&saved));
	rc = symm_rendezvous(ptr, NULL, 0, mem);
	stderr_give(saved, log, sizeof(log));
	fake_fail(NULL);
	GOOD(rc);
	snprintf(who, sizeof(who), "rank %d (", f->rank);
	CHECK(strstr(log, "made without multicast") != NULL && strstr(log, who) != NULL &&
		      strstr(log, f->failure->why) != NULL,
	      "%s", log);
	return 0;
}

static int fails(int rank, void *arg)
{
	const struct failing *failing = arg;
	struct rig rig;
	struct symm_mem *mem;
	struct state before;
	void *ptr;
	int n;

	GOOD(join(&rig, rank, 0));
	DO(warm_up(&rig));
	DO(count_calls(&rig, failing->failure->call, &n));
	tap_rally(&shared->rally, world);
	before = look();
	GOOD(symm_alloc(rig.group, BYTES, NULL, &ptr));
	DO(rendezvous_without(failing, rank, n, ptr, &mem));
	DO(check_without(mem));
	DO(end(ptr, mem));
	DO(same(&before));
	DO(with_multicast(&rig));
	GOOD(symm_close(rig.context));
	return 0;
}

static void test_failures(void)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		for (int rank = 0; rank < (failures[i].maker ? 1 : world); rank++) {
			struct failing failing = { &failures[i], rank };
			char name[96];

			snprintf(name, sizeof(name), "%s fails on rank %d of %d", failures[i].call, rank, world);
			tap_ranks(name, world, fails, &failing, 60);
		}
}

/* The memory that every rank maps cannot be mapped here: that is no matter of multicast, but nobody waits there for
 * this rank. */
static int fails_before(int rank, void *arg)
{
	double start;
	struct rig rig;
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(join(&rig, rank, 0));
	DO(warm_up(&rig));
	GOOD(symm_alloc(rig.group, BYTES, NULL, &ptr));
	if (rank == 1)
		fake_fail("cuMemMap:*=800");
	start = seconds_now();
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EDEVICE, "rank 1 (");
	CHECK(strstr(symm_last_error(), "cannot map") != NULL && seconds_now() - start < patience(5), "%s",
	      symm_last_error());
	fake_fail(NULL);
	DO(with_multicast(&rig));
	GOOD(symm_close(rig.context));
	return 0;
}

/* ---- a rank dies or stops ---- */

struct loss {
	int at, signal, victim;
};

static int lose(int rank, void *arg)
{
	const struct loss *loss = arg;
	struct rig rig;
	struct symm_mem *mem;
	char who[16];
	void *ptr;
	int code = loss->signal == SIGSTOP ? SYMM_ETIMEDOUT : SYMM_EPEER;

	GOOD(join(&rig, rank, loss->signal == SIGSTOP ? 700 : 0));
	GOOD(symm_alloc(rig.group, BYTES, NULL, &ptr));
	if (rank == loss->victim) {
		shared->victim_pid = getpid();
		fault.at = loss->at;
		fault.signal = loss->signal;
	}
	tap_rally(&shared->rally, world);
	snprintf(who, sizeof(who), "rank %d (", loss->victim);
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), code, who);
	if (loss->signal == SIGKILL)
		CHECK(seconds_now() - shared->died < patience(1), "after %.3f s", seconds_now() - shared->died);
	else if (rank != loss->victim)
		kill(shared->victim_pid, SIGCONT);
	GOOD(symm_close(rig.context));
	return 0;
}

static void test_loss(int at, int signal, int victim)
{
	static const char *const places[] = { "", "before the first word", "after the first word",
					      "before the second word", "after the second word" };
	struct loss loss = { at, signal, victim };
	int pid[MOST_RANKS];

	memset(shared, 0, sizeof(*shared));
	ask(&redis, "FLUSHALL");
	tap_ranks_start(world, lose, &loss, pid);
	for (int rank = 0; rank < world; rank++)
		is_int(tap_wait(pid[rank], 30), rank == victim && signal == SIGKILL ? SIGKILL : 0,
		       "rank %d of %d %s %s: rank %d", victim, world, signal == SIGKILL ? "dies" : "stops", places[at],
		       rank);
}

/* ---- all ---- */

static void begin(int n)
{
	world = n;
	memset(shared, 0, sizeof(*shared));
}

static void test_world(int n)
{
	begin(n);
	tap_ranks("multicast", world, works, NULL, 60);
	is_str(ask(&redis, "DBSIZE"), ":0\r\n", "nothing is left in the store");
	tap_ranks("multicast among threads", 1, in_threads, NULL, 60);
	test_failures();
	tap_ranks("what fails before multicast", world, fails_before, NULL, 60);
	is_str(ask(&redis, "DBSIZE"), ":0\r\n", "nothing is left in the store");
	for (int at = BEFORE_PUBLISH; at <= AFTER_VOTE; at++)
		for (int victim = 0; victim < 2; victim++)
			test_loss(at, SIGKILL, victim);
	test_loss(BEFORE_PUBLISH, SIGSTOP, 0);
	test_loss(BEFORE_VOTE, SIGSTOP, 1);
}

int main(void)
{
	if (!driver_choose())
		return 0;
	/* Where GPUs are shared, others may lose theirs by it. */
	if (!faked()) {
		tap_skip_all("multicast is tried on the fake driver only");
		return 0;
	}
	setenv("SYMM_FAKE_MULTICAST", "1", 1);
	setenv("SYMM_FAKE_DEVICES", "4", 1);
	setenv("SYMM_MULTICAST", "1", 1);
	unsetenv("NCCL_NVLS_ENABLE");
	unsetenv("NVSHMEM_DISABLE_NVLS");
	unsetenv("TORCH_SYMM_MEM_DISABLE_MULTICAST");
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	test_world(2);
	test_world(3);
	begin(2);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		tap_ranks(refusals[i].name, world, refused, (void *)(uintptr_t)&refusals[i], 60);
	tap_redis_stop(&redis);
	return tap_done();
}
