/* stats.h: what a context counts, for symm_context_stats. Each counter is added to by whoever does the thing; those of
 * barriers and signals are the tickets that their algorithms take, on whatever device and in whatever kernel, and cost
 * nothing more. */
#ifndef SYMM_STATS_H
#define SYMM_STATS_H

#include "symm/symm.h"

struct view;

/* What has been begun on a view. */
struct symm_tickets {
	uint64_t barriers, puts, waits;
};

static inline void symm_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* A call that has ended with rc: counted if it timed out. Returns rc. */
static inline int symm_count_end(struct symm_stats *stats, int rc)
{
	if (__builtin_expect(rc == SYMM_ETIMEDOUT, 0))
		symm_count(&stats->timeouts, 1);
	return rc;
}

/* Reads the view's tickets from its device. A device that cannot be read has told all that it ever will. The view is
 * held, or the caller's alone. */
void symm_stats_read(struct view *view);
/* The view goes: its context takes over what was read last. With the memory lock held for writing. */
void symm_stats_keep(struct view *view);

#endif
