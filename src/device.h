/* device.h: the backends behind one small table of functions.
 *
 * A device makes physical blocks of memory, exports them as fds, imports those of peers, and maps blocks at addresses
 * that it reserved. Synchronisation and copies run on it either at once or on a stream. Return values are SYMM codes
 * with the detail written. Nothing here knows groups, stores or ranks beyond what a symm_sync_op says.
 */
#ifndef SYMM_DEVICE_H
#define SYMM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symm_sync;
struct symm_device;

/* Physical memory, ours or a peer's. Host: the memfd. CUDA: a generic allocation handle. */
typedef uint64_t symm_phys;

struct symm_mapping {
	void *address;
	size_t bytes;
	symm_phys phys;
};

/* One piece of work: a barrier, a signal, or a copy. Copied by whoever enqueues it. */
struct symm_sync_op {
	enum { SYMM_OP_BARRIER, SYMM_OP_PUT_SIGNAL, SYMM_OP_WAIT_SIGNAL, SYMM_OP_COPY } kind;
	struct symm_sync *sync; /* all but COPY: the device's struct, kernels/sync.h */
	uint32_t channel;
	uint32_t peer;
	uint64_t timeout_ns;
	void *dst; /* COPY */
	const void *src;
	size_t bytes;
};

struct symm_device_ops {
	const char *name; /* "host", "cuda": the first part of a device's text form, "cuda:1" */

	/* Finds or opens device `index`. One struct a device and process, counted. */
	int (*open)(int index, struct symm_device **device);
	void (*close)(struct symm_device *device);

	/* Sizes of blocks and reservations are multiples of this. */
	size_t (*granularity)(struct symm_device *device);
	/* A zero-filled block of this process's own. */
	int (*create)(struct symm_device *device, size_t bytes, symm_phys *phys);
	/* An fd for peers: the caller closes it. */
	int (*export)(struct symm_device *device, symm_phys phys, int *fd);
	/* A peer's block, from its fd, which stays the caller's. SYMM_EPROTO: not a block of that size. */
	int (*import)(struct symm_device *device, int fd, size_t bytes, symm_phys *phys);
	/* Drops our hold; mappings stay valid. */
	void (*release)(struct symm_device *device, symm_phys phys);

	/* Addresses without memory behind them. */
	int (*reserve)(struct symm_device *device, size_t bytes, void **address);
	void (*unreserve)(struct symm_device *device, void *address, size_t bytes);
	/* Maps blocks into reserved addresses, read and write; all or none. */
	int (*map)(struct symm_device *device, const struct symm_mapping *mappings, size_t n);
	/* Back to reserved without memory. The caller has made sure that nothing uses it any more. */
	void (*unmap)(struct symm_device *device, void *address, size_t bytes);

	/* A plain allocation for the device's own use (counters, tables), zero-filled, writable by the host. */
	int (*local_alloc)(struct symm_device *device, size_t bytes, void **address);
	void (*local_free)(struct symm_device *device, void *address);

	int (*stream_create)(struct symm_device *device, void **stream);
	int (*stream_destroy)(struct symm_device *device, void *stream);
	/* Waits for all that was enqueued before; SYMM_ETIMEDOUT leaves it running. */
	int (*stream_wait)(struct symm_device *device, void *stream, int64_t deadline);
	/* Enqueues. `finished(arg)`, if given, is called when the work is done, on a thread of the device's. */
	int (*launch)(struct symm_device *device, void *stream, const struct symm_sync_op *op,
		      void (*finished)(void *arg), void *arg);
	/* Does it now and returns the op's result: 0 or the SYMM code that the algorithm gave (no detail written). */
	int (*run)(struct symm_device *device, const struct symm_sync_op *op);
};

struct symm_device {
	const struct symm_device_ops *ops;
	int index;
	int users;
};

extern const struct symm_device_ops symm_device_host;

/* Opens the device that text names: "host", "cuda", "cuda:1". SYMM_EINVAL for another text. */
int symm_device_open(const char *text, struct symm_device **device);
void symm_device_close(struct symm_device *device);

#endif
