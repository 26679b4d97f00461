/* Errands: what the library itself has done by the device, while its caller waits. Each has a stream of its own that
 * waits for no other, so that it works while the user's streams are busy, or captured. */
#include "device/cuda.h"

#include "base.h"
#include "error.h"
#include "symm/kernel/layout.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

#define STAGING_BYTES ((size_t)64 << 10)
#define SPIN_NS 50000       /* a peer that comes soon comes within this */
#define NAP_NS 200000       /* the longest between two looks */
#define GRACE_NS 2000000000 /* for a kernel to begin, and to end after its own timeout */

struct errand {
	struct errand *next;
	struct CUstream_st *stream;
	char *staging;                                   /* common memory: what is on its way between host and device */
	struct symm_sync_result *result, *kernel_result; /* common memory: how a kernel ended */
};

/* ---- errands ---- */

static void errand_free(struct cuda_device *device, struct errand *errand)
{
	if (errand->stream != NULL)
		symm_cuda_warn(device->api->cuStreamDestroy(errand->stream), "cuStreamDestroy");
	symm_cuda_common_free(&device->base, errand->result);
	symm_cuda_common_free(&device->base, errand->staging);
	free(errand);
}

static int errand_make(struct cuda_device *device, struct errand **out)
{
	struct errand *errand = calloc(1, sizeof(*errand));
	enum symm_cuda_result result;
	void *host, *kernel;
	int rc;

	if (errand == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	rc = symm_cuda_common_alloc(&device->base, STAGING_BYTES, &host, &kernel);
	if (rc != 0)
		goto fail;
	errand->staging = host;
	rc = symm_cuda_common_alloc(&device->base, sizeof(*errand->result), &host, &kernel);
	if (rc != 0)
		goto fail;
	errand->result = host;
	errand->kernel_result = kernel;
	result = device->api->cuStreamCreate(&errand->stream, SYMM_CUDA_STREAM_NON_BLOCKING);
	if (result != SYMM_CUDA_SUCCESS) {
		rc = symm_cuda_error(result, "cannot create a stream on cuda:%d", device->ordinal);
		goto fail;
	}
	*out = errand;
	return 0;
fail:
	errand_free(device, errand);
	return rc;
}

static bool errand_runs(const struct cuda_device *device, const struct errand *errand)
{
	return device->api->cuStreamQuery(errand->stream) == SYMM_CUDA_NOT_READY;
}

/* Those put aside whose kernel has ended are as good as new. Locked. True: some still run. */
static bool reclaim(struct cuda_device *device)
{
	struct errand **at = &device->errands.aside, *errand;

	while ((errand = *at) != NULL) {
		if (errand_runs(device, errand)) {
			at = &errand->next;
			continue;
		}
		*at = errand->next;
		errand->next = device->errands.idle;
		device->errands.idle = errand;
	}
	return device->errands.aside != NULL;
}

static int errand_get(struct cuda_device *device, struct errand **out)
{
	struct errands *errands = &device->errands;
	struct errand *errand;

	pthread_mutex_lock(&errands->lock);
	reclaim(device);
	errand = errands->idle;
	if (errand != NULL)
		errands->idle = errand->next;
	pthread_mutex_unlock(&errands->lock);
	if (errand == NULL)
		return errand_make(device, out);
	*out = errand;
	return 0;
}

static void errand_put(struct cuda_device *device, struct errand *errand, struct errand **list)
{
	pthread_mutex_lock(&device->errands.lock);
	errand->next = *list;
	*list = errand;
	pthread_mutex_unlock(&device->errands.lock);
}

int symm_cuda_errands_start(struct cuda_device *device)
{
	struct errand *errand;
	int rc = errand_make(device, &errand);

	if (rc == 0)
		errand_put(device, errand, &device->errands.idle);
	return rc;
}

/* True if one of those that nobody waits for still runs. Locked. */
static bool idle_run(const struct cuda_device *device)
{
	const struct errand *errand = device->errands.idle;

	while (errand != NULL && !errand_runs(device, errand))
		errand = errand->next;
	return errand != NULL;
}

/* A kernel tells its result with its last but one instruction: an idle errand's has ended, or is about to. */
static void settle(struct cuda_device *device, bool aside_too)
{
	int64_t start = symm_now();
	bool told = false, busy;

	do {
		pthread_mutex_lock(&device->errands.lock);
		busy = reclaim(device) && aside_too;
		busy = busy || idle_run(device);
		pthread_mutex_unlock(&device->errands.lock);
		if (busy && symm_now() - start > SPIN_NS)
			symm_sleep(NAP_NS, INT64_MAX);
		if (busy && !told && symm_now() - start > GRACE_NS) {
			symm_log(SYMM_LOG_WARN,
				 "waiting for cuda:%d to begin work that was given up: is it full of "
				 "other kernels?",
				 device->ordinal);
			told = true;
		}
	} while (busy);
}

void symm_cuda_errands_settle(struct cuda_device *device)
{
	settle(device, false);
}

/* What was put aside has not begun, and would find its errand's memory gone; better to wait without a limit than to
 * lose the context. It is counted, so that whoever closes has waited for it already, with a deadline. */
void symm_cuda_errands_end(struct cuda_device *device)
{
	struct errand *errand;

	settle(device, true);
	while ((errand = device->errands.idle) != NULL) {
		device->errands.idle = errand->next;
		errand_free(device, errand);
	}
}

/* ---- copies ---- */

static enum symm_cuda_result finish(const struct cuda_device *device, const struct errand *errand,
				    enum symm_cuda_result enqueued)
{
	return enqueued == SYMM_CUDA_SUCCESS ? device->api->cuStreamSynchronize(errand->stream) : enqueued;
}

/* Through pinned memory: of other memory the driver may make more of it than one stream's work. */
static enum symm_cuda_result write_staged(const struct cuda_device *device, const struct errand *errand, void *dst,
					  const void *src, size_t bytes)
{
	enum symm_cuda_result result = SYMM_CUDA_SUCCESS;

	for (size_t at = 0, n; at < bytes && result == SYMM_CUDA_SUCCESS; at += n) {
		n = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
		memcpy(errand->staging, (const char *)src + at, n);
		result = device->api->cuMemcpyHtoDAsync(cuda_address(dst) + at, errand->staging, n, errand->stream);
		result = finish(device, errand, result);
	}
	return result;
}

static enum symm_cuda_result read_staged(const struct cuda_device *device, const struct errand *errand, void *dst,
					 const void *src, size_t bytes)
{
	enum symm_cuda_result result = SYMM_CUDA_SUCCESS;

	for (size_t at = 0, n; at < bytes && result == SYMM_CUDA_SUCCESS; at += n) {
		n = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
		result = device->api->cuMemcpyDtoHAsync(errand->staging, cuda_address(src) + at, n, errand->stream);
		result = finish(device, errand, result);
		if (result == SYMM_CUDA_SUCCESS)
			memcpy((char *)dst + at, errand->staging, n);
	}
	return result;
}

static enum symm_cuda_result clear(const struct cuda_device *device, const struct errand *errand, void *dst,
				   const void *src, size_t bytes)
{
	(void)src;
	return finish(device, errand, device->api->cuMemsetD8Async(cuda_address(dst), 0, bytes, errand->stream));
}

/* What the user names may be any memory. */
static enum symm_cuda_result copy(const struct cuda_device *device, const struct errand *errand, void *dst,
				  const void *src, size_t bytes)
{
	return finish(device, errand,
		      device->api->cuMemcpyAsync(cuda_address(dst), cuda_address(src), bytes, errand->stream));
}

/* src: the value. */
static enum symm_cuda_result fill(const struct cuda_device *device, const struct errand *errand, void *dst,
				  const void *src, size_t bytes)
{
	uint32_t value = (uint32_t) * (const uint64_t *)src;

	return finish(device, errand,
		      device->api->cuMemsetD32Async(cuda_address(dst), value, bytes / sizeof(value), errand->stream));
}

typedef enum symm_cuda_result transfer_fn(const struct cuda_device *device, const struct errand *errand, void *dst,
					  const void *src, size_t bytes);

static int transfer(struct symm_device *base, transfer_fn *fn, const char *what, void *dst, const void *src,
		    size_t bytes)
{
	struct cuda_device *device = cuda_device(base);
	enum symm_cuda_result result;
	struct errand *errand;
	struct cuda_scope scope;
	int rc;

	if (bytes == 0)
		return 0;
	if ((rc = symm_cuda_enter(device, &scope)) != 0)
		return rc;
	if ((rc = errand_get(device, &errand)) == 0) {
		result = fn(device, errand, dst, src, bytes);
		if (result != SYMM_CUDA_SUCCESS)
			rc = symm_cuda_error(result, "cannot %s %zu bytes on cuda:%d", what, bytes, device->ordinal);
		errand_put(device, errand, &device->errands.idle);
	}
	symm_cuda_leave(device, &scope);
	return rc;
}

int symm_cuda_write(struct symm_device *device, void *dst, const void *src, size_t bytes)
{
	return transfer(device, write_staged, "write", dst, src, bytes);
}

int symm_cuda_read(struct symm_device *device, void *dst, const void *src, size_t bytes)
{
	return transfer(device, read_staged, "read", dst, src, bytes);
}

int symm_cuda_clear(struct symm_device *device, void *address, size_t bytes)
{
	return transfer(device, clear, "clear", address, NULL, bytes);
}

/* ---- kernels ---- */

static bool is_done(const struct errand *errand)
{
	return __atomic_load_n(&errand->result->done, __ATOMIC_ACQUIRE) != 0;
}

/* Waits for the result: spins, then naps, and asks whether the context still lives. */
static int await(const struct cuda_device *device, const struct errand *errand, int64_t deadline)
{
	int64_t start = symm_now(), now = start;
	enum symm_cuda_result result;

	while (!is_done(errand)) {
		now = symm_now();
		if (now - start < SPIN_NS)
			continue;
		if (now > deadline)
			return symm_error(SYMM_ETIMEDOUT,
					  "cuda:%d has not begun the work after %.3g s: is it full of other kernels?",
					  device->ordinal, (double)(now - start) / 1e9);
		result = device->api->cuStreamQuery(errand->stream);
		if (is_done(errand))
			break;
		if (result != SYMM_CUDA_NOT_READY)
			return symm_cuda_error(result, "a kernel on cuda:%d ended without a result", device->ordinal);
		symm_sleep((now - start) / 8 < NAP_NS ? (now - start) / 8 : NAP_NS, deadline);
	}
	return 0;
}

static int run_kernel(const struct cuda_device *device, const struct errand *errand, const struct symm_sync_op *op,
		      int kind, uint64_t *count)
{
	bool forever = op->timeout_ns > (uint64_t)(INT64_MAX - GRACE_NS - symm_now());
	int64_t deadline = forever ? INT64_MAX : symm_now() + (int64_t)op->timeout_ns + GRACE_NS;
	enum symm_cuda_result result;
	struct symm_sync_args args;

	symm_cuda_args(op, &args);
	args.result = errand->kernel_result;
	args.counted = 1;
	memset(errand->result, 0, sizeof(*errand->result));
	result = symm_cuda_kernel(device, kind, &args, errand->stream);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot launch a kernel on cuda:%d", device->ordinal);
	*count = 1;
	return await(device, errand, deadline);
}

static int run_sync(struct cuda_device *device, const struct symm_sync_op *op, int kind, int *code, uint32_t *peer,
		    uint64_t *count)
{
	struct errand *errand;
	int rc = errand_get(device, &errand);

	if (rc != 0)
		return rc;
	rc = run_kernel(device, errand, op, kind, count);
	if (rc == 0) {
		*code = errand->result->code;
		*peer = errand->result->peer;
	}
	errand_put(device, errand, rc == SYMM_ETIMEDOUT ? &device->errands.aside : &device->errands.idle);
	return rc;
}

static int run_transfer(struct symm_device *device, const struct symm_sync_op *op)
{
	if (op->kind == SYMM_OP_FILL)
		return transfer(device, fill, "fill", op->dst, &op->value, op->bytes);
	return transfer(device, copy, "copy", op->dst, op->src, op->bytes);
}

int symm_cuda_run(struct symm_device *base, const struct symm_sync_op *op, int *code, uint32_t *peer, uint64_t *count,
		  uint64_t *waited_ns)
{
	struct cuda_device *device = cuda_device(base);
	int64_t start = symm_now();
	struct cuda_scope scope;
	int rc, kind = op->kind;

	*count = 0;
	*waited_ns = 0;
	if (op->kind == SYMM_OP_COPY || op->kind == SYMM_OP_FILL) {
		rc = run_transfer(base, op);
		if (rc == 0)
			*code = 0;
		return rc;
	}
	rc = symm_cuda_enter(device, &scope);
	if (rc != 0)
		return rc;
	if (symm_cuda_moves(device, op)) {
		rc = run_transfer(base, op);
		kind = SYMM_OP_PUT_SIGNAL;
	}
	if (rc == 0)
		rc = run_sync(device, op, kind, code, peer, count);
	symm_cuda_leave(device, &scope);
	if (op->kind != SYMM_OP_WRITE_VALUE)
		*waited_ns = (uint64_t)(symm_now() - start);
	return rc;
}
