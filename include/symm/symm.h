/* symm: symmetric memory between the ranks of a group.
 *
 * Each rank opens a context, joins a group, allocates a block of the same size and calls symm_rendezvous, which is
 * collective; then every rank's block is addressable by every other. See symm(7) for the tour; each function has a
 * page in section 3.
 *
 * Unless its comment says otherwise, a function returns SYMM_OK (0) or one of the negative SYMM_E... codes, writes its
 * outputs on success only, and leaves a sentence about an error in symm_last_error(). Functions may be called from
 * any thread. A timeout_ms is in milliseconds, counted from the call; 0 means the context's default; negative is
 * SYMM_EINVAL. After fork the child gets SYMM_EFORK.
 */
#ifndef SYMM_SYMM_H
#define SYMM_SYMM_H

#ifndef __CUDACC_RTC__
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SYMM_VERSION_MAJOR 0
#define SYMM_VERSION_MINOR 1
#define SYMM_VERSION_PATCH 0

#define SYMM_API __attribute__((visibility("default")))

/* Channels of one symm_mem: 0 .. SYMM_CHANNELS - 1, the same on every rank. */
#define SYMM_CHANNELS 32

/* The longest group or job name, without its end: [A-Za-z0-9._:-]{1,64}. */
#define SYMM_NAME_MAX 64

/* In the place of a rank or a world size: the context's. */
#define SYMM_AUTO (-1)

enum symm_error {
	SYMM_OK = 0,
	SYMM_EINVAL = -1,    /* an argument is wrong */
	SYMM_ENOMEM = -2,    /* no memory, of the host or of the device */
	SYMM_ETIMEDOUT = -3, /* a deadline passed; the detail says who was missing */
	SYMM_EPEER = -4,     /* a peer died, left or failed */
	SYMM_ESTALE = -5,    /* what the handle or the generation stood for is gone */
	SYMM_EBUSY = -6,     /* still in use */
	SYMM_EEXIST = -7,    /* somebody else holds that rank or name */
	SYMM_ENOENT = -8,    /* no such group, allocation or rendezvous */
	SYMM_EMISMATCH = -9, /* the ranks of a collective do not agree */
	SYMM_ESTORE = -10,   /* Redis cannot be reached, or answered with an error */
	SYMM_EAUTH = -11,    /* Redis refused the user, the password or a command; TLS refused the peer */
	SYMM_EDEVICE = -12,  /* the device is absent or failed */
	SYMM_ENOTSUP = -13,  /* not on this device or platform */
	SYMM_EDEADLK = -14,  /* the call would wait for itself */
	SYMM_EFORK = -15,    /* called in the child of a fork */
	SYMM_EPROTO = -16,   /* a record or message was not understood */
	SYMM_ESYS = -17,     /* a system call failed; the detail names it */
	SYMM_EUNREACH = -18  /* two ranks cannot map each other's memory; the detail names them */
};

struct symm_context; /* one rank's use of symm: a store, a device, defaults */
struct symm_group;   /* this rank's membership of a group */
struct symm_mem;     /* an allocation's view of all ranks' blocks, after its rendezvous */

#ifndef __CUDACC_RTC__ /* NVRTC takes no functions of the host */

/* ---- errors and versions ---- */

/* The name and meaning of a code: a static string. */
SYMM_API const char *symm_strerror(int code);
/* The detail of this thread's last failed call: a string of this thread's, valid until its next failed call. */
SYMM_API const char *symm_last_error(void);
/* The library's version, "major.minor.patch". */
SYMM_API const char *symm_version(void);
/* 1 once the process is in exit(), else 0. */
SYMM_API int symm_is_finalizing(void);

/* ---- the log ---- */

enum symm_log_level { SYMM_LOG_ERROR, SYMM_LOG_WARN, SYMM_LOG_INFO, SYMM_LOG_DEBUG };

/* From now on the process logs up to that level (SYMM_AUTO: what SYMM_LOG says), and gives each line to fn, without its
 * end, on a thread that symm keeps for that while a context is open; NULL: to stderr. On that thread, calls that wait
 * are SYMM_EDEADLK. When it returns, the function before has been given its last line. */
SYMM_API int symm_set_log(int level, void (*fn)(void *arg, int level, const char *line), void *arg);

/* ---- tracing ---- */

/* From now on each call that waits, enqueues or allocates, or gives back what those have made, is between begin, with
 * its name, a static string, and end, both on its own thread; so is what it calls itself, within. Both NULL: no more.
 * When it returns, the functions before have been called for the last time. */
SYMM_API int symm_set_trace(void (*begin)(void *arg, const char *call), void (*end)(void *arg), void *arg);

/* ---- contexts ---- */

struct symm_options {
	size_t size;        /* sizeof(struct symm_options), for later versions */
	const char *url;    /* redis://, rediss:// or unix://; NULL: SYMM_URL */
	const char *job;    /* job name; NULL: SYMM_JOB, else the scheduler's, else "-" */
	const char *device; /* "host", "cuda" or "cuda:1"; NULL: SYMM_DEVICE, else "host" */
	int rank;           /* SYMM_AUTO: from the environment (SYMM_*, Slurm, Open MPI, PMIx, torchrun) */
	int world_size;     /* likewise */
	int local_rank;     /* likewise */
	int64_t timeout_ms; /* default deadline of this context's calls; 0: SYMM_TIMEOUT_MS, else 60000 */
	int64_t lease_ms;   /* how long silence of a rank on another host is believed; 0: SYMM_LEASE_MS, else 10000 */
	int share_device;   /* nonzero: several ranks of a group may use one GPU; else SYMM_SHARE_DEVICE */
};
#define SYMM_OPTIONS_INIT                                                                                              \
	{                                                                                                              \
		sizeof(struct symm_options), NULL, NULL, NULL, SYMM_AUTO, SYMM_AUTO, SYMM_AUTO, 0, 0, 0                \
	}

/* Opens a context and proves that the store answers. options may be NULL: all from the environment. */
SYMM_API int symm_open(const struct symm_options *options, struct symm_context **context);
/* Leaves its groups, frees its allocations and closes. NULL is fine. SYMM_EBUSY: a stream still uses something, or
 * there are tensors (tensor.h). */
SYMM_API int symm_close(struct symm_context *context);
/* The rank, world size or local rank, or a negative code. */
SYMM_API int symm_context_rank(struct symm_context *context);
SYMM_API int symm_context_world_size(struct symm_context *context);
SYMM_API int symm_context_local_rank(struct symm_context *context);

/* What a context has done since it was opened; what says "now" tells of the moment. See
 * symm_context_stats(3). */
struct symm_stats {
	size_t size;                /* sizeof(struct symm_stats) */
	uint64_t rendezvous_done;   /* that met peers */
	uint64_t rendezvous_failed; /* the same */
	uint64_t rendezvous_cached; /* calls of symm_rendezvous that were a look-up */
	uint64_t collective_ns;     /* nanoseconds in symm_group_join and in rendezvous that were none */
	uint64_t allocations;       /* now */
	uint64_t allocated_bytes;   /* now: the memory that they take, with signal pads and rounding */
	uint64_t mapped_bytes;      /* now: blocks of other processes that are mapped here, each once a symm_mem */
	uint64_t persistent_reuses; /* allocations that came from the cache */
	uint64_t barriers;          /* begun: by calls that wait, on streams and in graphs */
	uint64_t signals_put;       /* likewise */
	uint64_t signals_waited;    /* likewise: waits for a signal */
	uint64_t enqueued;          /* calls of _on_stream functions that enqueued something */
	uint64_t waited_ns;         /* nanoseconds in barriers and signals that had to wait, of calls that wait */
	uint64_t timeouts;          /* calls that ended with SYMM_ETIMEDOUT */
	uint64_t polls;             /* questions to the store whether a collective is decided */
	uint64_t store_commands;    /* sent to Redis, by all contexts of the process with the same URL */
	uint64_t store_retries;     /* of these, again: a connection was lost, or the server was busy */
	uint64_t store_reconnects;  /* connections to it made again, likewise */
};
#define SYMM_STATS_INIT                                                                                                \
	{                                                                                                              \
		sizeof(struct symm_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                        \
	}
/* Fills *stats, whose size must be sizeof(struct symm_stats). Waits for nobody. */
SYMM_API int symm_context_stats(struct symm_context *context, struct symm_stats *stats);

/* ---- groups ---- */

/* Joins the group, with all its ranks; rank and world_size may be SYMM_AUTO. Collective. */
SYMM_API int symm_group_join(struct symm_context *context, const char *name, int rank, int world_size,
			     int64_t timeout_ms, struct symm_group **group);
/* Joins a group of the n ranks of parent that the list names, in its order: ranks[0] becomes rank 0. Collective among
 * these ranks, which all give the same list. */
SYMM_API int symm_group_join_ranks(struct symm_group *parent, const char *name, const int *ranks, int n,
				   int64_t timeout_ms, struct symm_group **group);
/* The group of that name that this context has joined: the same handle, not a new reference. */
SYMM_API int symm_group_find(struct symm_context *context, const char *name, struct symm_group **group);
/* Leaves the group. Local: waits for no peer. NULL is fine. SYMM_EBUSY likewise. */
SYMM_API int symm_group_leave(struct symm_group *group);
/* The rank or the world size, or a negative code. */
SYMM_API int symm_group_rank(struct symm_group *group);
SYMM_API int symm_group_world_size(struct symm_group *group);
/* The number of the group's present membership, 1 or more, or a negative code. */
SYMM_API int64_t symm_group_generation(struct symm_group *group);
/* The group's name and its store's URL without secrets, owned by the group; NULL for a stale handle. */
SYMM_API const char *symm_group_name(struct symm_group *group);
SYMM_API const char *symm_group_store(struct symm_group *group);
/* SYMM_OK, or the code with which the group has failed; the detail tells which rank, where and why. */
SYMM_API int symm_group_status(struct symm_group *group);

/* ---- allocations ---- */

struct symm_alloc_options {
	size_t size;             /* sizeof(struct symm_alloc_options) */
	const char *device;      /* NULL: the context's; or of a registered allocator: symm/allocator.h */
	int persistent;          /* nonzero: cache the allocation under alloc_id */
	uint64_t alloc_id;       /* used when persistent */
	size_t signal_pad_bytes; /* a multiple of 8, the same on every rank; 0: 2048 */
};
#define SYMM_ALLOC_OPTIONS_INIT                                                                                        \
	{                                                                                                              \
		sizeof(struct symm_alloc_options), NULL, 0, 0, 0                                                       \
	}

/* Allocates bytes of symmetric memory for a rendezvous with the group: zero-filled, but for a cached persistent
 * block, which keeps what it held. Local. options may be NULL. */
SYMM_API int symm_alloc(struct symm_group *group, size_t bytes, const struct symm_alloc_options *options, void **ptr);
/* Ends the use of an allocation, by its first address. Local: waits for no peer. NULL is fine. A persistent one stays
 * cached. */
SYMM_API int symm_free(void *ptr);
/* The size in bytes that was asked for. ptr may point anywhere into the allocation. */
SYMM_API int symm_alloc_size(const void *ptr, size_t *bytes);

/* ---- rendezvous ---- */

/* Makes the allocation around ptr addressable by all ranks of the group (NULL: the one it was allocated for).
 * Collective the first time, a look-up afterwards. The caller owns a reference to *mem: symm_mem_release. */
SYMM_API int symm_rendezvous(void *ptr, struct symm_group *group, int64_t timeout_ms, struct symm_mem **mem);
/* 1 if the rendezvous is done, 0 if not, or a negative code. */
SYMM_API int symm_rendezvous_completed(const void *ptr, struct symm_group *group);
/* The symm_mem of an earlier rendezvous, from any pointer into the allocation. Local. The caller owns a reference. */
SYMM_API int symm_mem_find(const void *ptr, struct symm_group *group, struct symm_mem **mem);
/* One reference more. */
SYMM_API int symm_mem_retain(struct symm_mem *mem);
/* One reference less; the last, once the allocation is freed too, unmaps. NULL is fine. */
SYMM_API int symm_mem_release(struct symm_mem *mem);

/* The rank or the world size, or a negative code. */
SYMM_API int symm_mem_rank(struct symm_mem *mem);
SYMM_API int symm_mem_world_size(struct symm_mem *mem);
/* The address here of a rank's block or signal pad; NULL for a bad handle or rank. Owned by mem. */
SYMM_API void *symm_mem_buffer(struct symm_mem *mem, int rank);
SYMM_API void *symm_mem_signal_pad(struct symm_mem *mem, int rank);
/* All ranks' addresses: arrays of world size pointers, owned by mem, readable by the host ... */
SYMM_API void *const *symm_mem_buffers(struct symm_mem *mem);
SYMM_API void *const *symm_mem_signal_pads(struct symm_mem *mem);
/* ... and by the device's kernels. */
SYMM_API void *const *symm_mem_buffers_dev(struct symm_mem *mem);
SYMM_API void *const *symm_mem_signal_pads_dev(struct symm_mem *mem);
/* Sizes in bytes; 0 for a bad handle. */
SYMM_API size_t symm_mem_buffer_size(struct symm_mem *mem);
SYMM_API size_t symm_mem_signal_pad_size(struct symm_mem *mem);

/* 1 if the rendezvous was made with multicast, 0 if not, or a negative code. */
SYMM_API int symm_mem_has_multicast(struct symm_mem *mem);
/* The address here that stands for all ranks' blocks at once, for multimem instructions of kernels; NULL without
 * multicast. Owned by mem. */
SYMM_API void *symm_mem_multicast(struct symm_mem *mem);
/* 1 if a rendezvous on that device (NULL: SYMM_DEVICE) would try multicast: the device has it, and the environment asks
 * for it and does not forbid it; 0 if not, or a negative code. */
SYMM_API int symm_has_multicast_support(const char *device);

/* ---- streams ---- */

/* A stream of the context's device: a FIFO of work. On the host device it is a worker thread. */
SYMM_API int symm_stream_create(struct symm_context *context, void **stream);
/* Waits until all that was enqueued is done. SYMM_ETIMEDOUT leaves it running. */
SYMM_API int symm_stream_synchronize(void *stream, int64_t timeout_ms);
/* Ends the stream after what was enqueued; on a GPU perhaps after the call has returned. NULL is fine. */
SYMM_API int symm_stream_destroy(void *stream);

/* ---- synchronisation: the plain call blocks, the _on_stream call only enqueues ---- */

/* Returns when all ranks have entered; what each wrote before is then visible to all. */
SYMM_API int symm_barrier(struct symm_mem *mem, int channel, int64_t timeout_ms);
SYMM_API int symm_barrier_on_stream(struct symm_mem *mem, int channel, int64_t timeout_ms, void *stream);
/* Signals rank dst; waits while the last signal to it on this channel is unconsumed. */
SYMM_API int symm_put_signal(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms);
SYMM_API int symm_put_signal_on_stream(struct symm_mem *mem, int dst, int channel, int64_t timeout_ms, void *stream);
/* Waits for a signal from rank src and consumes it. */
SYMM_API int symm_wait_signal(struct symm_mem *mem, int src, int channel, int64_t timeout_ms);
SYMM_API int symm_wait_signal_on_stream(struct symm_mem *mem, int src, int channel, int64_t timeout_ms, void *stream);

/* ---- moving data: offset and bytes within the block of the rank ---- */

/* Copies src, any memory of this device, into rank dst's block. */
SYMM_API int symm_put(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes);
SYMM_API int symm_put_on_stream(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes,
				void *stream);
/* Copies from rank src's block into dst, any memory of this device. */
SYMM_API int symm_get(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes);
SYMM_API int symm_get_on_stream(struct symm_mem *mem, int src, size_t offset, void *dst, size_t bytes, void *stream);
/* Copies from rank src's block into rank dst's, of which this rank need be neither. */
SYMM_API int symm_copy(struct symm_mem *mem, int dst, size_t dst_offset, int src, size_t src_offset, size_t bytes);
SYMM_API int symm_copy_on_stream(struct symm_mem *mem, int dst, size_t dst_offset, int src, size_t src_offset,
				 size_t bytes, void *stream);
/* symm_put, and then symm_put_signal: who has waited for the signal sees the bytes. */
SYMM_API int symm_put_with_signal(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes,
				  int channel, int64_t timeout_ms);
SYMM_API int symm_put_with_signal_on_stream(struct symm_mem *mem, int dst, size_t offset, const void *src, size_t bytes,
					    int channel, int64_t timeout_ms, void *stream);
/* Fills count 32-bit words of rank dst's block; offset, in bytes, is a multiple of 4. */
SYMM_API int symm_memset32(struct symm_mem *mem, int dst, size_t offset, uint32_t value, size_t count);
SYMM_API int symm_memset32_on_stream(struct symm_mem *mem, int dst, size_t offset, uint32_t value, size_t count,
				     void *stream);
/* Stores a value of 4 or 8 bytes, at a multiple of its size, atomically; who acquires it sees what came before, in the
 * calling thread or in the stream. */
SYMM_API int symm_write_value(struct symm_mem *mem, int dst, size_t offset, uint64_t value, int bytes);
SYMM_API int symm_write_value_on_stream(struct symm_mem *mem, int dst, size_t offset, uint64_t value, int bytes,
					void *stream);

#endif

#ifdef __cplusplus
}
#endif
#endif
