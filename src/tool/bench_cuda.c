/* What the benchmark asks of the CUDA driver itself, as a program beside symm would: replayed graphs, and the figure
 * below which no rendezvous can be. */
#include "bench.h"

#include "base.h"
#include "context.h"
#include "device/cuda_api.h"
#include "handle.h"

#include <stdlib.h>

#define GRAPHS 2

struct symm_bench_cuda {
	const struct symm_cuda_api *api;
	int index, device;
	struct CUctx_st *context;
	struct CUstream_st *stream;
	struct graph {
		int (*enqueue)(struct symm_bench *bench, void *stream);
		struct CUgraphExec_st *exec;
	} graphs[GRAPHS];
};

static int find_device(struct symm_context *handle, int *index)
{
	int rc;
	struct context *context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);

	if (context == NULL)
		return rc;
	*index = context->device->index;
	symm_handle_put(handle);
	return 0;
}

static int make_stream(struct symm_bench_cuda *cuda)
{
	const struct symm_cuda_api *api = cuda->api;
	enum symm_cuda_result result;

	if ((result = api->cuDeviceGet(&cuda->device, cuda->index)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDeviceGet");
	if ((result = api->cuDevicePrimaryCtxRetain(&cuda->context, cuda->device)) != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuDevicePrimaryCtxRetain");
	if ((result = api->cuCtxSetCurrent(cuda->context)) != SYMM_CUDA_SUCCESS ||
	    (result = api->cuStreamCreate(&cuda->stream, SYMM_CUDA_STREAM_NON_BLOCKING)) != SYMM_CUDA_SUCCESS) {
		api->cuCtxSetCurrent(NULL);
		api->cuDevicePrimaryCtxRelease(cuda->device);
		return symm_cuda_error(result, "a stream");
	}
	return 0;
}

int symm_bench_cuda_open(struct symm_context *context, struct symm_bench_cuda **out)
{
	struct symm_bench_cuda *cuda = calloc(1, sizeof(*cuda));
	int rc;

	if (cuda == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = find_device(context, &cuda->index);
	if (rc == 0)
		rc = symm_cuda_load(&cuda->api);
	if (rc == 0)
		rc = make_stream(cuda);
	if (rc != 0) {
		free(cuda);
		return rc;
	}
	*out = cuda;
	return 0;
}

void symm_bench_cuda_close(struct symm_bench_cuda *cuda)
{
	if (cuda == NULL)
		return;
	for (int i = 0; i < GRAPHS; i++)
		if (cuda->graphs[i].exec != NULL)
			cuda->api->cuGraphExecDestroy(cuda->graphs[i].exec);
	cuda->api->cuStreamDestroy(cuda->stream);
	cuda->api->cuCtxSetCurrent(NULL);
	cuda->api->cuDevicePrimaryCtxRelease(cuda->device);
	free(cuda);
}

/* ---- graphs ---- */

static int capture(struct symm_bench *bench, int (*enqueue)(struct symm_bench *bench, void *stream),
		   struct CUgraph_st **graph)
{
	const struct symm_bench_cuda *cuda = bench->cuda;
	enum symm_cuda_result result;
	int rc;

	result = cuda->api->cuStreamBeginCapture(cuda->stream, SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuStreamBeginCapture");
	rc = enqueue(bench, cuda->stream);
	result = cuda->api->cuStreamEndCapture(cuda->stream, graph);
	if (result == SYMM_CUDA_SUCCESS && rc != 0)
		cuda->api->cuGraphDestroy(*graph);
	if (rc == 0 && result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "cuStreamEndCapture");
	return rc;
}

static int record(struct symm_bench *bench, struct graph *graph, int (*enqueue)(struct symm_bench *bench, void *stream))
{
	const struct symm_cuda_api *api = bench->cuda->api;
	struct CUgraph_st *captured = NULL;
	enum symm_cuda_result result;
	int rc;

	if (api->cuStreamBeginCapture == NULL || api->cuGraphInstantiateWithFlags == NULL)
		return symm_error(SYMM_ENOTSUP, "the driver has no graphs");
	rc = capture(bench, enqueue, &captured);
	if (rc != 0)
		return rc;
	result = api->cuGraphInstantiateWithFlags(&graph->exec, captured, 0);
	api->cuGraphDestroy(captured);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuGraphInstantiate");
	graph->enqueue = enqueue;
	return 0;
}

int symm_bench_cuda_replay(struct symm_bench *bench, int (*enqueue)(struct symm_bench *bench, void *stream), double *ns)
{
	struct symm_bench_cuda *cuda = bench->cuda;
	struct graph *graph = cuda->graphs;
	enum symm_cuda_result result;
	int64_t start;
	int rc = 0;

	while (graph->enqueue != NULL && graph->enqueue != enqueue)
		graph++;
	if (graph->enqueue == NULL)
		rc = record(bench, graph, enqueue);
	if (rc != 0)
		return rc;
	start = symm_now();
	result = cuda->api->cuGraphLaunch(graph->exec, cuda->stream);
	if (result == SYMM_CUDA_SUCCESS)
		result = cuda->api->cuStreamSynchronize(cuda->stream);
	*ns = (double)(symm_now() - start);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "a launch of the graph");
	return symm_group_status(bench->group);
}

/* ---- access ---- */

/* Blocks in one range of addresses, as those of a rendezvous's peers are. */
struct blocks {
	unsigned long long address;
	size_t bytes; /* of each */
	int n;
	int mapped;
};

static enum symm_cuda_result map_block(const struct symm_cuda_api *api, const struct symm_cuda_prop *prop,
				       struct blocks *blocks)
{
	unsigned long long handle;
	enum symm_cuda_result result = api->cuMemCreate(&handle, blocks->bytes, prop, 0);

	if (result != SYMM_CUDA_SUCCESS)
		return result;
	result = api->cuMemMap(blocks->address + (size_t)blocks->mapped * blocks->bytes, blocks->bytes, 0, handle, 0);
	api->cuMemRelease(handle);
	blocks->mapped += result == SYMM_CUDA_SUCCESS;
	return result;
}

static enum symm_cuda_result time_access(const struct symm_bench_cuda *cuda, const struct blocks *blocks, double *ns)
{
	const struct symm_cuda_access access = { { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, cuda->device },
						 SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE };
	int64_t start = symm_now();
	enum symm_cuda_result result =
		cuda->api->cuMemSetAccess(blocks->address, (size_t)blocks->n * blocks->bytes, &access, 1);

	*ns = (double)(symm_now() - start);
	return result;
}

/* On the device after ours, where there is one: where a peer's memory would be. */
static enum symm_cuda_result next_device(const struct symm_bench_cuda *cuda, int *device)
{
	int count;
	enum symm_cuda_result result = cuda->api->cuDeviceGetCount(&count);

	return result == SYMM_CUDA_SUCCESS ? cuda->api->cuDeviceGet(device, (cuda->index + 1) % count) : result;
}

int symm_bench_cuda_access(struct symm_bench *bench, double *ns)
{
	const struct symm_cuda_api *api = bench->cuda->api;
	struct blocks blocks = { .n = bench->ranks > 1 ? bench->ranks - 1 : 1 };
	struct symm_cuda_prop prop = { .type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED,
				       .requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
				       .location = { .type = SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE } };
	enum symm_cuda_result result;
	size_t granularity;
	int rc = symm_barrier(bench->board, bench->channel, 0);

	if (rc != 0)
		return rc;
	result = next_device(bench->cuda, &prop.location.id);
	if (result == SYMM_CUDA_SUCCESS)
		result = api->cuMemGetAllocationGranularity(&granularity, &prop,
							    SYMM_CUDA_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "the granularity of memory");
	blocks.bytes = symm_round_up(bench->block, granularity);
	result = api->cuMemAddressReserve(&blocks.address, (size_t)blocks.n * blocks.bytes, 0, 0, 0);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cuMemAddressReserve");
	while (result == SYMM_CUDA_SUCCESS && blocks.mapped < blocks.n)
		result = map_block(api, &prop, &blocks);
	if (result == SYMM_CUDA_SUCCESS)
		result = time_access(bench->cuda, &blocks, ns);
	if (result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "access to %d blocks of %zu bytes", blocks.n, blocks.bytes);
	for (int i = 0; i < blocks.mapped; i++)
		api->cuMemUnmap(blocks.address + (size_t)i * blocks.bytes, blocks.bytes);
	api->cuMemAddressFree(blocks.address, (size_t)blocks.n * blocks.bytes);
	return rc;
}
