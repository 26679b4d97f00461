/* waits.c: which driver calls wait for a kernel that runs on the same device. Each is timed on an idle device and
 * beside a kernel that spins until a flag is set: by us after the call, or by a watchdog HOLD_MS later. A call that
 * took about as long has waited. With a second device, the same for calls on a block that lies there.
 */
#include "gpu.h"

#include "t/cuda/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { BYTES = 4 << 20, IDLE_RUNS = 5, HOLD_MS = 500 };

/* What a call works on, made before it and unmade after it. */
struct waits {
	struct gpu *gpu;
	struct CUfunc_st *spin, *empty;
	uint32_t *flag; /* pinned: ends the kernel */
	struct CUstream_st *busy, *other;
	struct symm_cuda_prop prop;
	struct symm_cuda_access access;
	unsigned long long handle, imported, address, plain;
	int fd;
	void *host;
	struct CUmod_st *module;
	struct CUstream_st *stream;
	struct CUevent_st *event;
	char page[4096];
};

/* ---- the calls, and what they want before and after ---- */

#define CALL(name, body)                                                                                               \
	static int name(struct waits *w)                                                                               \
	{                                                                                                              \
		const struct gpu *gpu = w->gpu;                                                                        \
		CU(body);                                                                                              \
		return 0;                                                                                              \
	}

CALL(create, gpu->cu->cuMemCreate(&w->handle, BYTES, &w->prop, 0))
CALL(release, gpu->cu->cuMemRelease(w->handle))
CALL(export,
     gpu->cu->cuMemExportToShareableHandle(&w->fd, w->handle, SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0))
CALL(import, gpu->cu->cuMemImportFromShareableHandle(&w->imported, (void *)(intptr_t)w->fd,
						     SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
CALL(drop, gpu->cu->cuMemRelease(w->imported))
CALL(reserve, gpu->cu->cuMemAddressReserve(&w->address, BYTES, 0, 0, 0))
CALL(unreserve, gpu->cu->cuMemAddressFree(w->address, BYTES))
CALL(map, gpu->cu->cuMemMap(w->address, BYTES, 0, w->handle, 0))
CALL(unmap, gpu->cu->cuMemUnmap(w->address, BYTES))
CALL(set_access, gpu->cu->cuMemSetAccess(w->address, BYTES, &w->access, 1))
CALL(alloc, gpu->cu->cuMemAlloc(&w->plain, BYTES))
CALL(unalloc, gpu->cu->cuMemFree(w->plain))
CALL(host_alloc, gpu->cu->cuMemHostAlloc(&w->host, BYTES, SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP))
CALL(host_free, gpu->cu->cuMemFreeHost(w->host))
CALL(load, gpu->cu->cuModuleLoadData(&w->module, test_kernels))
CALL(unload, gpu->cu->cuModuleUnload(w->module))
CALL(stream_create, gpu->cu->cuStreamCreate(&w->stream, SYMM_CUDA_STREAM_NON_BLOCKING))
CALL(stream_destroy, gpu->cu->cuStreamDestroy(w->stream))
CALL(event_create, gpu->cu->cuEventCreate(&w->event, SYMM_CUDA_EVENT_DISABLE_TIMING))
CALL(event_destroy, gpu->cu->cuEventDestroy(w->event))
CALL(sync_other, gpu->cu->cuStreamSynchronize(w->other))
CALL(query_other, gpu->cu->cuStreamQuery(w->other))

static int close_fd(struct waits *w)
{
	close(w->fd);
	return 0;
}

static int copy_pageable(struct waits *w)
{
	const struct gpu *gpu = w->gpu;

	CU(gpu->cu->cuMemcpyHtoDAsync(w->plain, w->page, sizeof(w->page), w->other));
	return sync_other(w);
}

static int copy_pinned(struct waits *w)
{
	const struct gpu *gpu = w->gpu;

	CU(gpu->cu->cuMemcpyHtoDAsync(w->plain, w->host, sizeof(w->page), w->other));
	return sync_other(w);
}

static int copy_back(struct waits *w)
{
	const struct gpu *gpu = w->gpu;

	CU(gpu->cu->cuMemcpyDtoHAsync(w->host, w->plain, sizeof(w->page), w->other));
	return sync_other(w);
}

static int fill(struct waits *w)
{
	const struct gpu *gpu = w->gpu;

	CU(gpu->cu->cuMemsetD8Async(w->plain, 1, BYTES, w->other));
	return sync_other(w);
}

static int launch(struct waits *w)
{
	DO(gpu_launch(w->gpu, w->empty, 1, 1, NULL, w->other));
	return sync_other(w);
}

typedef int (*call)(struct waits *w);

struct row {
	const char *name;
	call before[4], timed, after[4];
};

static const struct row rows[] = {
	{ "cuMemCreate", { 0 }, create, { release } },
	{ "cuMemRelease", { create }, release, { 0 } },
	{ "cuMemExportToShareableHandle", { create }, export, { close_fd, release } },
	{ "cuMemImportFromShareableHandle", { create, export }, import, { drop, close_fd, release } },
	{ "cuMemAddressReserve", { 0 }, reserve, { unreserve } },
	{ "cuMemAddressFree", { reserve }, unreserve, { 0 } },
	{ "cuMemMap", { create, reserve }, map, { unmap, unreserve, release } },
	{ "cuMemSetAccess", { create, reserve, map }, set_access, { unmap, unreserve, release } },
	{ "cuMemUnmap", { create, reserve, map, set_access }, unmap, { unreserve, release } },
	{ "cuMemAlloc", { 0 }, alloc, { unalloc } },
	{ "cuMemFree", { alloc }, unalloc, { 0 } },
	{ "cuMemHostAlloc", { 0 }, host_alloc, { host_free } },
	{ "cuMemFreeHost", { host_alloc }, host_free, { 0 } },
	{ "cuModuleLoadData", { 0 }, load, { unload } },
	{ "cuModuleUnload", { load }, unload, { 0 } },
	{ "cuStreamCreate", { 0 }, stream_create, { stream_destroy } },
	{ "cuStreamDestroy", { stream_create }, stream_destroy, { 0 } },
	{ "cuEventCreate", { 0 }, event_create, { event_destroy } },
	{ "cuEventDestroy", { event_create }, event_destroy, { 0 } },
	{ "cuStreamQuery-other", { 0 }, query_other, { 0 } },
	{ "cuLaunchKernel+sync-other", { 0 }, launch, { 0 } },
	{ "cuMemcpyHtoDAsync-pageable+sync-other", { alloc }, copy_pageable, { unalloc } },
	{ "cuMemcpyHtoDAsync-pinned+sync-other", { alloc, host_alloc }, copy_pinned, { host_free, unalloc } },
	{ "cuMemcpyDtoHAsync-pinned+sync-other", { alloc, host_alloc }, copy_back, { host_free, unalloc } },
	{ "cuMemsetD8Async+sync-other", { alloc }, fill, { unalloc } },
	{ "close-of-an-exported-fd", { create, export }, close_fd, { release } },
};
/* Those that are of interest for a block of another device. */
static const int peer_rows[] = { 3, 6, 7, 8 };

static int all(struct waits *w, const call *calls)
{
	for (int i = 0; i < 4 && calls[i] != NULL; i++)
		DO(calls[i](w));
	return 0;
}

static int timed(struct waits *w, const struct row *row, double *us)
{
	double start = gpu_seconds();

	DO(row->timed(w));
	*us = (gpu_seconds() - start) * 1e6;
	return 0;
}

/* ---- the kernel that runs meanwhile ---- */

static void *watchdog(void *arg)
{
	uint32_t *flag = arg;

	for (int ms = 0; ms < HOLD_MS && __atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0; ms++)
		usleep(1000);
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int beside_kernel(struct waits *w, const struct row *row, double *us)
{
	const struct gpu *gpu = w->gpu;
	unsigned long long flag;
	void *params[] = { &flag };
	pthread_t thread;

	*w->flag = 0;
	CU(gpu->cu->cuMemHostGetDevicePointer(&flag, w->flag, 0));
	DO(gpu_launch(gpu, w->spin, 1, 1, params, w->busy));
	CHECK(pthread_create(&thread, NULL, watchdog, w->flag) == 0);
	usleep(5000);
	DO(timed(w, row, us));
	__atomic_store_n(w->flag, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	CU(gpu->cu->cuStreamSynchronize(w->busy));
	return 0;
}

static int measure(struct waits *w, const struct row *row, const char *where)
{
	double idle[IDLE_RUNS], busy;

	for (int i = 0; i < IDLE_RUNS; i++) {
		DO(all(w, row->before));
		DO(timed(w, row, &idle[i]));
		DO(all(w, row->after));
	}
	DO(all(w, row->before));
	DO(beside_kernel(w, row, &busy));
	DO(all(w, row->after));
	printf("%-40s %-8s %10.1f %12.1f   %s\n", row->name, where, gpu_median(idle, IDLE_RUNS), busy,
	       busy > HOLD_MS * 1e3 / 2 ? "yes" : "no");
	return 0;
}

/* Makes the other device's blocks on it, for ours to use. */
static int measure_peer(struct waits *w)
{
	const struct gpu *gpu = w->gpu;
	struct CUctx_st *peer;
	int count;

	CU(gpu->cu->cuDeviceGetCount(&count));
	if (count < 2)
		return 0;
	CU(gpu->cu->cuDevicePrimaryCtxRetain(&peer, 1));
	w->prop.location.id = 1;
	for (size_t i = 0; i < sizeof(peer_rows) / sizeof(peer_rows[0]); i++)
		DO(measure(w, &rows[peer_rows[i]], "peer's"));
	CU(gpu->cu->cuDevicePrimaryCtxRelease(1));
	return 0;
}

static int waits(struct gpu *gpu)
{
	struct waits w = { .gpu = gpu };
	void *flag;

	w.prop.type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED;
	w.prop.requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	w.prop.location.type = SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE;
	w.access.location = w.prop.location;
	w.access.flags = SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE;
	DO(gpu_kernel(gpu, "test_spin", &w.spin));
	DO(gpu_kernel(gpu, "test_empty", &w.empty));
	CU(gpu->cu->cuMemHostAlloc(&flag, sizeof(*w.flag), SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP));
	w.flag = flag;
	CU(gpu->cu->cuStreamCreate(&w.busy, SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(gpu->cu->cuStreamCreate(&w.other, SYMM_CUDA_STREAM_NON_BLOCKING));
	printf("%-40s %-8s %10s %12s   %s\n", "call", "block", "idle us", "kernel us", "waits");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		DO(measure(&w, &rows[i], "own"));
	DO(measure_peer(&w));
	CU(gpu->cu->cuStreamDestroy(w.busy));
	CU(gpu->cu->cuStreamDestroy(w.other));
	CU(gpu->cu->cuMemFreeHost(w.flag));
	return 0;
}

int main(void)
{
	setenv("SYMM_TEST_WORLD", "1", 1);
	return gpu_main("waits", waits, NULL, 120);
}
