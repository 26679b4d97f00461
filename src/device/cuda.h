/* cuda.h: what the files of the CUDA device share.
 *
 * Each slot of symm_device_ops that calls the driver does so between symm_cuda_enter and symm_cuda_leave: in the
 * device's primary context, and in a capture mode in which our calls do not disturb a capture of the caller's. launch
 * is to be recorded by such a capture, and only pushes the context.
 */
#ifndef SYMM_DEVICE_CUDA_H
#define SYMM_DEVICE_CUDA_H

#include "base.h"
#include "device.h"
#include "device/cuda_api.h"

#include <pthread.h>

struct symm_sync_args;

/* A stream of ours, with memory to go through, for one thread at a time: cuda_errand.c. */
struct errand;
struct errands {
	pthread_mutex_t lock;
	struct errand *idle;
	struct errand *aside; /* whose kernel had not begun when its caller had to go */
};

/* Small pieces out of large ones: cuda_small.c. */
struct slab;
struct slabs {
	pthread_mutex_t lock;
	struct slab *first;
};

struct cuda_device {
	struct symm_device base;
	struct cuda_device *next; /* of this process */
	const struct symm_cuda_api *api;
	int ordinal;
	struct symm_device_id id;
	struct CUctx_st *context;
	struct CUmod_st *module;
	struct CUfunc_st *kernel[SYMM_OP_KINDS]; /* by symm_sync_op.kind; of a COPY or FILL: what counts it */
	bool early;                 /* the kernels may be brought up before their turn: they wait for it themselves */
	struct symm_cuda_prop prop; /* of the blocks that we create */
	size_t granularity;
	bool fabric; /* blocks can go to other hosts */
	struct errands errands;
	struct slabs local, common;
};

static inline struct cuda_device *cuda_device(struct symm_device *device)
{
	return symm_container_of(device, struct cuda_device, base);
}

static inline unsigned long long cuda_address(const void *address)
{
	return (uintptr_t)address;
}

/* The kernels, compiled (kernels/local.mk); in a build without nvcc: the text "NOKERNEL". */
extern const unsigned char symm_cuda_fatbin[];
extern const size_t symm_cuda_fatbin_bytes;

/* ---- cuda.c ---- */

int symm_cuda_push(const struct cuda_device *device, bool *pushed);
void symm_cuda_pop(const struct cuda_device *device, bool pushed);

struct cuda_scope {
	bool pushed;
	enum symm_cuda_capture_mode mode; /* the thread's */
};
int symm_cuda_enter(const struct cuda_device *device, struct cuda_scope *scope);
/* For calls that give back, which nobody makes again: tries twice, then warns of what stays. Writes no detail: that of
 * the error that led here may stand. */
enum symm_cuda_result symm_cuda_enter_to_end(const struct cuda_device *device, struct cuda_scope *scope,
					     const char *what);
void symm_cuda_leave(const struct cuda_device *device, const struct cuda_scope *scope);
/* The driver or the context is no more, and so is all that was to be given back. */
bool symm_cuda_is_gone(enum symm_cuda_result result);
/* An error while something is given back, for which there is no remedy: logged, unless the driver is gone already. */
void symm_cuda_warn(enum symm_cuda_result result, const char *what);

/* ---- cuda_memory.c ---- */

/* Fills prop, granularity and fabric. Within the context. */
int symm_cuda_memory_start(struct cuda_device *device);
int symm_cuda_create(struct symm_device *device, size_t bytes, symm_phys *phys);
int symm_cuda_export(struct symm_device *device, symm_phys phys, int *fd);
int symm_cuda_import(struct symm_device *device, int fd, size_t bytes, symm_phys *phys);
int symm_cuda_export_fabric(struct symm_device *device, symm_phys phys, uint8_t handle[SYMM_FABRIC_BYTES]);
int symm_cuda_import_fabric(struct symm_device *device, const uint8_t handle[SYMM_FABRIC_BYTES], size_t bytes,
			    symm_phys *phys);
void symm_cuda_release(struct symm_device *device, symm_phys phys);
int symm_cuda_reserve(struct symm_device *device, size_t bytes, void **address);
void symm_cuda_unreserve(struct symm_device *device, void *address, size_t bytes);
int symm_cuda_map(struct symm_device *device, const struct symm_mapping *mappings, size_t n);
void symm_cuda_unmap(struct symm_device *device, void *address, size_t bytes);
int symm_cuda_grant(struct symm_device *device, void *address, size_t bytes);

/* ---- cuda_multicast.c ---- */

bool symm_cuda_multicast_supported(struct symm_device *device);
int symm_cuda_multicast_create(struct symm_device *device, size_t bytes, uint32_t devices, symm_phys *object);
int symm_cuda_multicast_add(struct symm_device *device, symm_phys object);
int symm_cuda_multicast_bind(struct symm_device *device, symm_phys object, symm_phys block, size_t bytes);
void symm_cuda_multicast_unbind(struct symm_device *device, symm_phys object, size_t bytes);

/* ---- cuda_small.c ---- */

int symm_cuda_local_alloc(struct symm_device *device, size_t bytes, void **address);
void symm_cuda_local_free(struct symm_device *device, void *address);
int symm_cuda_common_alloc(struct symm_device *device, size_t bytes, void **host, void **kernel);
void symm_cuda_common_free(struct symm_device *device, void *host);
/* Gives all slabs back. */
void symm_cuda_small_end(struct cuda_device *device);

/* ---- cuda_errand.c ---- */

/* Makes the first errand: to make one later may have to wait for running kernels. */
int symm_cuda_errands_start(struct cuda_device *device);
/* Waits until the device has done with what `run` and copies gave it, but for what was given up, which is counted:
 * before memory is unmapped or used again. */
void symm_cuda_errands_settle(struct cuda_device *device);
void symm_cuda_errands_end(struct cuda_device *device);
int symm_cuda_clear(struct symm_device *device, void *address, size_t bytes);
int symm_cuda_write(struct symm_device *device, void *dst, const void *src, size_t bytes);
int symm_cuda_read(struct symm_device *device, void *dst, const void *src, size_t bytes);
int symm_cuda_run(struct symm_device *device, const struct symm_sync_op *op, int *code, uint32_t *peer, uint64_t *count,
		  uint64_t *waited_ns);

/* ---- cuda_stream.c ---- */

int symm_cuda_stream_create(struct symm_device *device, void **stream);
int symm_cuda_stream_destroy(struct symm_device *device, void *stream);
int symm_cuda_stream_wait(struct symm_device *device, void *stream, int64_t deadline);
int symm_cuda_launch(struct symm_device *device, void *stream, const struct symm_sync_op *op, void (*failed)(void *arg),
		     void *arg, uint64_t *count);
void symm_cuda_args(const struct symm_sync_op *op, struct symm_sync_args *args);
/* True if the driver moves the data of the op: then a kernel follows, of a PUT_WITH_SIGNAL that of a PUT_SIGNAL. Within
 * the context. */
bool symm_cuda_moves(const struct cuda_device *device, const struct symm_sync_op *op);
/* Enqueues the kernel of the kind. */
enum symm_cuda_result symm_cuda_kernel(const struct cuda_device *device, int kind, const struct symm_sync_args *args,
				       struct CUstream_st *stream);

#endif
