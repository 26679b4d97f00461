/* host.h: what the files of the host device share. */
#ifndef SYMM_DEVICE_HOST_H
#define SYMM_DEVICE_HOST_H

#include "base.h"
#include "device.h"

/* There is one in the process. */
struct host_device {
	struct symm_device base;
	size_t page;
	uint64_t strict; /* 0, or the seed of delays: SYMM_HOST_STRICT, as it was at open */
};

static inline struct host_device *host_device(struct symm_device *device)
{
	return symm_container_of(device, struct host_device, base);
}

/* host.c */
int symm_host_run(struct symm_device *device, const struct symm_sync_op *op, int *code, uint32_t *peer);

/* host_stream.c: the slots of symm_device_ops */
int symm_host_stream_create(struct symm_device *device, void **stream);
int symm_host_stream_destroy(struct symm_device *device, void *stream);
int symm_host_stream_wait(struct symm_device *device, void *stream, int64_t deadline);
int symm_host_launch(struct symm_device *device, void *stream, const struct symm_sync_op *op, void (*failed)(void *arg),
		     void *arg, uint64_t *count);
/* When strict: waits until all that was launched before, on any stream, has ended, as CUDA's map and free may do. */
void symm_host_drain(const struct host_device *device);

#endif
