/* release.h: how things end. Every ending is local and waits for no peer: new calls are refused, own waits end, what
 * runs on streams is awaited (SYMM_EBUSY at the deadline, nothing unmapped: it may be tried again), peers are told,
 * memory goes. */
#ifndef SYMM_RELEASE_H
#define SYMM_RELEASE_H

#include "context.h"

/* Leaves all groups of the context. */
int symm_group_leave_all(struct context *context, int64_t deadline);

#endif
