/* sync.h: a piece of work on a symm_mem, run now or enqueued on a stream. */
#ifndef SYMM_SYNC_H
#define SYMM_SYNC_H

#include "view.h"

/* Where a call runs: at once, or on a stream, which may be NULL on devices that have a default one. */
struct where {
	bool on_stream;
	void *stream;
};
#define AT_ONCE ((struct where){ false, NULL })
#define ON_STREAM(stream) ((struct where){ true, stream })

/* Fills in channel, peer and timeout of the op; SYMM_EINVAL names what cannot be. */
int symm_sync_prepare(const struct view *view, int peer, int channel, int64_t timeout_ms, struct symm_sync_op *op);
/* Runs the op, of which the caller has filled in what its kind needs. */
int symm_sync_run(struct view *view, struct symm_sync_op *op, struct where where);

#endif
