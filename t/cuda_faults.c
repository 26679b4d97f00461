/* Every call of the driver fails in turn, on the fake driver: a rendezvous ends with one error on all ranks, nothing is
 * left behind, what is current is as before, and the next one works. The same for what a rank does alone. */
#include "cuda_help.h"

#include <dirent.h>

#define WORLD 3
#define VICTIM 1      /* whose driver fails */
#define OCCURRENCES 3 /* of a call that are tried for sure; more of them while there is time */
#define ENOUGH 4.0    /* seconds */
#define FAILURE 999   /* CUDA_ERROR_UNKNOWN */

static struct tap_redis redis;

static const char *const functions[] = {
#define NAME(name, since, needed, parameters) #name,
	SYMM_CUDA_FUNCTIONS(NAME)
#undef NAME
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

/* What ranks tell each other. */
static struct {
	int rally;
	bool late;
	int calls[FUNCTIONS]; /* of a good run */
	int code[WORLD];
	char text[WORLD][SYMM_ERROR_TEXT];
} * shared;

/* A context that cannot be popped, or a mode that cannot be set back, cannot be mended. What fails to give back is of
 * another test. */
static bool is_tried(const char *name)
{
	static const char *const words[] = {
		"Release", "Free", "Destroy", "Unload", "Unmap", "PopCurrent", "cuThread"
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(name, words[i]) != NULL)
			return false;
	return true;
}

/* Those of blocks; all: with connections, which come and go. */
static int open_fds(bool all)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char target[64];
	int n = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[length > 0 ? length : 0] = '\0';
		n += all || strstr(target, "fake-cuda") != NULL;
	}
	closedir(dir);
	return n;
}

/* ---- what is current ---- */

static struct current before_all;

/* None of ours becomes current, and a mode that is not what a thread begins with. */
static int caller_begin(struct CUctx_st *context)
{
	enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL;

	CU(cu->cuCtxSetCurrent(context));
	CU(cu->cuThreadExchangeStreamCaptureMode(&mode));
	return current_look(&before_all);
}

/* ---- what may be left ---- */

struct left {
	struct symm_fake_counts counts;
	int fds;
};

static struct left left_now(void)
{
	return (struct left){ fake_counts(), open_fds(false) };
}

/* Streams and pinned memory are kept for later, so there may be more of them after the first call than before. */
static int check_left(const struct left *before, const char *after)
{
	struct left now = left_now();

	/* The loop thread may be closing some. */
	for (double start = seconds_now(); now.fds != before->fds && seconds_now() - start < patience(5); nap_ms(1))
		now.fds = open_fds(false);
	CHECK(now.counts.handles == before->counts.handles, "%d handles after %s, %d before", now.counts.handles, after,
	      before->counts.handles);
	CHECK(now.counts.mappings == before->counts.mappings, "%d mappings after %s", now.counts.mappings, after);
	CHECK(now.counts.reservations == before->counts.reservations, "%d reservations after %s",
	      now.counts.reservations, after);
	CHECK(memcmp(&now.counts, &before->counts, sizeof(now.counts)) == 0, "after %s", after);
	CHECK(now.fds == before->fds, "%d fds after %s, %d before", now.fds, after, before->fds);
	return 0;
}

/* Call number n from now on of the function fails. */
static void arm(const char *function, int n, char failure[96])
{
	snprintf(failure, 96, "%s:%d=%d", function, fake_calls(function) + n, FAILURE);
	fake_fail(failure);
}

static void count_calls(int calls[FUNCTIONS])
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		calls[i] = fake_calls(functions[i]) - calls[i];
}

/* ---- rendezvous ---- */

/* The group's first rendezvous, which makes its arena too. function NULL: a good one, whose calls are counted. Returns
 * its code, or 1. */
static int rendezvous(struct rig *rig, int rank, const char *function, int n, char failure[96])
{
	static int number;
	struct symm_mem *mem;
	char name[32];
	void *ptr;
	int rc;

	snprintf(name, sizeof(name), "g%d", number++);
	GOOD(symm_group_join(rig->context, name, SYMM_AUTO, SYMM_AUTO, 0, &rig->group));
	GOOD(symm_alloc(rig->group, 4096, NULL, &ptr));
	tap_rally(&shared->rally, WORLD);
	if (rank == VICTIM && function != NULL)
		arm(function, n, failure);
	if (rank == VICTIM && function == NULL)
		count_calls(memset(shared->calls, 0, sizeof(shared->calls)));
	rc = symm_rendezvous(ptr, NULL, 0, &mem);
	if (rank == VICTIM && function == NULL)
		count_calls(shared->calls);
	if (rank == VICTIM)
		fake_fail(NULL);
	DO(current_same(&before_all, function != NULL ? function : "a good one"));
	shared->code[rank] = rc;
	snprintf(shared->text[rank], sizeof(shared->text[rank]), "%s", rc == 0 ? "" : symm_last_error());
	tap_rally(&shared->rally, WORLD);
	if (rc == 0) {
		GOOD(symm_barrier(mem, 0, 0));
		GOOD(symm_mem_release(mem));
	} else {
		GOOD(symm_group_status(rig->group));
	}
	GOOD(symm_free(ptr));
	GOOD(symm_group_leave(rig->group));
	return rc;
}

static int check_answer(int rank, const char *failure)
{
	char me[32];

	CHECK(shared->code[rank] == shared->code[0], "%s: %d here, %d on rank 0", failure, shared->code[rank],
	      shared->code[0]);
	CHECK(strcmp(shared->text[rank], shared->text[0]) == 0, "%s: \"%s\" here, \"%s\" on rank 0", failure,
	      shared->text[rank], shared->text[0]);
	if (shared->code[rank] == 0)
		return 0;
	snprintf(me, sizeof(me), "rank %d (", VICTIM);
	CHECK(strstr(shared->text[rank], me) != NULL, "%s: %s", failure, shared->text[rank]);
	CHECK(strstr(shared->text[rank], "999") != NULL, "%s: %s", failure, shared->text[rank]);
	return 0;
}

/* Of calls without an answer from which the rendezvous goes on: a path that cannot be looked up is for the driver to
 * judge, work that may still run is asked about again, and who gives back tries twice. */
static bool may_go_on(const char *function)
{
	static const char *const names[] = { "cuDeviceGetCount", "cuDeviceGetUuid", "cuStreamQuery", "cuCtxGetCurrent",
					     "cuCtxPushCurrent" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(function, names[i]) == 0)
			return true;
	return false;
}

static int fails(struct rig *rig, int rank, const char *function, int n)
{
	struct left before = left_now();
	char failure[96] = "";
	int rc = rendezvous(rig, rank, function, n, failure);

	snprintf(failure, sizeof(failure), "%s:%d", function, n);
	DO(check_answer(rank, failure));
	CHECK(rc != 0 || may_go_on(function), "%s fails, and nobody minds", failure);
	DO(check_left(&before, failure));
	tap_rally(&shared->rally, WORLD);
	CHECK(rendezvous(rig, rank, "none", 1, failure) == 0, "after %s", failure);
	return check_left(&before, "the next one");
}

static int each_in_turn(struct rig *rig, int rank, int *tried)
{
	double start = seconds_now();
	int most = 0;

	for (size_t i = 0; i < FUNCTIONS; i++)
		most = is_tried(functions[i]) && shared->calls[i] > most ? shared->calls[i] : most;
	for (int n = 1; n <= most && !(n > OCCURRENCES && shared->late); n++) {
		for (size_t i = 0; i < FUNCTIONS; i++) {
			if (!is_tried(functions[i]) || n > shared->calls[i])
				continue;
			DO(fails(rig, rank, functions[i], n));
			++*tried;
		}
		if (rank == VICTIM)
			shared->late = seconds_now() - start > ENOUGH;
		tap_rally(&shared->rally, WORLD);
	}
	return 0;
}

/* arg: the ranks are on two hosts. */
static int rendezvous_faults(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = WORLD };
	int ordinal = 0, other = (rank + 1) % WORLD, tried = 0, fds;
	struct CUctx_st *context;
	char failure[96];

	if (arg != NULL) {
		setenv("SYMM_FAKE_FABRIC", "1", 1);
		setenv("SYMM_BOOT_ID", rank == 2 ? "host-b" : "host-a", 1);
	}
	DO(driver_start(rank, &ordinal, &context));
	/* A group that stays keeps the links open; what else is kept for later is made by the first rendezvous. */
	GOOD(rig_join(&rig, rank));
	DO(driver_use(other, &context));
	DO(caller_begin(context));
	for (int i = 0; i < 2; i++)
		CHECK(rendezvous(&rig, rank, NULL, 0, failure) == 0);
	fds = open_fds(true);
	DO(each_in_turn(&rig, rank, &tried));
	CHECK(tried > 15, "%d calls of the driver's were tried", tried);
	CHECK(open_fds(true) < fds + tried / 2, "%d fds, %d before", open_fds(true), fds);
	tap_diag("rank %d: %d calls failed", rank, tried);
	GOOD(symm_close(rig.context));
	DO(driver_end(other));
	return driver_end(ordinal);
}

/* ---- what a rank does alone ---- */

enum { OPEN, JOIN, ALLOC, RENDEZVOUS, USE, STREAM, STEPS };
static const char *const steps[] = { "open", "join", "alloc", "rendezvous", "use", "stream" };

struct alone {
	struct rig rig;
	void *ptr;
	struct symm_mem *mem;
};

static int use(const struct alone *a)
{
	uint64_t sent = 7, got = 0;
	int rc = symm_put(a->mem, 0, 0, &sent, sizeof(sent));

	if (rc == 0)
		rc = symm_get(a->mem, 0, 0, &got, sizeof(got));
	if (rc == 0)
		rc = symm_barrier(a->mem, 0, 0);
	return rc == 0 && got != sent ? SYMM_EPROTO : rc;
}

static int use_stream(const struct alone *a)
{
	uint64_t *own;
	void *stream;
	int rc = symm_stream_create(a->rig.context, &stream), destroyed;

	if (rc != 0)
		return rc;
	own = own_memory(a->rig.context, sizeof(*own));
	if (own != NULL)
		rc = symm_put_on_stream(a->mem, 0, 8, own, sizeof(*own), stream);
	if (rc == 0)
		rc = symm_put_signal_on_stream(a->mem, 0, 0, 0, stream);
	if (rc == 0)
		rc = symm_wait_signal_on_stream(a->mem, 0, 0, 0, stream);
	if (rc == 0)
		rc = symm_stream_synchronize(stream, 0);
	own_memory_free(a->rig.context, own);
	destroyed = symm_stream_destroy(stream);
	return rc != 0 ? rc : destroyed;
}

static int step(struct alone *a, int number)
{
	switch (number) {
	case OPEN:
		return rig_open(&a->rig, 0);
	case JOIN:
		return rig_enter(&a->rig);
	case ALLOC:
		return symm_alloc(a->rig.group, 4096, NULL, &a->ptr);
	case RENDEZVOUS:
		return symm_rendezvous(a->ptr, NULL, 0, &a->mem);
	case USE:
		return use(a);
	default:
		return use_stream(a);
	}
}

/* A life of which one step has the failure; calls: how often each function was called in it. Returns the step's code.
 */
static int live(const char *function, int n, int faulty, int calls[FUNCTIONS])
{
	struct alone a = { .rig = { .url = redis.url, .world = 1, .timeout_ms = 2000 } };
	char failure[96];
	int rc = 0, code = 0, closed;

	for (int i = 0; i < STEPS && rc == 0; i++) {
		if (i == faulty && calls != NULL)
			count_calls(memset(calls, 0, FUNCTIONS * sizeof(*calls)));
		if (i == faulty && function != NULL)
			arm(function, n, failure);
		rc = step(&a, i);
		fake_fail(NULL);
		if (i == faulty && calls != NULL)
			count_calls(calls);
		DO(current_same(&before_all, steps[i]));
		if (i == faulty)
			code = rc;
		CHECK(rc == 0 || i == faulty, "step %s: %s", steps[i], symm_last_error());
	}
	closed = a.rig.context != NULL ? symm_close(a.rig.context) : 0;
	CHECK(closed == 0, "close after %s: %s", steps[faulty], symm_last_error());
	return code;
}

static int step_faults(int faulty, int *failed)
{
	double start = seconds_now();
	int calls[FUNCTIONS];
	struct left before;

	CHECK(live(NULL, 0, faulty, calls) == 0);
	before = left_now();
	for (size_t i = 0; i < FUNCTIONS; i++) {
		for (int n = 1; is_tried(functions[i]) && n <= calls[i]; n++) {
			if (n > OCCURRENCES && seconds_now() - start > ENOUGH)
				break;
			int rc = live(functions[i], n, faulty, NULL);
			char failure[96];

			snprintf(failure, sizeof(failure), "%s: %s:%d", steps[faulty], functions[i], n);
			CHECK(rc <= 0, "%s", failure);
			*failed += rc != 0;
			DO(check_left(&before, failure));
			CHECK(live(NULL, 0, faulty, NULL) == 0, "after %s", failure);
		}
	}
	return 0;
}

/* The process holds the GPU's context itself, so that the counts are comparable. */
static int alone_faults(int rank, void *arg)
{
	struct CUctx_st *context;
	int ordinal = 0, failed = 0, faulty = *(int *)arg;

	DO(driver_start(rank, &ordinal, &context));
	DO(caller_begin(NULL));
	DO(step_faults(faulty, &failed));
	CHECK(failed > 0, "no failure was seen");
	tap_diag("%s: %d failures were told", steps[faulty], failed);
	return driver_end(ordinal);
}

/* ---- giving back ---- */

static int give_back(const struct alone *a)
{
	GOOD(symm_mem_release(a->mem));
	GOOD(symm_free(a->ptr));
	GOOD(symm_group_leave(a->rig.group));
	GOOD(symm_close(a->rig.context));
	return 0;
}

static int all_steps(struct alone *a)
{
	*a = (struct alone){ .rig = { .url = redis.url, .world = 1 } };
	for (int i = 0; i < STEPS; i++)
		GOOD(step(a, i));
	return 0;
}

/* The first call from now on of what gives back fails: free, leave and close do the rest, and tell nobody but the log.
 * Addresses where memory is still mapped cannot be given back either. */
static int failing_end(int rank, void *arg)
{
	const char *function = arg;
	struct CUctx_st *context;
	struct alone a;
	char failure[96];
	int ordinal = 0, n;

	(void)rank;
	setenv("SYMM_FAKE_LEAKS", "0", 1);
	DO(driver_start(0, &ordinal, &context));
	DO(all_steps(&a));
	n = fake_calls(function) + 1;
	snprintf(failure, sizeof(failure), "%s:%d=%d%s", function, n, FAILURE,
		 strcmp(function, "cuMemUnmap") == 0 ? ",cuMemAddressFree:*=1" : "");
	fake_fail(failure);
	DO(give_back(&a));
	CHECK(fake_calls(function) >= n, "%s was not called", function);
	fake_fail(NULL);
	DO(all_steps(&a));
	return give_back(&a);
}

/* A copy is under way, and what was to count it could not be enqueued: the memory stays until it has ended. */
static int copy_uncounted(int rank, void *arg)
{
	const size_t bytes = (size_t)64 << 20;
	struct alone a = { .rig = { .url = redis.url, .world = 1 } };
	struct CUctx_st *context;
	char failure[96];
	int ordinal = 0;
	void *stream;

	(void)rank;
	(void)arg;
	DO(driver_start(0, &ordinal, &context));
	GOOD(rig_join(&a.rig, 0));
	GOOD(rig_memory(&a.rig, 2 * bytes, &a.ptr, &a.mem));
	GOOD(symm_stream_create(a.rig.context, &stream));
	arm("cuLaunchKernelEx", 1, failure);
	BAD(symm_put_on_stream(a.mem, 0, 0, (char *)a.ptr + bytes, bytes, stream), SYMM_EDEVICE, "999");
	DO(give_back(&a));
	GOOD(symm_stream_destroy(stream));
	return driver_end(ordinal);
}

/* From now on every call gives the code. */
static int fail_all(int code)
{
	char *failures = calloc(FUNCTIONS, 64);

	CHECK(failures != NULL);
	for (size_t i = 0; i < FUNCTIONS; i++)
		if (strncmp(functions[i], "cuGetError", 10) != 0)
			sprintf(failures + strlen(failures), "%s:*=%d,", functions[i], code);
	fake_fail(failures);
	free(failures);
	return 0;
}

/* The driver is shut down already, or the context is lost: calls say so, and all that is ours can be given back. */
static int lost(int rank, void *arg)
{
	struct CUctx_st *context;
	struct alone a;
	void *stream;
	int ordinal = 0;

	(void)rank;
	DO(driver_start(0, &ordinal, &context));
	DO(all_steps(&a));
	GOOD(symm_stream_create(a.rig.context, &stream));
	GOOD(symm_barrier_on_stream(a.mem, 0, 0, stream));
	GOOD(symm_stream_synchronize(stream, 0));
	DO(fail_all(*(int *)arg));
	BAD(symm_barrier(a.mem, 0, 0), SYMM_EDEVICE, "CUDA_ERROR_");
	BAD(symm_barrier_on_stream(a.mem, 0, 0, stream), SYMM_EDEVICE, "CUDA_ERROR_");
	BAD(symm_put(a.mem, 0, 0, &ordinal, sizeof(ordinal)), SYMM_EDEVICE, "CUDA_ERROR_");
	BAD(symm_stream_synchronize(stream, 0), SYMM_EDEVICE, "CUDA_ERROR_");
	CHECK(symm_stream_destroy(stream) <= 0);
	return give_back(&a);
}

/* ---- no way into the context ---- */

/* The next calls of the function fail, so many. */
static void arm_next(const char *function, int n)
{
	char failures[512] = "";

	for (int i = 1; i <= n; i++)
		snprintf(failures + strlen(failures), sizeof(failures) - strlen(failures), "%s:%d=%d,", function,
			 fake_calls(function) + i, FAILURE);
	fake_fail(failures);
}

struct given {
	struct symm_mapping at;
	symm_phys object;
};

static int take(struct symm_device *device, struct given *g)
{
	g->at.bytes = device->ops->granularity(device);
	GOOD(device->ops->create(device, g->at.bytes, &g->at.phys));
	GOOD(device->ops->reserve(device, g->at.bytes, &g->at.address));
	GOOD(device->ops->map(device, &g->at, 1));
	GOOD(device->ops->multicast_create(device, g->at.bytes, 1, &g->object));
	GOOD(device->ops->multicast_add(device, g->object));
	GOOD(device->ops->multicast_bind(device, g->object, g->at.phys, g->at.bytes));
	return 0;
}

enum { UNBIND, UNMAP, UNRESERVE, RELEASE, GIVEN };

static void give(struct symm_device *device, const struct given *g, int what)
{
	if (what == UNBIND)
		device->ops->multicast_unbind(device, g->object, g->at.bytes);
	else if (what == UNMAP)
		device->ops->unmap(device, g->at.address, g->at.bytes);
	else if (what == UNRESERVE)
		device->ops->unreserve(device, g->at.address, g->at.bytes);
	else
		device->ops->release(device, g->at.phys);
}

/* Two failures: it stays, and is told of, but not in the detail of the caller's. The next call gives it back: the first
 * failure is passed over. */
static int give_twice(struct symm_device *device, const struct given *g, int what, const char *function)
{
	static const char *const told[] = { "stays bound", "stays mapped", "addresses are leaked", "block is leaked" };
	struct symm_fake_counts before = fake_counts(), now;
	char log[1024];
	int saved;

	symm_error(SYMM_EINVAL, "what came before");
	arm_next(function, 2);
	DO(stderr_take(&saved));
	give(device, g, what);
	stderr_give(saved, log, sizeof(log));
	now = fake_counts();
	CHECK(strstr(log, told[what]) != NULL && strstr(log, "999") != NULL, "%s: \"%s\"", function, log);
	CHECK(strcmp(symm_last_error(), "what came before") == 0, "%s", symm_last_error());
	CHECK(memcmp(&now, &before, sizeof(now)) == 0, "%d fails twice and it is given back", what);
	DO(current_same(&before_all, function));
	arm_next(function, 1);
	give(device, g, what);
	now = fake_counts();
	CHECK(what == UNBIND || memcmp(&now, &before, sizeof(now)) != 0, "%d fails once and is given up", what);
	return current_same(&before_all, function);
}

static int refused_stream(struct symm_context *context, const char *function)
{
	void *stream;
	char log[1024];
	int saved;

	arm_next(function, 1);
	BAD(symm_stream_create(context, &stream), SYMM_EDEVICE, "cannot use the context of cuda:0");
	DO(current_same(&before_all, function));
	GOOD(symm_stream_create(context, &stream));
	arm_next(function, 2);
	DO(stderr_take(&saved));
	BAD(symm_stream_destroy(stream), SYMM_EDEVICE, "cannot destroy a stream of cuda:0");
	stderr_give(saved, log, sizeof(log));
	CHECK(strstr(log, "a stream is leaked") != NULL, "%s: \"%s\"", function, log);
	return current_same(&before_all, function);
}

/* Whatever of the three calls fails that lead into the context. */
static int no_entry(int rank, void *arg)
{
	static const char *const ways[] = { "cuCtxGetCurrent", "cuCtxPushCurrent",
					    "cuThreadExchangeStreamCaptureMode" };
	struct alone a = { .rig = { .url = redis.url, .world = 1 } };
	struct CUctx_st *context;
	struct symm_device *device;
	struct given g;
	int ordinal = 0;

	(void)rank;
	(void)arg;
	setenv("SYMM_FAKE_MULTICAST", "1", 1);
	setenv("SYMM_FAKE_LEAKS", "0", 1);
	DO(driver_start(0, &ordinal, &context));
	DO(caller_begin(NULL));
	GOOD(step(&a, OPEN));
	device = device_of_context(a.rig.context);
	for (int i = 0; i < 3; i++) {
		DO(take(device, &g));
		for (int what = 0; what < GIVEN; what++)
			DO(give_twice(device, &g, what, ways[i]));
		device->ops->release(device, g.object);
		DO(refused_stream(a.rig.context, ways[i]));
	}
	fake_fail(NULL);
	GOOD(symm_close(a.rig.context));
	return driver_end(ordinal);
}

/* ---- fabric handles ---- */

/* A trial that fails anywhere means that there are none: no error. */
static int no_fabric(int rank, void *arg)
{
	static const char *const trials[] = { "cuMemCreate", "cuMemExportToShareableHandle",
					      "cuMemImportFromShareableHandle" };
	struct alone a;
	int ordinal = 0;
	struct CUctx_st *context;
	char failure[96];

	(void)rank;
	(void)arg;
	setenv("SYMM_FAKE_FABRIC", "1", 1);
	DO(driver_start(0, &ordinal, &context));
	for (int i = 0; i < 4; i++) {
		struct symm_device_id id;

		a = (struct alone){ .rig = { .url = redis.url, .world = 1 } };
		if (i < 3)
			arm(trials[i], 1, failure);
		GOOD(step(&a, OPEN));
		fake_fail(NULL);
		device_of_context(a.rig.context)->ops->identify(device_of_context(a.rig.context), &id);
		CHECK(strcmp(id.fabric, i < 3 ? "-" : "fabric") == 0, "trial %d: %s", i, id.fabric);
		for (int k = JOIN; k < STEPS; k++)
			GOOD(step(&a, k));
		GOOD(symm_close(a.rig.context));
	}
	return driver_end(ordinal);
}

/* The trial worked, and then a block is refused its fabric handle: it is made without. */
static int block_without_fabric(int rank, void *arg)
{
	struct alone a = { .rig = { .url = redis.url, .world = 1 } };
	char failure[96];
	int ordinal = 0;
	struct CUctx_st *context;

	(void)rank;
	setenv("SYMM_FAKE_FABRIC", "1", 1);
	DO(driver_start(0, &ordinal, &context));
	GOOD(step(&a, OPEN));
	GOOD(step(&a, JOIN));
	snprintf(failure, sizeof(failure), "cuMemCreate:%d=%d", fake_calls("cuMemCreate") + 1, *(int *)arg);
	fake_fail(failure);
	for (int k = ALLOC; k < STEPS; k++)
		GOOD(step(&a, k));
	GOOD(symm_close(a.rig.context));
	return driver_end(ordinal);
}

int main(void)
{
	static const char *const ends[] = {
		"cuMemRelease",    "cuMemUnmap",     "cuMemAddressFree",         "cuMemFreeHost",
		"cuStreamDestroy", "cuModuleUnload", "cuDevicePrimaryCtxRelease"
	};
	int gone = SYMM_CUDA_DEINITIALIZED, illegal = SYMM_CUDA_ILLEGAL_ADDRESS;
	int refused = SYMM_CUDA_NOT_PERMITTED, missing = SYMM_CUDA_NOT_SUPPORTED;
	char name[96];

	if (!driver_choose() || !need_device(WORLD))
		return 0;
	if (!faked()) {
		tap_skip_all("only the fake driver's calls can be made to fail");
		return 0;
	}
	setenv("SYMM_FAKE_DEVICES", "3", 1);
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("each call during a rendezvous", WORLD, rendezvous_faults, NULL, 120);
	memset(shared, 0, sizeof(*shared));
	tap_ranks("each call during a rendezvous of two hosts", WORLD, rendezvous_faults, shared, 120);
	for (int i = 0; i < STEPS; i++) {
		snprintf(name, sizeof(name), "each call during %s", steps[i]);
		tap_ranks(name, 1, alone_faults, &i, 120);
	}
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(name, sizeof(name), "%s fails while all is given back", ends[i]);
		tap_ranks(name, 1, failing_end, (void *)(uintptr_t)ends[i], 60);
	}
	tap_ranks("a copy that is not counted", 1, copy_uncounted, NULL, 60);
	tap_ranks("the driver is shut down", 1, lost, &gone, 60);
	tap_ranks("the context is lost", 1, lost, &illegal, 60);
	tap_ranks("no way into the context", 1, no_entry, NULL, 60);
	tap_ranks("no fabric handles", 1, no_fabric, NULL, 60);
	tap_ranks("a block that may have no fabric handle", 1, block_without_fabric, &refused, 60);
	tap_ranks("a block that can have no fabric handle", 1, block_without_fabric, &missing, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
