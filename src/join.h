/* join.h: entering a group, inside. */
#ifndef SYMM_JOIN_H
#define SYMM_JOIN_H

#include "group.h"

/* Who joins, when they are ranks of another group. */
struct kin {
	const char *words; /* which of which group, the same on each rank */
	/* Sets *why once it is known that one of them will never come. */
	void (*lost)(const void *arg, struct symm_err *why);
	const void *arg;
};

/* What symm_group_join does; kin NULL: they are not of another group. The caller holds the context. */
int symm_join(struct context *context, const char *name, int rank, int world_size, const struct kin *kin,
	      int64_t timeout_ms, struct group **group);

#endif
