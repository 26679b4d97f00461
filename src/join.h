/* join.h: entering a group, inside. */
#ifndef SYMM_JOIN_H
#define SYMM_JOIN_H

#include "group.h"

/* What symm_group_join does. ranks: which ranks of which other group join, in words, the same on each; NULL: they are
 * not of another group. The caller holds the context. */
int symm_join(struct context *context, const char *name, int rank, int world_size, const char *ranks,
	      int64_t timeout_ms, struct group **group);

#endif
