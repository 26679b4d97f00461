/* Streams, and what is enqueued on them. */
#include "device/cuda.h"

#include "base.h"
#include "error.h"
#include "symm/kernel/layout.h"

#define WARP 32
/* A payload up to so many bytes goes by the threads of one block, 16 bytes each at a time: no second launch, and no
 * start of a copy engine. Beyond, the copy engine's rate is what counts. */
#define PAYLOAD_MOST ((size_t)256 << 10)
#define PAYLOAD_THREADS 512 /* kernels/sync.cu */
#define NAP_NS 200000       /* the longest between two looks at a stream */

static const char *const works[] = {
	[SYMM_OP_BARRIER] = "a barrier",
	[SYMM_OP_PUT_SIGNAL] = "a signal",
	[SYMM_OP_WAIT_SIGNAL] = "a wait for a signal",
	[SYMM_OP_COPY] = "a copy",
	[SYMM_OP_FILL] = "a fill",
	[SYMM_OP_WRITE_VALUE] = "a value",
	[SYMM_OP_PUT_WITH_SIGNAL] = "a copy with its signal",
};

int symm_cuda_stream_create(struct symm_device *base, void **stream)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct CUstream_st *made;
	struct cuda_scope scope;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	result = device->api->cuStreamCreate(&made, SYMM_CUDA_STREAM_NON_BLOCKING);
	if (result == SYMM_CUDA_SUCCESS)
		*stream = made;
	else
		rc = symm_cuda_error(result, "cannot create a stream on cuda:%d", device->ordinal);
	symm_cuda_leave(device, &scope);
	return rc;
}

/* The driver itself ends the stream after what was enqueued. */
int symm_cuda_stream_destroy(struct symm_device *base, void *stream)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;
	enum symm_cuda_result result = symm_cuda_enter_to_end(device, &scope, "a stream is leaked");

	if (result == SYMM_CUDA_SUCCESS) {
		result = device->api->cuStreamDestroy(stream);
		symm_cuda_leave(device, &scope);
	}
	if (result != SYMM_CUDA_SUCCESS && !symm_cuda_is_gone(result))
		return symm_cuda_error(result, "cannot destroy a stream of cuda:%d", device->ordinal);
	return 0;
}

int symm_cuda_stream_wait(struct symm_device *base, void *stream, int64_t deadline)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct cuda_scope scope;
	int64_t nap = 1000;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	while ((result = device->api->cuStreamQuery(stream)) == SYMM_CUDA_NOT_READY && symm_now() < deadline) {
		symm_sleep(nap, deadline);
		nap = nap * 2 < NAP_NS ? nap * 2 : NAP_NS;
	}
	if (result == SYMM_CUDA_NOT_READY)
		rc = symm_error(SYMM_ETIMEDOUT, "a stream of cuda:%d has not ended its work", device->ordinal);
	else if (result != SYMM_CUDA_SUCCESS)
		rc = symm_cuda_error(result, "work on a stream of cuda:%d failed", device->ordinal);
	symm_cuda_leave(device, &scope);
	return rc;
}

/* ---- launches ---- */

void symm_cuda_args(const struct symm_sync_op *op, struct symm_sync_args *args)
{
	*args = (struct symm_sync_args){ .sync = op->sync,
					 .group = op->group,
					 .own = op->own,
					 .world_size = op->world_size,
					 .timeout_ns = op->timeout_ns,
					 .channel = op->channel,
					 .peer = op->peer };
	if (op->kind == SYMM_OP_WRITE_VALUE)
		args->payload = (struct symm_sync_payload){ op->dst, NULL, op->bytes, op->value };
	if (op->kind == SYMM_OP_PUT_WITH_SIGNAL)
		args->payload = (struct symm_sync_payload){ op->dst, op->src, op->bytes, 0 };
}

/* A kernel can only fetch what kernels may read: of the host's memory that is not all. */
static bool carries(const struct cuda_device *device, const struct symm_sync_op *op)
{
	unsigned long long address;

	return op->bytes <= PAYLOAD_MOST &&
	       device->api->cuPointerGetAttribute(&address, SYMM_CUDA_POINTER_ATTRIBUTE_DEVICE_POINTER,
						  cuda_address(op->src)) == SYMM_CUDA_SUCCESS &&
	       address == cuda_address(op->src);
}

bool symm_cuda_moves(const struct cuda_device *device, const struct symm_sync_op *op)
{
	return op->kind == SYMM_OP_COPY || op->kind == SYMM_OP_FILL ||
	       (op->kind == SYMM_OP_PUT_WITH_SIGNAL && !carries(device, op));
}

static unsigned int threads_of(int kind, const struct symm_sync_args *args)
{
	size_t threads;

	if (kind == SYMM_OP_BARRIER)
		return WARP;
	if (kind != SYMM_OP_PUT_WITH_SIGNAL)
		return 1;
	threads = symm_round_up(args->payload.bytes, 16 * WARP) / 16;
	return threads < PAYLOAD_THREADS ? (unsigned int)threads : PAYLOAD_THREADS;
}

/* Early: while the work before it in the stream still ends (symm/kernel/wait_cuda.h). */
enum symm_cuda_result symm_cuda_kernel(const struct cuda_device *device, int kind, const struct symm_sync_args *args,
				       struct CUstream_st *stream)
{
	struct symm_cuda_launch_attribute early = {
		.id = SYMM_CUDA_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
		.value.programmaticStreamSerializationAllowed = 1,
	};
	struct symm_cuda_launch launch = { .grid = { 1, 1, 1 },
					   .block = { threads_of(kind, args), 1, 1 },
					   .stream = stream,
					   .attrs = &early,
					   .numAttrs = 1 };
	void *params[] = { (void *)(uintptr_t)args };

	if (device->early)
		return device->api->cuLaunchKernelEx(&launch, device->kernel[kind], params, NULL);
	return device->api->cuLaunchKernel(device->kernel[kind], 1, 1, 1, launch.block[0], 1, 1, 0, stream, params,
					   NULL);
}

static int launch_error(const struct cuda_device *device, enum symm_cuda_result result, struct CUstream_st *stream,
			const struct symm_sync_op *op)
{
	struct CUctx_st *context = NULL;

	if (result == SYMM_CUDA_INVALID_HANDLE || result == SYMM_CUDA_INVALID_CONTEXT) {
		result = device->api->cuStreamGetCtx(stream, &context);
		if (result == SYMM_CUDA_SUCCESS && context != device->context)
			return symm_error(SYMM_EINVAL,
					  "the stream belongs to another device or context than cuda:%d's primary one",
					  device->ordinal);
		if (result != SYMM_CUDA_SUCCESS)
			return symm_error(SYMM_EINVAL, "this is not a stream of cuda:%d", device->ordinal);
		result = SYMM_CUDA_INVALID_HANDLE;
	}
	return symm_cuda_error(result, "cannot enqueue %s on cuda:%d", works[op->kind], device->ordinal);
}

/* The driver takes a copy on another context's stream, and then not the kernel that counts it. */
static enum symm_cuda_result enqueue_move(const struct cuda_device *device, struct CUstream_st *stream,
					  const struct symm_sync_op *op)
{
	struct CUctx_st *context;
	enum symm_cuda_result result = device->api->cuStreamGetCtx(stream, &context);

	if (result != SYMM_CUDA_SUCCESS)
		return result;
	if (context != device->context)
		return SYMM_CUDA_INVALID_CONTEXT;
	if (op->kind == SYMM_OP_FILL)
		return device->api->cuMemsetD32Async(cuda_address(op->dst), (uint32_t)op->value,
						     op->bytes / sizeof(uint32_t), stream);
	return device->api->cuMemcpyAsync(cuda_address(op->dst), cuda_address(op->src), op->bytes, stream);
}

/* What nothing will count has ended before its memory may go. */
static void finish_move(const struct cuda_device *device, struct CUstream_st *stream)
{
	struct cuda_scope scope;

	if (symm_cuda_enter_to_end(device, &scope, "a copy may still run") != SYMM_CUDA_SUCCESS)
		return;
	symm_cuda_warn(device->api->cuStreamSynchronize(stream), "cuStreamSynchronize");
	symm_cuda_leave(device, &scope);
}

/* A captured launch is replayed nobody knows how often: it does not count itself. */
static enum symm_cuda_result enqueue(const struct cuda_device *device, struct CUstream_st *stream,
				     const struct symm_sync_op *op, uint64_t *count)
{
	enum symm_cuda_capture_status status;
	enum symm_cuda_result result = device->api->cuStreamIsCapturing(stream, &status);
	bool moves = symm_cuda_moves(device, op), signals = op->kind == SYMM_OP_PUT_WITH_SIGNAL;
	struct symm_sync_args args;

	if (result == SYMM_CUDA_SUCCESS && moves)
		result = enqueue_move(device, stream, op);
	if (result != SYMM_CUDA_SUCCESS)
		return result;
	symm_cuda_args(op, &args);
	args.counted = status == SYMM_CUDA_STREAM_CAPTURE_STATUS_NONE;
	if (!moves || signals || args.counted)
		result = symm_cuda_kernel(device, moves && signals ? SYMM_OP_PUT_SIGNAL : (int)op->kind, &args, stream);
	if (result == SYMM_CUDA_SUCCESS)
		*count = args.counted;
	else if (moves)
		finish_move(device, stream);
	return result;
}

/* Every launch passes here: no more of the driver than it takes. */
int symm_cuda_launch(struct symm_device *base, void *stream, const struct symm_sync_op *op, void (*failed)(void *arg),
		     void *arg, uint64_t *count)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	bool pushed;
	int rc;

	(void)failed;
	(void)arg;
	if (op->crowded && (stream == NULL || stream == SYMM_CUDA_STREAM_LEGACY))
		return symm_error(
			SYMM_EINVAL,
			"other ranks of the group share this process, and on its default stream they would "
			"wait for each other: use a stream made with symm_stream_create, or a non-blocking one");
	if (op->kind == SYMM_OP_COPY && op->bytes == 0) {
		*count = 0;
		return 0;
	}
	if ((rc = symm_cuda_push(device, &pushed)) != 0)
		return rc;
	result = enqueue(device, stream, op, count);
	if (result != SYMM_CUDA_SUCCESS)
		rc = launch_error(device, result, stream, op);
	symm_cuda_pop(device, pushed);
	return rc;
}
