/* device.h: the backends behind one small table of functions.
 *
 * A device makes physical blocks of memory, exports them, imports those of peers, and maps blocks at addresses that it
 * reserved. Synchronisation and copies run on it either at once or on a stream. Return values are SYMM codes with the
 * detail written. Nothing here knows groups, stores or ranks beyond what a symm_sync_op says. Except where it is said
 * otherwise, slots may be called from any thread but the loop's, also while the thread captures a graph; they leave
 * the thread's device context as they found it.
 *
 * Three kinds of memory: blocks (shared with peers), local memory (the device's own, for kernels: the host reads and
 * writes it with `read` and `write` alone), and common memory (host and kernels both dereference it).
 */
#ifndef SYMM_DEVICE_H
#define SYMM_DEVICE_H

#include "symm/dlpack.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symm_sync;
struct symm_sync_group;
struct symm_device;

/* Physical memory, ours or a peer's. Host: the memfd. CUDA: a generic allocation handle. */
typedef uint64_t symm_phys;

struct symm_mapping {
	void *address;
	size_t bytes;
	symm_phys phys;
};

#define SYMM_FABRIC_BYTES 64

/* Which device this is, for peers: stands in the member record (wire.h). Texts of [A-Za-z0-9._:-]+. */
struct symm_device_id {
	char kind[8];    /* "host", "cuda" */
	char uuid[48];   /* "GPU-5fd4f087-...", as nvidia-smi prints it; host: "-" */
	char fabric[64]; /* of devices that share memory across hosts: the fabric they are on; "-": none */
};

/* What to open. */
struct symm_device_wish {
	const char *text; /* "host", "cuda", "cuda:1" */
	int local_rank;   /* what "cuda" chooses by when the thread has no current device; -1: not known */
	bool share;       /* several ranks may have one device: local ranks wrap around the devices */
};

/* One piece of work: a barrier, a signal, or what moves data. Copied by whoever enqueues it. */
struct symm_sync_op {
	enum {
		SYMM_OP_BARRIER,
		SYMM_OP_PUT_SIGNAL,
		SYMM_OP_WAIT_SIGNAL,
		SYMM_OP_COPY,
		SYMM_OP_FILL,            /* 32-bit words */
		SYMM_OP_WRITE_VALUE,     /* 4 or 8 bytes, by one store that releases what came before */
		SYMM_OP_PUT_WITH_SIGNAL, /* a COPY, not of 0 bytes, and then a PUT_SIGNAL */
		SYMM_OP_KINDS
	} kind;
	struct symm_sync *sync; /* local memory of the device: symm/kernel/layout.h; what moves data counts there too */
	struct symm_sync_group *group;
	char *own; /* our own slot of shared words */
	uint32_t world_size;
	uint32_t channel;
	uint32_t peer;
	uint64_t timeout_ns;
	void *dst;       /* of what moves data */
	const void *src; /* COPY, PUT_WITH_SIGNAL */
	size_t bytes;
	uint64_t value; /* FILL, WRITE_VALUE */
	bool crowded;   /* other ranks of the group share this process, so the legacy default stream cannot be used */
};

struct symm_device_ops {
	const char *name;    /* "host", "cuda": the first part of a device's text form, "cuda:1" */
	DLDeviceType dlpack; /* of its tensors, whose device_id is the index */
	/* Work on streams may fail without a word: somebody has to look at the mirrors of groups (src/watch.h). Else
	 * `failed` of launch is called. */
	bool watched;

	/* Finds or opens device `index` (-1: the text names none). One struct a device and process, counted. */
	int (*open)(const struct symm_device_wish *wish, int index, struct symm_device **device);
	void (*close)(struct symm_device *device);
	void (*identify)(struct symm_device *device, struct symm_device_id *id);
	/* 0 if this device can map the memory of a peer's device on the same host; else SYMM_EUNREACH and the reason
	 * in words ("no peer path from ... to ..."). */
	int (*reach)(struct symm_device *device, const struct symm_device_id *peer);

	/* Sizes of blocks and reservations are multiples of this. */
	size_t (*granularity)(struct symm_device *device);
	/* A block of this process's own, of undefined content until `clear` once it is mapped. */
	int (*create)(struct symm_device *device, size_t bytes, symm_phys *phys);
	/* An fd for peers: the caller closes it. */
	int (*export)(struct symm_device *device, symm_phys phys, int *fd);
	/* A peer's block, from its fd, which stays the caller's. SYMM_EPROTO: not such a block. */
	int (*import)(struct symm_device *device, int fd, size_t bytes, symm_phys *phys);
	/* The same for peers on other hosts, by a handle that travels in a record; NULL: the device has none. */
	int (*export_fabric)(struct symm_device *device, symm_phys phys, uint8_t handle[SYMM_FABRIC_BYTES]);
	int (*import_fabric)(struct symm_device *device, const uint8_t handle[SYMM_FABRIC_BYTES], size_t bytes,
			     symm_phys *phys);
	/* Drops our hold; mappings stay valid. */
	void (*release)(struct symm_device *device, symm_phys phys);

	/* Addresses without memory behind them. */
	int (*reserve)(struct symm_device *device, size_t bytes, void **address);
	void (*unreserve)(struct symm_device *device, void *address, size_t bytes);
	/* Maps blocks into reserved addresses, read and write for this device; all or none. Neighbours in the array
	 * that are neighbours in address get their access by one driver call. */
	int (*map)(struct symm_device *device, const struct symm_mapping *mappings, size_t n);
	/* Back to reserved without memory: exactly what one symm_mapping named. The caller has made sure that nothing
	 * uses it any more. */
	void (*unmap)(struct symm_device *device, void *address, size_t bytes);
	/* Lets this device too use a block that another device of this process has mapped at address. */
	int (*grant)(struct symm_device *device, void *address, size_t bytes);
	/* Multicast: an object that stands for the blocks of many devices, one each, bound to it. It is exported,
	 * imported, mapped and released like a block. All NULL: the devices of this kind have none. */
	bool (*multicast_supported)(struct symm_device *device);
	/* An object of `bytes` for so many devices. */
	int (*multicast_create)(struct symm_device *device, size_t bytes, uint32_t devices, symm_phys *object);
	/* Adds this device; each is added once, and all are before anything is bound or mapped: that would wait for
	 * them. */
	int (*multicast_add)(struct symm_device *device, symm_phys object);
	int (*multicast_bind)(struct symm_device *device, symm_phys object, symm_phys block, size_t bytes);
	void (*multicast_unbind)(struct symm_device *device, symm_phys object, size_t bytes);
	/* Fills mapped memory with zeros; done when it returns. */
	int (*clear)(struct symm_device *device, void *address, size_t bytes);

	/* Local memory of undefined content, aligned to 64 bytes. */
	int (*local_alloc)(struct symm_device *device, size_t bytes, void **address);
	void (*local_free)(struct symm_device *device, void *address);
	/* Common memory, zero-filled, aligned to 64 bytes: *host as the host, *kernel as kernels address it. Freed by
	 * the host's address. */
	int (*common_alloc)(struct symm_device *device, size_t bytes, void **host, void **kernel);
	void (*common_free)(struct symm_device *device, void *host);
	/* Copies between host memory and local or mapped memory, a peer's too; done when it returns. Waits for no
	 * stream. 8 aligned bytes are one atomic access (write: released). */
	int (*write)(struct symm_device *device, void *dst, const void *src, size_t bytes);
	int (*read)(struct symm_device *device, void *dst, const void *src, size_t bytes);
	/* After a write into a slot of shared words, or a change of the mirror: ends the naps of who waits on that
	 * slot, if waiters on this device nap. May be called on the loop thread. */
	void (*wake)(struct symm_device *device, char *slot, uint32_t world_size);

	int (*stream_create)(struct symm_device *device, void **stream);
	int (*stream_destroy)(struct symm_device *device, void *stream);
	/* Waits for all that was enqueued before; SYMM_ETIMEDOUT leaves it running. */
	int (*stream_wait)(struct symm_device *device, void *stream, int64_t deadline);
	/* Enqueues. *count: by how much op->sync->ended will have grown when the work has ended and touches no memory
	 * any more; 0 if the stream is being captured: then nobody counts, and the caller of a graph looks after it.
	 * failed(arg), on devices that are not watched, is called on a thread of the device's if the work fails,
	 * before it is counted. */
	int (*launch)(struct symm_device *device, void *stream, const struct symm_sync_op *op,
		      void (*failed)(void *arg), void *arg, uint64_t *count);
	/* Does it now. *code: what the algorithm gave (0 or a negative code, no detail written), and for
	 * SYMM_SYNC_CLOSED *peer, who has freed the allocation. Returns an error, its detail written, if the device
	 * itself failed; SYMM_ETIMEDOUT: it has not come to it, but may still do so. Set in any case: *count, as for
	 * launch, and *waited_ns, how long the caller waited for peers, if that can be told: else, how long it took. */
	int (*run)(struct symm_device *device, const struct symm_sync_op *op, int *code, uint32_t *peer,
		   uint64_t *count, uint64_t *waited_ns);
};

struct symm_device {
	const struct symm_device_ops *ops;
	int index;
	int users;
};

extern const struct symm_device_ops symm_device_host;
extern const struct symm_device_ops symm_device_cuda;

/* The name of the device type, a static string; NULL if there is no such backend. */
const char *symm_device_type(const char *name);
/* Opens the device that wish->text names. SYMM_EINVAL for another text. */
int symm_device_open(const struct symm_device_wish *wish, struct symm_device **device);
/* One use more of an open device, for who may outlive the first. */
int symm_device_hold(struct symm_device *device);
void symm_device_close(struct symm_device *device);

#endif
