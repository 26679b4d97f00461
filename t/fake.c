/* The fake driver: what it promises to those who are tested on it. t/fake_misuse.c: what it does not let pass. */
#include "fake_help.h"
#include "symm/kernel/layout.h"

#include <pthread.h>
#include <unistd.h>

/* ---- devices, versions, failures ---- */

static int devices(int rank, void *arg)
{
	struct symm_cuda_uuid a, b;
	int n, can;

	BEGIN("SYMM_FAKE_DEVICES=4 CUDA_VISIBLE_DEVICES=2,0,1 SYMM_FAKE_NO_PEER=0-2 SYMM_FAKE_CC=8.6");
	CUDA(cuda->cuDeviceGetCount(&n));
	CHECK(n == 3);
	CUDA(cuda->cuDeviceGetUuid(&a, 0));
	CUDA(cuda->cuDeviceGetUuid(&b, 1));
	CHECK(a.bytes[15] == 2 && b.bytes[15] == 0);
	CUDA(cuda->cuDeviceCanAccessPeer(&can, 0, 1));
	CHECK(!can);
	CUDA(cuda->cuDeviceCanAccessPeer(&can, 2, 1));
	CHECK(can);
	CUDA(cuda->cuDeviceGetAttribute(&n, SYMM_CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0));
	CHECK(n == 6);
	return finish();
}

static int old_driver(int rank, void *arg)
{
	enum symm_cuda_result (*find)(const char *, void **, int, uint64_t, int *);
	void *function;
	int status;

	BEGIN("SYMM_FAKE_DRIVER_VERSION=12000");
	CHECK(cuda->version == 12000 && cuda->cuFuncLoad == NULL && cuda->cuMulticastCreate == NULL);
	*(void **)&find = dlsym(dlopen(getenv("SYMM_LIBCUDA"), RTLD_NOW), "cuGetProcAddress_v2");
	CUDA(find("cuMemCreate", &function, 10010, 0, &status));
	CHECK(function == NULL && status == 2);
	CUDA(find("cuMemDestroy", &function, 12000, 0, &status));
	CHECK(function == NULL && status == 1);
	return finish();
}

static int no_driver(int rank, void *arg)
{
	(void)rank, (void)arg;
	set_variables("SYMM_FAKE_STUB=1");
	CHECK(symm_cuda_load(&cuda) == SYMM_EDEVICE);
	return 0;
}

static int failures(int rank, void *arg)
{
	void *memory;

	BEGIN("SYMM_FAKE_FAIL=cuStreamQuery:2=719,cuMemHostAlloc:*=2");
	CUDA(cuda->cuStreamQuery(NULL));
	REFUSED(cuda->cuStreamQuery(NULL), 719);
	CUDA(cuda->cuStreamQuery(NULL));
	CHECK(get_calls("cuStreamQuery") == 3);
	REFUSED(cuda->cuMemHostAlloc(&memory, 8, 0), 2);
	set_failures(NULL);
	CUDA(cuda->cuMemHostAlloc(&memory, 8, 0));
	CUDA(cuda->cuMemFreeHost(memory));
	return finish();
}

static int contexts(int rank, void *arg)
{
	struct CUctx_st *other, *current;
	address memory;
	pid_t child;

	BEGIN("SYMM_FAKE_DEVICES=2");
	CUDA(cuda->cuDevicePrimaryCtxRetain(&other, 1));
	CHECK(other != context && get_depth() == 1);
	CUDA(cuda->cuCtxPushCurrent(other));
	CUDA(cuda->cuCtxGetDevice(&rank));
	CHECK(rank == 1 && get_depth() == 2);
	CUDA(cuda->cuCtxPopCurrent(&current));
	CUDA(cuda->cuCtxSetCurrent(NULL));
	REFUSED(cuda->cuMemAlloc(&memory, 8), SYMM_CUDA_INVALID_CONTEXT);
	CUDA(cuda->cuDevicePrimaryCtxRelease(1));
	REFUSED(cuda->cuCtxSetCurrent(other), SYMM_CUDA_INVALID_CONTEXT);
	CUDA(cuda->cuCtxSetCurrent(context));
	child = fork();
	if (child == 0)
		_exit(cuda->cuDeviceGetCount(&rank) == SYMM_CUDA_NOT_INITIALIZED ? 0 : 1);
	CHECK(tap_wait(child, 10) == 0, "the child of a fork");
	return finish();
}

/* ---- memory ---- */

static int memory(int rank, void *arg)
{
	address own, imported, at, again;
	struct symm_fake_counts counts;
	size_t left, total;
	int fd;

	BEGIN("SYMM_FAKE_MEMORY=8388608");
	CUDA(cuda->cuMemCreate(&own, 3 * GRANULE, &gpu0, 0));
	REFUSED(cuda->cuMemCreate(&imported, 2 * GRANULE, &gpu0, 0), SYMM_CUDA_OUT_OF_MEMORY);
	CUDA(cuda->cuMemGetInfo(&left, &total));
	CHECK(left == GRANULE && total == 4 * GRANULE);
	CUDA(cuda->cuMemExportToShareableHandle(&fd, own, gpu0.requestedHandleTypes, 0));
	CUDA(cuda->cuMemImportFromShareableHandle(&imported, (void *)(intptr_t)fd, gpu0.requestedHandleTypes));
	close(fd);
	REFUSED(cuda->cuMemImportFromShareableHandle(&at, NULL, gpu0.requestedHandleTypes), SYMM_CUDA_INVALID_VALUE);
	CHECK(map(own, 3 * GRANULE, &at) == 0 && map(imported, 3 * GRANULE, &again) == 0);
	CUDA(cuda->cuMemRelease(own));
	CUDA(cuda->cuMemRelease(imported));
	CHECK(*(uint8_t *)(uintptr_t)at == 0xa5, "fresh memory is not zero");
	*(uint32_t *)(uintptr_t)(at + GRANULE) = 7;
	CHECK(*(uint32_t *)(uintptr_t)(again + GRANULE) == 7);
	get_counts(&counts);
	CHECK(counts.handles == 2 && counts.mappings == 2 && counts.reservations == 2 && counts.modules == 1);
	CHECK(unmap(at, 3 * GRANULE) == 0 && unmap(again, 3 * GRANULE) == 0);
	return finish();
}

static int no_fabric(int rank, void *arg)
{
	struct symm_cuda_prop prop = gpu0;
	address handle;
	int can;

	BEGIN("SYMM_FAKE_FABRIC=lies");
	prop.requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC;
	CUDA(cuda->cuDeviceGetAttribute(&can, SYMM_CUDA_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, 0));
	CHECK(can == 1);
	REFUSED(cuda->cuMemCreate(&handle, GRANULE, &prop, 0), SYMM_CUDA_NOT_PERMITTED);
	return finish();
}

/* What the ranks of a test have in common. */
struct common {
	int rally[8];
	char fabric[64], multicast[64];
};

static int fabric(int rank, void *arg)
{
	struct common *common = arg;
	struct symm_cuda_prop prop = gpu0;
	address handle, at;

	if (begin("SYMM_FAKE_FABRIC=1") != 0)
		return 1;
	prop.requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC;
	if (rank == 0) {
		CUDA(cuda->cuMemCreate(&handle, GRANULE, &prop, 0));
		CUDA(cuda->cuMemExportToShareableHandle(common->fabric, handle, prop.requestedHandleTypes, 0));
	}
	tap_rally(&common->rally[0], 2);
	if (rank == 1)
		CUDA(cuda->cuMemImportFromShareableHandle(&handle, common->fabric, prop.requestedHandleTypes));
	CHECK(map(handle, GRANULE, &at) == 0);
	CUDA(cuda->cuMemRelease(handle));
	((volatile char *)(uintptr_t)at)[rank] = (char)('a' + rank);
	tap_rally(&common->rally[2], 2);
	CHECK(((volatile char *)(uintptr_t)at)[1 - rank] == 'b' - rank);
	tap_rally(&common->rally[4], 2);
	CHECK(unmap(at, GRANULE) == 0);
	tap_rally(&common->rally[6], 2);
	REFUSED(cuda->cuMemImportFromShareableHandle(&handle, common->fabric, prop.requestedHandleTypes),
		SYMM_CUDA_INVALID_VALUE);
	return finish();
}

/* Rank 1 adds its GPU late: rank 0 waits for it in the bind. */
static int multicast(int rank, void *arg)
{
	struct common *common = arg;
	struct symm_cuda_multicast_prop prop = { 2, GRANULE, SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC, 0 };
	struct symm_cuda_prop own = gpu0;
	address object, memory_handle, at;

	if (begin(rank == 0 ? "SYMM_FAKE_FABRIC=1 SYMM_FAKE_MULTICAST=1 CUDA_VISIBLE_DEVICES=0"
			    : "SYMM_FAKE_FABRIC=1 SYMM_FAKE_MULTICAST=1 CUDA_VISIBLE_DEVICES=1") != 0)
		return 1;
	if (rank == 0) {
		CUDA(cuda->cuMulticastCreate(&object, &prop));
		CUDA(cuda->cuMemExportToShareableHandle(common->multicast, object, SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC,
							0));
	}
	tap_rally(&common->rally[0], 2);
	if (rank == 1)
		CUDA(cuda->cuMemImportFromShareableHandle(&object, common->multicast,
							  SYMM_CUDA_MEM_HANDLE_TYPE_FABRIC));
	usleep(rank == 0 ? 0 : 20000);
	CUDA(cuda->cuMulticastAddDevice(object, 0));
	CUDA(cuda->cuMemCreate(&memory_handle, GRANULE, &own, 0));
	CUDA(cuda->cuMulticastBindMem(object, 0, memory_handle, 0, GRANULE, 0));
	CHECK(map(object, GRANULE, &at) == 0);
	CUDA(cuda->cuMulticastUnbind(object, 0, 0, GRANULE));
	CUDA(cuda->cuMemRelease(memory_handle));
	CHECK(unmap(at, GRANULE) == 0);
	tap_rally(&common->rally[2], 2);
	CUDA(cuda->cuMemRelease(object));
	return finish();
}

/* ---- streams ---- */

struct bench {
	struct CUstream_st *a, *b;
	address words;
	uint32_t *flag, *errors;
};

static int make_bench(struct bench *bench)
{
	CUDA(cuda->cuStreamCreate(&bench->a, SYMM_CUDA_STREAM_NON_BLOCKING));
	CUDA(cuda->cuStreamCreate(&bench->b, SYMM_CUDA_STREAM_NON_BLOCKING));
	CUDA(cuda->cuMemAlloc(&bench->words, 4096));
	CUDA(cuda->cuMemHostAlloc((void **)&bench->flag, 8, SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP));
	bench->errors = bench->flag + 1;
	bench->flag[0] = bench->flag[1] = 0;
	return 0;
}

static int end_bench(struct bench *bench)
{
	CUDA(cuda->cuStreamDestroy(bench->a));
	CUDA(cuda->cuStreamDestroy(bench->b));
	CUDA(cuda->cuCtxSynchronize());
	CUDA(cuda->cuMemFree(bench->words));
	CUDA(cuda->cuMemFreeHost(bench->flag));
	return finish();
}

static void raise_flag(uint32_t *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static int streams(int rank, void *arg)
{
	struct CUevent_st *from, *to;
	struct bench bench;
	uint64_t value = 0;
	float ms;

	BEGIN("SYMM_FAKE_SEED=3");
	CHECK(make_bench(&bench) == 0);
	CUDA(cuda->cuEventCreate(&from, 0));
	CUDA(cuda->cuEventCreate(&to, 0));
	CUDA(cuda->cuEventRecord(from, bench.a));
	CHECK(spin_until(bench.a, bench.flag) == 0 && fill(bench.a, bench.words, 5, 512) == 0);
	CUDA(cuda->cuEventRecord(to, bench.a));
	CUDA(cuda->cuStreamWaitEvent(bench.b, to, 0));
	CHECK(expect(bench.b, bench.words, 5, 512, bench.errors) == 0);
	REFUSED(cuda->cuStreamQuery(bench.b), SYMM_CUDA_NOT_READY);
	REFUSED(cuda->cuEventQuery(to), SYMM_CUDA_NOT_READY);
	CUDA(cuda->cuMemcpyDtoH(&value, bench.words, 8));
	CHECK(value == UINT64_C(0xa5a5a5a5a5a5a5a5), "the legacy stream does not wait for these");
	raise_flag(bench.flag);
	CUDA(cuda->cuStreamSynchronize(bench.b));
	CHECK(*bench.errors == 0);
	CUDA(cuda->cuEventElapsedTime(&ms, from, to));
	CHECK(ms >= 0);
	CHECK(expect(bench.b, bench.words, 6, 512, bench.errors) == 0);
	CUDA(cuda->cuStreamSynchronize(bench.b));
	CHECK(*bench.errors == 512);
	CUDA(cuda->cuEventDestroy(from));
	CUDA(cuda->cuEventDestroy(to));
	return end_bench(&bench);
}

static int legacy_stream(int rank, void *arg)
{
	struct CUstream_st *blocking;
	struct bench bench;

	BEGIN("SYMM_FAKE_SEED=0");
	CHECK(make_bench(&bench) == 0);
	CUDA(cuda->cuStreamCreate(&blocking, 0));
	CHECK(spin_until(blocking, bench.flag) == 0 && fill(NULL, bench.words, 1, 8) == 0);
	CHECK(fill(SYMM_CUDA_STREAM_PER_THREAD, bench.words, 2, 8) == 0);
	REFUSED(cuda->cuStreamQuery(SYMM_CUDA_STREAM_LEGACY), SYMM_CUDA_NOT_READY);
	REFUSED(cuda->cuStreamQuery(SYMM_CUDA_STREAM_PER_THREAD), SYMM_CUDA_NOT_READY);
	CHECK(fill(bench.a, bench.words + 64, 3, 8) == 0);
	CUDA(cuda->cuStreamSynchronize(bench.a));
	raise_flag(bench.flag);
	CUDA(cuda->cuStreamSynchronize(SYMM_CUDA_STREAM_PER_THREAD));
	CHECK(*(uint64_t *)(uintptr_t)bench.words == 2);
	CUDA(cuda->cuStreamDestroy(blocking));
	return end_bench(&bench);
}

/* With one hardware queue a kernel holds up what other streams enqueued after it; copies have a queue of their own. */
static int one_queue(int rank, void *arg)
{
	struct bench bench;
	uint64_t value;

	BEGIN("SYMM_FAKE_QUEUES=1");
	CHECK(make_bench(&bench) == 0);
	CHECK(spin_until(bench.a, bench.flag) == 0 && fill(bench.b, bench.words, 1, 8) == 0);
	usleep(20000);
	REFUSED(cuda->cuStreamQuery(bench.b), SYMM_CUDA_NOT_READY);
	CUDA(cuda->cuMemcpyDtoH(&value, bench.words, 8));
	raise_flag(bench.flag);
	CUDA(cuda->cuStreamSynchronize(bench.b));
	return end_bench(&bench);
}

/* ---- captures ---- */

static int graphs(int rank, void *arg)
{
	uint64_t *words;
	struct CUevent_st *event;
	struct CUgraphExec_st *exec;
	struct CUgraph_st *graph;
	struct bench bench;

	BEGIN("SYMM_FAKE_SEED=0");
	CHECK(make_bench(&bench) == 0);
	words = (uint64_t *)(uintptr_t)bench.words;
	CUDA(cuda->cuEventCreate(&event, SYMM_CUDA_EVENT_DISABLE_TIMING));
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	CHECK(fill(bench.a, bench.words, 9, 1) == 0);
	CUDA(cuda->cuEventRecord(event, bench.a));
	CUDA(cuda->cuStreamWaitEvent(bench.b, event, 0));
	CUDA(cuda->cuMemcpyAsync(bench.words + 8, bench.words, 8, bench.b));
	CUDA(cuda->cuEventRecord(event, bench.b));
	CUDA(cuda->cuStreamWaitEvent(bench.a, event, 0));
	CUDA(cuda->cuMemsetD8Async(bench.words, 0, 8, bench.a));
	CUDA(cuda->cuStreamEndCapture(bench.a, &graph));
	CUDA(cuda->cuGraphInstantiateWithFlags(&exec, graph, 0));
	CUDA(cuda->cuGraphDestroy(graph));
	for (int i = 0; i < 3; i++) {
		words[0] = words[1] = 4;
		CUDA(cuda->cuGraphLaunch(exec, bench.b));
		CUDA(cuda->cuStreamSynchronize(bench.b));
		CHECK(words[0] == 0 && words[1] == 9);
	}
	CUDA(cuda->cuGraphExecDestroy(exec));
	CUDA(cuda->cuEventDestroy(event));
	return end_bench(&bench);
}

static int end_capture(struct CUstream_st *stream)
{
	struct CUgraph_st *graph;
	int result = (int)cuda->cuStreamEndCapture(stream, &graph);

	if (result == 0)
		cuda->cuGraphDestroy(graph);
	return result;
}

static void *allocate(void *arg)
{
	address memory_at;
	enum symm_cuda_result result;

	cuda->cuCtxSetCurrent(context);
	result = cuda->cuMemAlloc(&memory_at, 8);
	if (result == SYMM_CUDA_SUCCESS)
		cuda->cuMemFree(memory_at);
	*(int *)arg = (int)result;
	return NULL;
}

static int allocate_elsewhere(void)
{
	pthread_t thread;
	int result = -1;

	if (pthread_create(&thread, NULL, allocate, &result) == 0)
		pthread_join(thread, NULL);
	return result;
}

/* What a capture forbids, to whom, and how it ends then. */
static int capture_modes(int rank, void *arg)
{
	enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED;
	enum symm_cuda_capture_status status;
	struct bench bench;
	address at;

	BEGIN("SYMM_FAKE_SEED=0");
	CHECK(make_bench(&bench) == 0);
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	REFUSED(cuda->cuMemAlloc(&at, 8), SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	CUDA(cuda->cuStreamIsCapturing(bench.a, &status));
	CHECK(status == SYMM_CUDA_STREAM_CAPTURE_STATUS_INVALIDATED);
	CHECK(end_capture(bench.a) == SYMM_CUDA_STREAM_CAPTURE_INVALIDATED);
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	CHECK(allocate_elsewhere() == SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	CHECK(end_capture(bench.a) == SYMM_CUDA_STREAM_CAPTURE_INVALIDATED);
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	CHECK(allocate_elsewhere() == 0 && end_capture(bench.a) == 0);
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	CUDA(cuda->cuThreadExchangeStreamCaptureMode(&mode));
	CHECK(mode == SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL && allocate_elsewhere() != 0);
	CHECK(end_capture(bench.a) != 0, "the other thread is not relaxed");
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_GLOBAL));
	CUDA(cuda->cuMemAlloc(&at, 8));
	CUDA(cuda->cuMemFree(at));
	CHECK(end_capture(bench.a) == 0);
	CUDA(cuda->cuStreamBeginCapture(SYMM_CUDA_STREAM_PER_THREAD, SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED));
	CHECK(fill(NULL, bench.words, 0, 1) != 0, "the legacy stream would wait for the capture");
	CHECK(end_capture(SYMM_CUDA_STREAM_PER_THREAD) != 0);
	CUDA(cuda->cuStreamBeginCapture(bench.a, SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED));
	REFUSED(cuda->cuStreamQuery(bench.a), SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED);
	CHECK(end_capture(bench.a) != 0);
	return end_bench(&bench);
}

/* ---- the library's kernels ---- */

/* A group of one rank: its barriers end at once, and are counted; after that nothing is in use. */
static int barrier(int rank, void *arg)
{
	struct symm_sync_args args = { .timeout_ns = 1000000000, .counted = 1 };
	struct CUfunc_st *function;
	void *params[] = { &args };
	address at, handle;
	char *base;

	BEGIN("SYMM_FAKE_SEED=0");
	CUDA(cuda->cuMemCreate(&handle, GRANULE, &gpu0, 0));
	CHECK(map(handle, GRANULE, &at) == 0);
	CUDA(cuda->cuMemRelease(handle));
	CUDA(cuda->cuModuleGetFunction(&function, module, "symm_kernel_barrier"));
	base = memset((void *)(uintptr_t)at, 0, GRANULE);
	args.group = (struct symm_sync_group *)(void *)base;
	*args.group = (struct symm_sync_group){ .version = SYMM_SYNC_VERSION, .generation = 1, .world_size = 1 };
	args.group->mirror = (struct symm_sync_mirror *)(void *)(base + 4096);
	args.sync = (struct symm_sync *)(void *)(base + 8192);
	args.sync->group = args.group;
	args.sync->own = symm_sync_peer_at(args.sync, 0)->slot = base + MIB;
	CHECK(cuda->cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL) == 0);
	args.sync = NULL;
	args.counted = 0;
	CUDA(cuda->cuStreamSynchronize(NULL));
	CHECK(((struct symm_sync *)(void *)(base + 8192))->ended == 1, "parameters are frozen");
	args.sync = (struct symm_sync *)(void *)(base + 8192);
	args.counted = 1;
	CHECK(cuda->cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL) == 0);
	while (__atomic_load_n(&args.sync->ended, __ATOMIC_ACQUIRE) < 2)
		usleep(10);
	CHECK(unmap(at, GRANULE) == 0);
	CUDA(cuda->cuCtxSynchronize());
	return finish();
}

int main(void)
{
	static const struct {
		const char *name;
		int (*run)(int rank, void *arg);
		int ranks;
	} cases[] = {
		{ "devices", devices, 1 },
		{ "an old driver", old_driver, 1 },
		{ "no driver", no_driver, 1 },
		{ "failures", failures, 1 },
		{ "contexts", contexts, 1 },
		{ "memory", memory, 1 },
		{ "fabric that lies", no_fabric, 1 },
		{ "fabric", fabric, 2 },
		{ "multicast", multicast, 2 },
		{ "streams", streams, 1 },
		{ "the legacy stream", legacy_stream, 1 },
		{ "one queue", one_queue, 1 },
		{ "graphs", graphs, 1 },
		{ "what captures forbid", capture_modes, 1 },
		{ "barrier", barrier, 1 },
	};

	use_fake();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		tap_ranks(cases[i].name, cases[i].ranks, cases[i].run, tap_shared(sizeof(struct common)), 60);
	return tap_done();
}
