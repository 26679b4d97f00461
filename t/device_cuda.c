/* The CUDA device's own manners, on the fake driver: what it says when it cannot open, the caller's context and
 * captures, paths between devices, fabric handles, work that does not begin. */
#include "device/cuda.h"
#include "device_help.h"
#include "fake/control.h"

#include <dlfcn.h>

static const struct symm_cuda_api *cuda;
static void (*fake_fail)(const char *failures);
static int (*fake_calls)(const char *name);
static int (*fake_depth)(void);
static void (*fake_counts)(struct symm_fake_counts *counts);

static void *fake(const char *name)
{
	void *library = dlopen(getenv("SYMM_LIBCUDA"), RTLD_NOW | RTLD_LOCAL);
	void *function = library != NULL ? dlsym(library, name) : NULL;

	if (function == NULL)
		tap_bail("the fake driver has no %s", name);
	return function;
}

static void fake_start(void)
{
	if (symm_cuda_load(&cuda) != 0)
		tap_bail("no fake driver: %s", symm_last_error());
	*(void **)&fake_fail = fake("symm_fake_fail");
	*(void **)&fake_calls = fake("symm_fake_calls");
	*(void **)&fake_depth = fake("symm_fake_context_depth");
	*(void **)&fake_counts = fake("symm_fake_counts");
}

static bool nothing_left(void)
{
	struct symm_fake_counts counts;
	static const struct symm_fake_counts none;

	fake_counts(&counts);
	return fake_depth() == 0 && memcmp(&counts, &none, sizeof(none)) == 0;
}

/* ---- opening ---- */

struct opening {
	const char *variable, *value;
	const char *device;
	int local_rank, share;
	int code, index;
	const char *detail;
};

static const struct opening openings[] = {
	{ NULL, NULL, "cuda", -1, 0, 0, 0, NULL },
	{ NULL, NULL, "cuda", 1, 0, 0, 1, NULL },
	{ NULL, NULL, "cuda:1", 0, 0, 0, 1, NULL },
	{ NULL, NULL, "cuda:2", 0, 0, SYMM_EDEVICE, 0, "2 GPUs are visible" },
	{ NULL, NULL, "cuda", 2, 0, SYMM_EDEVICE, 0, "SYMM_SHARE_DEVICE=1" },
	{ NULL, NULL, "cuda", 3, 1, 0, 1, NULL },
	{ "CUDA_VISIBLE_DEVICES", "1", "cuda", 3, 0, 0, 0, NULL },
	{ "CUDA_VISIBLE_DEVICES", "", "cuda", 0, 0, SYMM_EDEVICE, 0, "CUDA_VISIBLE_DEVICES" },
	{ "SYMM_LIBCUDA", "/nowhere/libcuda.so.1", "cuda", 0, 0, SYMM_EDEVICE, 0, "no CUDA driver: /nowhere/libcuda" },
	{ "SYMM_LIBCUDA", "libc.so.6", "cuda", 0, 0, SYMM_EDEVICE, 0, "it has no cuInit" },
	{ "SYMM_FAKE_STUB", "1", "cuda", 0, 0, SYMM_EDEVICE, 0, "the toolkit's stub" },
	{ "SYMM_FAKE_FAIL", "cuInit:*=3", "cuda", 0, 0, SYMM_EDEVICE, 0, "a child of fork" },
	{ "SYMM_FAKE_CC", "7.5", "cuda", 0, 0, SYMM_EDEVICE, 0, "compute capability 7.5" },
	{ "SYMM_FAKE_DRIVER_VERSION", "11030", "cuda", 0, 0, SYMM_EDEVICE, 0, "install one for 11.4 or later" },
	{ "SYMM_FAKE_DRIVER_VERSION", "11040", "cuda", 0, 0, 0, 0, NULL },
	{ "SYMM_FAKE_FABRIC", "lies", "cuda", 0, 0, 0, 0, NULL },
	{ "SYMM_FAKE_FAIL", "cuMemHostAlloc:*=2", "cuda", 0, 0, SYMM_ENOMEM, 0, "bytes are free" },
	{ "SYMM_FAKE_FAIL", "cuDevicePrimaryCtxRetain:*=46", "cuda", 0, 0, SYMM_EDEVICE, 0, "exclusive mode" },
	{ "SYMM_FAKE_FAIL", "cuModuleGetFunction:*=500", "cuda", 0, 0, SYMM_EDEVICE, 0, "symm_kernel_barrier" },
	{ "SYMM_FAKE_FAIL", "cuFuncLoad:*=2", "cuda", 0, 0, SYMM_ENOMEM, 0, "symm_kernel_barrier" },
};

static int open_as_told(int rank, void *arg)
{
	const struct opening *o = arg;
	const struct symm_device_wish wish = { o->device, o->local_rank, o->share != 0 };
	struct symm_device *opened = NULL, *again;
	int rc;

	(void)rank;
	if (o->variable != NULL)
		setenv(o->variable, o->value, 1);
	rc = symm_device_open(&wish, &opened);
	CHECK(rc == o->code, "%d: %s", rc, symm_last_error());
	CHECK(rc == 0 || (opened == NULL && strstr(symm_last_error(), o->detail) != NULL), "%s", symm_last_error());
	if (rc == 0) {
		CHECK(opened->index == o->index && opened->ops->watched);
		CHECK(symm_device_open(&wish, &again) == 0 && again == opened);
		symm_device_close(again);
		symm_device_close(opened);
	}
	return 0;
}

static void test_opening(void)
{
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
		struct opening o = openings[i];
		char name[128];

		snprintf(name, sizeof(name), "%s, local rank %d, %s=%s: %d", o.device, o.local_rank,
			 o.variable != NULL ? o.variable : "", o.value != NULL ? o.value : "", o.code);
		tap_ranks(name, 1, open_as_told, &o, 30);
	}
}

/* ---- every call of the driver's fails in turn ---- */

static const char *const functions[] = {
#define NAME(name, since, needed, parameters) #name,
	SYMM_CUDA_FUNCTIONS(NAME)
#undef NAME
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

/* What gives back has no remedy but a line in the log; nor has what stands around each call, that one's too. */
static bool may_fail(const char *name)
{
	static const char *const words[] = { "Release", "Free",  "Destroy",  "Unload",
					     "Unmap",   "cuCtx", "cuThread", "cuInit" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(name, words[i]) != NULL)
			return false;
	return true;
}

/* A life of a device: open, a block mapped, work, close. 0 or the first error, with nothing left either way. */
static int live(void)
{
	const struct symm_device_wish wish = { "cuda:0", -1, false };
	struct symm_mapping mapping = { NULL, 0, 0 };
	uint64_t value = 4711;
	void *stream = NULL, *at = NULL;
	int rc;

	if ((rc = symm_device_open(&wish, &device)) != 0)
		return rc;
	ops = device->ops;
	page = ops->granularity(device);
	if ((rc = ops->create(device, page, &mapping.phys)) != 0)
		goto close;
	if ((rc = ops->reserve(device, page, &at)) != 0)
		goto release;
	mapping.address = at;
	mapping.bytes = page;
	if ((rc = ops->map(device, &mapping, 1)) != 0)
		goto unreserve;
	if ((rc = ops->clear(device, at, page)) == 0 && (rc = ops->write(device, at, &value, sizeof(value))) == 0 &&
	    (rc = ops->read(device, &value, at, sizeof(value))) == 0 &&
	    (rc = ops->stream_create(device, &stream)) == 0) {
		rc = ops->stream_wait(device, stream, soon(10000));
		ops->stream_destroy(device, stream);
	}
	ops->unmap(device, at, page);
unreserve:
	ops->unreserve(device, at, page);
release:
	ops->release(device, mapping.phys);
close:
	symm_device_close(device);
	return rc;
}

static int fail_each(int rank, void *arg)
{
	int calls[FUNCTIONS], failed = 0;
	char failure[96];

	(void)rank;
	(void)arg;
	fake_start();
	for (size_t i = 0; i < FUNCTIONS; i++)
		calls[i] = -fake_calls(functions[i]);
	CHECK(live() == 0, "%s", symm_last_error());
	for (size_t i = 0; i < FUNCTIONS; i++)
		calls[i] += fake_calls(functions[i]);
	for (size_t i = 0; i < FUNCTIONS; i++) {
		for (int n = 1; may_fail(functions[i]) && n <= calls[i]; n++) {
			int rc;

			snprintf(failure, sizeof(failure), "%s:%d=999", functions[i], fake_calls(functions[i]) + n);
			fake_fail(failure);
			rc = live();
			fake_fail(NULL);
			failed += rc != 0;
			CHECK(rc == 0 || strstr(symm_last_error(), "999") != NULL || rc == SYMM_EDEVICE, "%s: %d %s",
			      failure, rc, symm_last_error());
			CHECK(nothing_left(), "after %s", failure);
			CHECK(live() == 0, "after %s: %s", failure, symm_last_error());
		}
	}
	CHECK(failed > 20, "%d calls failed", failed);
	return 0;
}

/* ---- the caller's context, mode and captures ---- */

/* One of everything, while the thread has whatever current. The pair was made before. */
static int use_all(const struct pair *pair)
{
	char *at = reserved(2 * page);
	symm_phys phys = block(page), same;
	void *cell = local(64), *stream = stream_new(), *host, *kernel;
	struct symm_sync_op copy, barrier[2];
	uint64_t ended = pair_ended(pair, 0);
	int fd = -1;

	CHECK(map_one(at, page, phys) == 0 && ops->clear(device, at, page) == 0);
	CHECK(ops->export(device, phys, &fd) == 0 && ops->import(device, fd, page, &same) == 0);
	close(fd);
	ops->release(device, same);
	CHECK(ops->common_alloc(device, 64, &host, &kernel) == 0);
	CHECK(set_number(at, 7) && number_at(at) == 7);
	copy = copy_of(pair, cell, at, 8);
	CHECK(ran(&copy) == 0 && number_at(cell) == 7);
	for (int rank = 0; rank < 2; rank++)
		barrier[rank] = work_of(pair, rank, SYMM_OP_BARRIER, 1);
	CHECK(launched(stream, &barrier[0]) == 1 && ran(&barrier[1]) == 0);
	CHECK(launched(stream, &copy) == 1);
	CHECK(ops->stream_wait(device, stream, soon(10000)) == 0);
	CHECK(pair_ended(pair, 0) == ended + 2, "the barrier and the copy are counted");
	CHECK(ops->stream_destroy(device, stream) == 0);
	ops->common_free(device, host);
	ops->local_free(device, cell);
	ops->unmap(device, at, page);
	ops->unreserve(device, at, 2 * page);
	ops->release(device, phys);
	return 0;
}

static int keep_context(int rank, void *arg)
{
	struct CUctx_st *other, *current;
	enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL;
	struct pair pair;

	(void)rank;
	(void)arg;
	fake_start();
	device_open("cuda:0");
	pair_make(&pair);
	CHECK(use_all(&pair) == 0);
	CHECK(cuda->cuCtxGetCurrent(&current) == 0 && current == NULL && fake_depth() == 0);
	CHECK(cuda->cuDevicePrimaryCtxRetain(&other, 1) == 0 && cuda->cuCtxSetCurrent(other) == 0);
	CHECK(cuda->cuThreadExchangeStreamCaptureMode(&mode) == 0);
	CHECK(use_all(&pair) == 0);
	CHECK(cuda->cuCtxGetCurrent(&current) == 0 && current == other && fake_depth() == 1);
	CHECK(cuda->cuThreadExchangeStreamCaptureMode(&mode) == 0);
	CHECK(mode == SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL, "%d", (int)mode);
	pair_free(&pair);
	symm_device_close(device);
	device_open("cuda");
	CHECK(device->index == 1, "the thread's current device is meant");
	symm_device_close(device);
	CHECK(cuda->cuCtxSetCurrent(NULL) == 0 && cuda->cuDevicePrimaryCtxRelease(1) == 0);
	CHECK(nothing_left());
	return 0;
}

/* A signal and a copy are captured, while all else goes on; the graph is then replayed. */
static int keep_capture(int rank, void *arg)
{
	struct CUgraphExec_st *exec;
	struct CUgraph_st *graph;
	struct symm_sync_op put, wait, copy;
	uint64_t *cell, ended;
	struct pair pair;
	void *stream;

	(void)rank;
	(void)arg;
	fake_start();
	device_open("cuda:0");
	pair_make(&pair);
	cell = local(2 * sizeof(*cell));
	stream = stream_new();
	CHECK(cuda->cuCtxSetCurrent(((struct cuda_device *)device)->context) == 0);
	CHECK(cuda->cuStreamBeginCapture(stream, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL) == 0);
	put = work_of(&pair, 0, SYMM_OP_PUT_SIGNAL, 2);
	wait = work_of(&pair, 1, SYMM_OP_WAIT_SIGNAL, 2);
	copy = copy_of(&pair, cell + 1, cell, sizeof(*cell));
	CHECK(launched(stream, &copy) == 0 && launched(stream, &put) == 0, "captured: not counted");
	CHECK(use_all(&pair) == 0);
	CHECK(cuda->cuStreamEndCapture(stream, &graph) == 0, "the capture is still valid");
	CHECK(cuda->cuGraphInstantiateWithFlags(&exec, graph, 0) == 0);
	ended = pair_ended(&pair, 0);
	for (uint64_t round = 1; round <= 3; round++) {
		CHECK(set_number(cell, round) && cuda->cuGraphLaunch(exec, stream) == 0);
		CHECK(ran(&wait) == 0 && number_at(cell + 1) == round);
		CHECK(launched(stream, &put) == 1 && ran(&wait) == 0, "eager and replayed, mixed");
	}
	CHECK(ops->stream_wait(device, stream, soon(10000)) == 0);
	CHECK(pair_ended(&pair, 0) == ended + 3, "only the eager ones count");
	CHECK(cuda->cuGraphExecDestroy(exec) == 0 && cuda->cuGraphDestroy(graph) == 0);
	CHECK(cuda->cuCtxSetCurrent(NULL) == 0);
	CHECK(ops->stream_destroy(device, stream) == 0);
	ops->local_free(device, cell);
	pair_free(&pair);
	symm_device_close(device);
	CHECK(nothing_left());
	return 0;
}

static int streams(int rank, void *arg)
{
	struct symm_device *mine;
	struct symm_sync_op put, wait;
	struct pair pair;
	void *foreign;

	(void)rank;
	(void)arg;
	fake_start();
	device_open("cuda:1");
	mine = device;
	foreign = stream_new();
	device_open("cuda:0");
	pair_make(&pair);
	put = work_of(&pair, 0, SYMM_OP_PUT_SIGNAL, 2);
	wait = work_of(&pair, 1, SYMM_OP_WAIT_SIGNAL, 2);
	CHECK(launched(NULL, &put) == 1 && ran(&wait) == 0, "the default stream");
	CHECK(launched(SYMM_CUDA_STREAM_LEGACY, &put) == 1 && ran(&wait) == 0);
	CHECK(launched(SYMM_CUDA_STREAM_PER_THREAD, &put) == 1 && ran(&wait) == 0);
	CHECK(launched(foreign, &put) == SYMM_EINVAL, "a stream of another device's");
	CHECK(strstr(symm_last_error(), "another device") != NULL, "%s", symm_last_error());
	put.crowded = true;
	CHECK(launched(NULL, &put) == SYMM_EINVAL && launched(SYMM_CUDA_STREAM_LEGACY, &put) == SYMM_EINVAL);
	CHECK(strstr(symm_last_error(), "symm_stream_create") != NULL, "%s", symm_last_error());
	CHECK(launched(SYMM_CUDA_STREAM_PER_THREAD, &put) == 1 && ran(&wait) == 0);
	pair_free(&pair);
	symm_device_close(device);
	CHECK(mine->ops->stream_destroy(mine, foreign) == 0);
	symm_device_close(mine);
	return 0;
}

/* ---- peers ---- */

static int reach(int rank, void *arg)
{
	struct symm_device_id id[2], hidden = { "cuda", "GPU-00000000-0000-0000-0000-000000000000", "-" };
	struct symm_device_id host = { "host", "-", "-" };
	struct symm_device *other;

	(void)rank;
	if (arg != NULL)
		setenv("SYMM_FAKE_NO_PEER", arg, 1);
	device_open("cuda:1");
	other = device;
	ops->identify(other, &id[1]);
	device_open("cuda:0");
	ops->identify(device, &id[0]);
	CHECK(strcmp(id[0].uuid, id[1].uuid) != 0 && strncmp(id[0].uuid, "GPU-", 4) == 0 && strlen(id[0].uuid) == 40);
	CHECK(ops->reach(device, &hidden) == 0, "for the driver to judge");
	CHECK(ops->reach(device, &host) == SYMM_EUNREACH);
	CHECK(ops->reach(device, &id[1]) == (arg != NULL ? SYMM_EUNREACH : 0));
	CHECK(arg == NULL ||
	      (strstr(symm_last_error(), id[0].uuid) != NULL && strstr(symm_last_error(), id[1].uuid) != NULL));
	symm_device_close(device);
	symm_device_close(other);
	return 0;
}

/* Memory of one device, used by another of the process. */
static int grant(int rank, void *arg)
{
	const char *no_peer = arg;
	struct symm_device *owner;
	symm_phys phys;
	void *at;
	int rc;

	(void)rank;
	if (no_peer != NULL)
		setenv("SYMM_FAKE_NO_PEER", no_peer, 1);
	device_open("cuda:0");
	owner = device;
	phys = block(page);
	at = reserved(page);
	CHECK(map_one(at, page, phys) == 0 && set_number(at, 4711));
	device_open("cuda:1");
	rc = ops->grant(device, at, page);
	CHECK(rc == (no_peer != NULL ? SYMM_EUNREACH : 0), "%d: %s", rc, symm_last_error());
	CHECK(rc == 0 || strstr(symm_last_error(), "no peer path") != NULL, "%s", symm_last_error());
	CHECK(rc != 0 || number_at(at) == 4711);
	symm_device_close(device);
	owner->ops->unmap(owner, at, page);
	owner->ops->unreserve(owner, at, page);
	owner->ops->release(owner, phys);
	symm_device_close(owner);
	return 0;
}

/* Of all the calls of a rendezvous the slowest. */
static int access_calls(int rank, void *arg)
{
	struct symm_mapping m[4];
	char *at;
	int calls;

	(void)rank;
	(void)arg;
	fake_start();
	device_open("cuda:0");
	at = reserved(5 * page);
	for (size_t i = 0; i < 4; i++)
		m[i] = (struct symm_mapping){ at + i * page, page, block(page) };
	calls = fake_calls("cuMemSetAccess");
	CHECK(ops->map(device, m, 3) == 0, "%s", symm_last_error());
	CHECK(fake_calls("cuMemSetAccess") == calls + 1, "%d for three neighbours",
	      fake_calls("cuMemSetAccess") - calls);
	for (size_t i = 0; i < 3; i++)
		ops->unmap(device, m[i].address, page);
	m[3].address = at + 4 * page;
	CHECK(ops->map(device, m, 4) == 0, "%s", symm_last_error());
	CHECK(fake_calls("cuMemSetAccess") == calls + 3, "%d where there is one gap",
	      fake_calls("cuMemSetAccess") - calls - 1);
	for (size_t i = 0; i < 4; i++) {
		CHECK(set_number(m[i].address, i));
		ops->unmap(device, m[i].address, page);
		ops->release(device, m[i].phys);
	}
	ops->unreserve(device, at, 5 * page);
	symm_device_close(device);
	return 0;
}

/* Blocks can be registered for RDMA where the GPU says that it can do that. */
static int rdma(int rank, void *arg)
{
	void (*look)(struct symm_fake_manners * manners);
	struct symm_fake_manners manners;

	(void)rank;
	if (arg != NULL)
		setenv("SYMM_FAKE_ATTRIBUTES", arg, 1);
	*(void **)&look = fake("symm_fake_manners");
	device_open("cuda:0");
	ops->release(device, block(page));
	look(&manners);
	CHECK(manners.rdma == (arg == NULL));
	symm_device_close(device);
	return 0;
}

static int fabric(int rank, void *arg)
{
	uint8_t handle[SYMM_FABRIC_BYTES], wrong[SYMM_FABRIC_BYTES] = { 1, 2, 3 };
	struct symm_device_id id;
	symm_phys phys, same;
	char *at;

	(void)rank;
	if (arg != NULL)
		setenv("SYMM_FAKE_FABRIC", arg, 1);
	device_open("cuda:0");
	ops->identify(device, &id);
	if (arg == NULL || strcmp(arg, "1") != 0) {
		CHECK(strcmp(id.fabric, "-") == 0);
	} else {
		CHECK(strcmp(id.fabric, "fabric") == 0);
		at = reserved(2 * page);
		phys = block(page);
		CHECK(ops->export_fabric(device, phys, handle) == 0, "%s", symm_last_error());
		CHECK(ops->import_fabric(device, handle, page, &same) == 0, "%s", symm_last_error());
		CHECK(map_one(at, page, phys) == 0 && map_one(at + page, page, same) == 0);
		CHECK(set_number(at, 4711) && number_at(at + page) == 4711);
		CHECK(ops->import_fabric(device, wrong, page, &same) == SYMM_EPROTO);
		ops->unmap(device, at, page);
		ops->unmap(device, at + page, page);
		ops->unreserve(device, at, 2 * page);
		ops->release(device, phys);
		ops->release(device, same);
	}
	symm_device_close(device);
	return 0;
}

/* ---- work that does not begin ---- */

/* On a GPU of one hardware queue, all stands behind a wait. */
static int give_up(int rank, void *arg)
{
	struct symm_sync_op put;
	struct pair pair;
	void *stream;

	(void)rank;
	(void)arg;
	setenv("SYMM_FAKE_QUEUES", "1", 1);
	device_open("cuda:0");
	pair_make(&pair);
	stream = stream_new();
	CHECK(gate_launch(&pair, stream, 1) == 1);
	put = work_of(&pair, 1, SYMM_OP_PUT_SIGNAL, 2);
	put.timeout_ns = 1000000;
	CHECK(ran(&put) == SYMM_ETIMEDOUT);
	CHECK(strstr(symm_last_error(), "has not begun") != NULL, "%s", symm_last_error());
	__atomic_store_n(&pair.mirror[0]->abort, (uint32_t)-SYMM_ESTORE, __ATOMIC_RELEASE);
	symm_flag_bump(&pair.mirror[0]->news);
	CHECK(ops->stream_wait(device, stream, soon(10000)) == 0);
	put.timeout_ns = UINT64_C(1000000000);
	put.channel = 3;
	CHECK(ran(&put) == 0, "the device is of use again: %s", symm_last_error());
	CHECK(ops->stream_destroy(device, stream) == 0);
	pair_free(&pair);
	symm_device_close(device);
	return 0;
}

int main(void)
{
	const char *folder = getenv("top_builddir");
	char path[512], all[] = "0-1", there[] = "0>1", back[] = "1>0", none[] = "110=0", lies[] = "lies";
	char works[] = "1";

	snprintf(path, sizeof(path), "%s/t/fake/libcuda.so.1", folder != NULL ? folder : ".");
	if (access(path, R_OK) != 0) {
		tap_skip_all("no fake driver");
		return 0;
	}
	setenv("SYMM_LIBCUDA", path, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	test_opening();
	tap_ranks("each call of the driver fails in turn", 1, fail_each, NULL, 120);
	tap_ranks("the caller's context and capture mode stay", 1, keep_context, NULL, 30);
	tap_ranks("the caller's capture stays valid", 1, keep_capture, NULL, 30);
	tap_ranks("streams of all kinds", 1, streams, NULL, 30);
	tap_ranks("devices with a path", 1, reach, NULL, 30);
	tap_ranks("devices without a path", 1, reach, all, 30);
	tap_ranks("devices with a path back", 1, reach, there, 30);
	tap_ranks("devices with a path there", 1, reach, back, 30);
	tap_ranks("one access to neighbours", 1, access_calls, NULL, 30);
	tap_ranks("memory for RDMA", 1, rdma, NULL, 30);
	tap_ranks("memory without RDMA", 1, rdma, none, 30);
	tap_ranks("access to another device's memory", 1, grant, NULL, 30);
	tap_ranks("no access to another device's memory", 1, grant, all, 30);
	tap_ranks("no fabric", 1, fabric, NULL, 30);
	tap_ranks("a fabric that is said to be there", 1, fabric, lies, 30);
	tap_ranks("fabric handles", 1, fabric, works, 30);
	tap_ranks("work that does not begin is given up", 1, give_up, NULL, 60);
	return tap_done();
}
