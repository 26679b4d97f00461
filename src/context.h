/* context.h: one rank's use of symm, inside. */
#ifndef SYMM_CONTEXT_H
#define SYMM_CONTEXT_H

#include "device.h"
#include "doing.h"
#include "error.h"
#include "loop.h"
#include "stats.h"
#include "store.h"

struct context {
	struct symm_context *handle;
	struct symm_loop *loop;
	struct symm_store *store;
	struct symm_device *device; /* what allocations and streams use when they name none */
	struct symm_device_id device_id;
	char device_name[32];
	bool share_device; /* other ranks of a group may be on the same one */
	char job[SYMM_NAME_MAX + 1];
	int rank, world_size, local_rank; /* SYMM_AUTO: unknown */
	int64_t timeout_ms, lease_ms;
	bool closing;            /* no new tensors; under the lock of memory, alloc.h */
	struct doing *doing;     /* owned by doing.c */
	struct symm_stats stats; /* but what is read elsewhere: stats.c; atomic */
};

/* The deadline of a call that starts now, whose timeout is timeout_ms, or by default otherwise_ms. SYMM_EINVAL for a
 * negative timeout. */
int symm_deadline(int64_t otherwise_ms, int64_t timeout_ms, int64_t *deadline);
int symm_context_deadline(const struct context *context, int64_t timeout_ms, int64_t *deadline);
/* The timeout itself in nanoseconds, likewise. */
int symm_context_timeout(const struct context *context, int64_t timeout_ms, int64_t *ns);

#endif
