/* bench.c: what synchronisation, payloads with a signal, a rendezvous and copies cost between two ranks, beside what
 * the device needs at the least: an empty kernel, the driver's own calls for a peer's block, a plain copy kernel.
 * Medians, seen by rank 0; both ranks run. Units of work are timed by events around many of them, in a stream or in one
 * graph.
 *
 * usage: bench [UNITS [COPY_MIB [BLOCK_MIB]]]        (200, 256 and a quarter of it, 1024 and 1)
 */
#include "gpu.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SAMPLES = 15, WARM_UP = 10, CHANNEL = 0, COPY_UNITS = 10 };

struct sizes {
	int units;
	size_t copy_mib, block_mib;
};

struct bench {
	struct gpu *gpu;
	struct CUstream_st *stream;
	struct CUevent_st *from, *to;
	struct symm_mem *mem;
	struct CUfunc_st *empty, *copy;
	/* of copies */
	bool alone; /* only rank 0 copies */
	void *local;
	size_t bytes;
	unsigned blocks;
};

static int wire[2]; /* between the two ranks, for fds */

/* ---- units of work ---- */

typedef int (*work)(struct bench *b);

static int empty(struct bench *b)
{
	return gpu_launch(b->gpu, b->empty, 1, 1, NULL, b->stream);
}

static int barrier(struct bench *b)
{
	GOOD(symm_barrier_on_stream(b->mem, CHANNEL, 0, b->stream));
	return 0;
}

static int round_trip(struct bench *b)
{
	int peer = 1 - b->gpu->rank;

	if (b->gpu->rank == 0)
		GOOD(symm_put_signal_on_stream(b->mem, peer, CHANNEL, 0, b->stream));
	GOOD(symm_wait_signal_on_stream(b->mem, peer, CHANNEL, 0, b->stream));
	if (b->gpu->rank == 1)
		GOOD(symm_put_signal_on_stream(b->mem, peer, CHANNEL, 0, b->stream));
	return 0;
}

/* A round trip of payloads: each rank answers with as many bytes. */
static int trip(struct bench *b, int (*send)(struct bench *b))
{
	int peer = 1 - b->gpu->rank;

	if (b->gpu->rank == 0)
		DO(send(b));
	GOOD(symm_wait_signal_on_stream(b->mem, peer, CHANNEL, 0, b->stream));
	return b->gpu->rank == 1 ? send(b) : 0;
}

static int send_in_one(struct bench *b)
{
	GOOD(symm_put_with_signal_on_stream(b->mem, 1 - b->gpu->rank, 0, b->local, b->bytes, CHANNEL, 0, b->stream));
	return 0;
}

static int send_in_two(struct bench *b)
{
	GOOD(symm_put_on_stream(b->mem, 1 - b->gpu->rank, 0, b->local, b->bytes, b->stream));
	GOOD(symm_put_signal_on_stream(b->mem, 1 - b->gpu->rank, CHANNEL, 0, b->stream));
	return 0;
}

static int put_with_signal(struct bench *b)
{
	return trip(b, send_in_one);
}

static int put_and_signal(struct bench *b)
{
	return trip(b, send_in_two);
}

static int put(struct bench *b)
{
	GOOD(symm_put_on_stream(b->mem, 1 - b->gpu->rank, 0, b->local, b->bytes, b->stream));
	return 0;
}

static int get(struct bench *b)
{
	GOOD(symm_get_on_stream(b->mem, 1 - b->gpu->rank, 0, b->local, b->bytes, b->stream));
	return 0;
}

static int copy(struct bench *b, void *to, const void *from)
{
	uint64_t n = b->bytes / 16;
	void *params[] = { &to, &from, &n };

	return gpu_launch(b->gpu, b->copy, b->blocks, 512, params, b->stream);
}

static int kernel_put(struct bench *b)
{
	return copy(b, symm_mem_buffer(b->mem, 1 - b->gpu->rank), b->local);
}

static int kernel_get(struct bench *b)
{
	return copy(b, b->local, symm_mem_buffer(b->mem, 1 - b->gpu->rank));
}

/* ---- timing ---- */

static int repeat(struct bench *b, work unit, int n)
{
	if (b->alone && b->gpu->rank != 0)
		return 0;
	for (int i = 0; i < n; i++)
		DO(unit(b));
	return 0;
}

static int capture(struct bench *b, work unit, int n, struct CUgraphExec_st **exec)
{
	const struct gpu *gpu = b->gpu;
	struct CUgraph_st *graph;

	CU(gpu->cu->cuStreamBeginCapture(b->stream, SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	DO(repeat(b, unit, n));
	CU(gpu->cu->cuStreamEndCapture(b->stream, &graph));
	CU(gpu->cu->cuGraphInstantiateWithFlags(exec, graph, 0));
	CU(gpu->cu->cuGraphDestroy(graph));
	return 0;
}

/* One sample: all n units, or the graph of them. */
static int sample(struct bench *b, work unit, int n, struct CUgraphExec_st *exec, double *us)
{
	const struct gpu *gpu = b->gpu;
	float ms;

	CU(gpu->cu->cuStreamSynchronize(b->stream));
	gpu_rally(gpu);
	CU(gpu->cu->cuEventRecord(b->from, b->stream));
	if (exec != NULL)
		CU(gpu->cu->cuGraphLaunch(exec, b->stream));
	else
		DO(repeat(b, unit, n));
	CU(gpu->cu->cuEventRecord(b->to, b->stream));
	CU(gpu->cu->cuEventSynchronize(b->to));
	CU(gpu->cu->cuEventElapsedTime(&ms, b->from, b->to));
	*us = (double)ms * 1e3 / n;
	return 0;
}

/* The median, in us a unit. */
static int measure(struct bench *b, work unit, int n, bool graph, double *us)
{
	const struct gpu *gpu = b->gpu;
	struct CUgraphExec_st *exec = NULL;
	double samples[SAMPLES];

	DO(repeat(b, unit, n < WARM_UP ? n : WARM_UP));
	CU(gpu->cu->cuStreamSynchronize(b->stream));
	if (graph) {
		DO(capture(b, unit, n, &exec));
		DO(sample(b, unit, n, exec, &samples[0]));
	}
	for (int i = 0; i < SAMPLES; i++)
		DO(sample(b, unit, n, exec, &samples[i]));
	if (graph)
		CU(gpu->cu->cuGraphExecDestroy(exec));
	*us = gpu_median(samples, SAMPLES);
	return 0;
}

static void tell(const struct bench *b, const char *what, size_t bytes, double value, const char *unit)
{
	char name[64];

	if (b->gpu->rank != 0)
		return;
	if (bytes != 0)
		snprintf(name, sizeof(name), "bench.%s_%zuMiB", what, bytes >> 20);
	else
		snprintf(name, sizeof(name), "bench.%s", what);
	gpu_figure(name, value, unit);
}

/* ---- synchronisation ---- */

static int bench_sync(struct bench *b, int units)
{
	static const struct {
		const char *name;
		work unit;
	} rows[] = { { "empty", empty }, { "barrier", barrier }, { "round_trip", round_trip } };
	char name[64];
	double us;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int graph = 0; graph <= 1; graph++) {
			DO(measure(b, rows[i].unit, units, graph, &us));
			snprintf(name, sizeof(name), "%s_%s", rows[i].name, graph ? "graph" : "stream");
			tell(b, name, 0, us, "us");
		}
	return 0;
}

/* ---- payloads with a signal: round trips, in one call and in two ---- */

static int bench_payload(struct bench *b, int units, const char *size)
{
	char name[64];
	double us;

	for (int graph = 0; graph <= 1; graph++) {
		const char *where = graph ? "graph" : "stream";

		DO(measure(b, put_with_signal, units, graph, &us));
		snprintf(name, sizeof(name), "put_with_signal_%s_%s", size, where);
		tell(b, name, 0, us, "us");
		DO(measure(b, put_and_signal, units, graph, &us));
		snprintf(name, sizeof(name), "put_and_signal_%s_%s", size, where);
		tell(b, name, 0, us, "us");
	}
	return 0;
}

static int bench_payloads(struct bench *b, int units)
{
	static const struct {
		const char *name;
		size_t bytes;
	} sizes[] = {
		{ "8B", 8 }, { "4KiB", 4 << 10 }, { "16KiB", 16 << 10 }, { "64KiB", 64 << 10 }, { "256KiB", 256 << 10 }
	};
	const struct gpu *gpu = b->gpu;

	DO(gpu_alloc(gpu, sizes[4].bytes, &b->local));
	for (int i = 0; i < 5; i++) {
		b->bytes = sizes[i].bytes;
		DO(bench_payload(b, units, sizes[i].name));
	}
	CU(gpu->cu->cuMemFree(gpu_address(b->local)));
	return 0;
}

/* ---- copies ---- */

/* The best of several grids, in GB/s. */
static int bench_kernel(struct bench *b, work unit, double *rate)
{
	double us, best = 0;

	for (b->blocks = 64; b->blocks <= 2048; b->blocks *= 2) {
		DO(measure(b, unit, COPY_UNITS, false, &us));
		best = best == 0 || us < best ? us : best;
	}
	*rate = (double)b->bytes / best / 1e3;
	return 0;
}

static int bench_copy(struct bench *b, bool is_put)
{
	const char *name = is_put ? "put" : "get";
	double us, rate, kernel;
	char text[32];

	for (int alone = 1; alone >= 0; alone--) {
		b->alone = alone;
		DO(bench_kernel(b, is_put ? kernel_put : kernel_get, &kernel));
		DO(measure(b, is_put ? put : get, COPY_UNITS, false, &us));
		rate = (double)b->bytes / us / 1e3;
		snprintf(text, sizeof(text), "%s%s", name, alone ? "" : "_both");
		tell(b, text, b->bytes, rate, "GB/s");
		snprintf(text, sizeof(text), "%s_kernel%s", name, alone ? "" : "_both");
		tell(b, text, b->bytes, kernel, "GB/s");
	}
	b->alone = false;
	return 0;
}

static int bench_copies(struct bench *b, size_t bytes)
{
	const struct gpu *gpu = b->gpu;

	DO(gpu_alloc(gpu, bytes, &b->local));
	for (b->bytes = bytes / 4; b->bytes <= bytes; b->bytes *= 4) {
		DO(bench_copy(b, true));
		DO(bench_copy(b, false));
	}
	CU(gpu->cu->cuMemFree(gpu_address(b->local)));
	return 0;
}

/* ---- rendezvous: where its time goes ---- */

/* The driver makes ranks that ask for access at once wait for each other, in either order and in whichever call the
 * second one is by then: all figures are of the slower rank, and what access takes is driver_access, of ranks that ask
 * at once. The calls of the driver that it may make. The driver's table is filled with these, which add up what
 * each takes. */
#define TIMED(X)                                                                                                       \
	X(cuMemSetAccess, (unsigned long long a, size_t n, const struct symm_cuda_access *access, size_t count),       \
	  (a, n, access, count))                                                                                       \
	X(cuMemMap, (unsigned long long a, size_t n, size_t at, unsigned long long handle, unsigned long long flags),  \
	  (a, n, at, handle, flags))                                                                                   \
	X(cuMemImportFromShareableHandle, (unsigned long long *handle, void *from, enum symm_cuda_handle_type type),   \
	  (handle, from, type))                                                                                        \
	X(cuMemExportToShareableHandle,                                                                                \
	  (void *to, unsigned long long handle, enum symm_cuda_handle_type type, unsigned long long flags),            \
	  (to, handle, type, flags))                                                                                   \
	X(cuMemRelease, (unsigned long long handle), (handle))                                                         \
	X(cuMemCreate,                                                                                                 \
	  (unsigned long long *handle, size_t n, const struct symm_cuda_prop *prop, unsigned long long flags),         \
	  (handle, n, prop, flags))                                                                                    \
	X(cuMemAddressReserve,                                                                                         \
	  (unsigned long long *a, size_t n, size_t align, unsigned long long at, unsigned long long flags),            \
	  (a, n, align, at, flags))                                                                                    \
	X(cuMemHostAlloc, (void **a, size_t n, unsigned flags), (a, n, flags))                                         \
	X(cuMemcpyHtoDAsync, (unsigned long long to, const void *from, size_t n, struct CUstream_st *stream),          \
	  (to, from, n, stream))                                                                                       \
	X(cuMemsetD8Async, (unsigned long long to, unsigned char value, size_t n, struct CUstream_st *stream),         \
	  (to, value, n, stream))                                                                                      \
	X(cuStreamSynchronize, (struct CUstream_st * stream), (stream))                                                \
	X(cuStreamQuery, (struct CUstream_st * stream), (stream))

enum timed {
#define NUMBER(name, parameters, arguments) T_##name,
	TIMED(NUMBER) TIMED_CALLS
#undef NUMBER
};
static const char *const timed_names[] = {
#define NAME(name, parameters, arguments) #name,
	TIMED(NAME)
#undef NAME
};
static struct symm_cuda_api driver; /* as it was */
static double spent_us[TIMED_CALLS];

#define WRAPPER(name, parameters, arguments)                                                                           \
	static enum symm_cuda_result timed_##name parameters                                                           \
	{                                                                                                              \
		double start = gpu_seconds();                                                                          \
		enum symm_cuda_result result = driver.name arguments;                                                  \
		spent_us[T_##name] += (gpu_seconds() - start) * 1e6;                                                   \
		return result;                                                                                         \
	}
TIMED(WRAPPER)
#undef WRAPPER

static void watch_driver(const struct gpu *gpu, bool on)
{
	struct symm_cuda_api *api = (struct symm_cuda_api *)gpu->cu;

	if (!on) {
		*api = driver;
		return;
	}
	driver = *api;
	memset(spent_us, 0, sizeof(spent_us));
#define WATCH(name, parameters, arguments) api->name = timed_##name;
	TIMED(WATCH)
#undef WATCH
}

struct shares {
	double alloc[SAMPLES], total[SAMPLES], rest[SAMPLES], call[TIMED_CALLS][SAMPLES];
};

static int sample_rendezvous(struct bench *b, size_t bytes, struct shares *shares, int i)
{
	struct gpu *gpu = b->gpu;
	double start, end;
	struct symm_mem *mem;
	void *ptr;

	gpu_rally(gpu);
	start = gpu_seconds();
	GOOD(symm_alloc(gpu->rig.group, bytes, NULL, &ptr));
	shares->alloc[i] = (gpu_seconds() - start) * 1e6;
	gpu_rally(gpu);
	watch_driver(gpu, true);
	start = gpu_seconds();
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	end = gpu_seconds();
	watch_driver(gpu, false);
	shares->total[i] = gpu_most(gpu, (end - start) * 1e6);
	for (int call = 0; call < TIMED_CALLS; call++)
		shares->call[call][i] = gpu_most(gpu, spent_us[call]);
	shares->rest[i] = shares->total[i] - shares->call[T_cuMemSetAccess][i];
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	return 0;
}

/* ---- the same by the driver alone: a peer's block, from its fd to the first access ---- */

static int send_fd(int fd)
{
	char byte = 0, space[CMSG_SPACE(sizeof(fd))] = "";
	struct iovec vec = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &vec, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(wire[0], &msg, 0) == 1 ? 0 : 1;
}

static int receive_fd(int *fd)
{
	char byte, space[CMSG_SPACE(sizeof(*fd))];
	struct iovec vec = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &vec, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };

	if (recvmsg(wire[0], &msg, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&msg) == NULL)
		return 1;
	memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(*fd));
	return 0;
}

/* A block made here, and the peer's in exchange for it. */
static int exchange(struct bench *b, size_t bytes, unsigned long long *own, int *fd)
{
	const struct gpu *gpu = b->gpu;
	struct symm_cuda_prop prop = { .type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED,
				       .requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				       .location = { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, gpu->device } };
	int mine;

	CU(gpu->cu->cuMemCreate(own, bytes, &prop, 0));
	CU(gpu->cu->cuMemExportToShareableHandle(&mine, *own, prop.requestedHandleTypes, 0));
	CHECK(send_fd(mine) == 0);
	CHECK(receive_fd(fd) == 0);
	close(mine);
	gpu_rally(gpu);
	return 0;
}

static int sample_driver(struct bench *b, size_t bytes, double *map_us, double *access_us)
{
	const struct gpu *gpu = b->gpu;
	struct symm_cuda_access access = { { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, gpu->device },
					   SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE };
	unsigned long long own, peer, address;
	double start, middle;
	int fd;

	bytes = (bytes + (2 << 20) - 1) & ~(size_t)((2 << 20) - 1);
	DO(exchange(b, bytes, &own, &fd));
	start = gpu_seconds();
	CU(gpu->cu->cuMemImportFromShareableHandle(&peer, (void *)(intptr_t)fd,
						   SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	CU(gpu->cu->cuMemAddressReserve(&address, bytes, 0, 0, 0));
	CU(gpu->cu->cuMemMap(address, bytes, 0, peer, 0));
	middle = gpu_seconds();
	CU(gpu->cu->cuMemSetAccess(address, bytes, &access, 1));
	*access_us = gpu_most(gpu, (gpu_seconds() - middle) * 1e6);
	*map_us = (middle - start) * 1e6;
	close(fd);
	gpu_rally(gpu);
	CU(gpu->cu->cuMemUnmap(address, bytes));
	CU(gpu->cu->cuMemAddressFree(address, bytes));
	CU(gpu->cu->cuMemRelease(peer));
	CU(gpu->cu->cuMemRelease(own));
	return 0;
}

static int bench_rendezvous(struct bench *b, size_t bytes)
{
	static struct shares shares;
	double map[SAMPLES], access[SAMPLES], us;
	char name[64];

	DO(sample_rendezvous(b, bytes, &shares, 0));
	for (int i = 0; i < SAMPLES; i++) {
		DO(sample_rendezvous(b, bytes, &shares, i));
		DO(sample_driver(b, bytes, &map[i], &access[i]));
	}
	tell(b, "alloc", bytes, gpu_median(shares.alloc, SAMPLES), "us");
	tell(b, "rendezvous", bytes, gpu_median(shares.total, SAMPLES), "us");
	tell(b, "driver_access", bytes, gpu_median(access, SAMPLES), "us");
	tell(b, "driver_import_map", bytes, gpu_median(map, SAMPLES), "us");
	for (int call = 0; call < TIMED_CALLS; call++) {
		us = gpu_median(shares.call[call], SAMPLES);
		snprintf(name, sizeof(name), "in_rendezvous.%s", timed_names[call]);
		if (us > 0)
			tell(b, name, bytes, us, "us");
	}
	tell(b, "in_rendezvous.without_access", bytes, gpu_median(shares.rest, SAMPLES), "us");
	return 0;
}

/* ---- all ---- */

static int start(struct bench *b, size_t bytes, void **block)
{
	struct gpu *gpu = b->gpu;

	if (gpu->rank == 1)
		wire[0] = wire[1];
	GOOD(rig_join(&gpu->rig, gpu->rank));
	GOOD(rig_memory(&gpu->rig, bytes, block, &b->mem));
	DO(gpu_kernel(gpu, "test_empty", &b->empty));
	DO(gpu_kernel(gpu, "test_copy", &b->copy));
	CU(gpu->cu->cuStreamCreate(&b->stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(gpu->cu->cuEventCreate(&b->from, 0));
	CU(gpu->cu->cuEventCreate(&b->to, 0));
	return 0;
}

static int bench(struct gpu *gpu)
{
	const struct sizes *sizes = gpu->arg;
	struct bench b = { .gpu = gpu };
	void *block;

	DO(start(&b, sizes->copy_mib << 20, &block));
	DO(bench_sync(&b, sizes->units));
	DO(bench_payloads(&b, sizes->units));
	DO(bench_rendezvous(&b, 1 << 20));
	DO(bench_rendezvous(&b, sizes->block_mib << 20));
	DO(bench_copies(&b, sizes->copy_mib << 20));
	CU(gpu->cu->cuEventDestroy(b.from));
	CU(gpu->cu->cuEventDestroy(b.to));
	CU(gpu->cu->cuStreamDestroy(b.stream));
	GOOD(symm_barrier(b.mem, 0, 0));
	GOOD(symm_mem_release(b.mem));
	GOOD(symm_free(block));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

int main(int argc, char **argv)
{
	struct sizes sizes = { 200, 256, 1024 };

	if (argc > 1)
		sizes.units = atoi(argv[1]);
	if (argc > 2)
		sizes.copy_mib = (size_t)atol(argv[2]);
	if (argc > 3)
		sizes.block_mib = (size_t)atol(argv[3]);
	setenv("SYMM_TEST_WORLD", "2", 1);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire) != 0)
		return 1;
	return gpu_main("bench", bench, &sizes, 300);
}
