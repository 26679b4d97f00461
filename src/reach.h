/* reach.h: whether this rank can map the memory of every other rank of a group, asked before anything is published. */
#ifndef SYMM_REACH_H
#define SYMM_REACH_H

#include "group.h"

/* Kinds of devices agree, no GPU is shared unless that is allowed, every device can be reached: SYMM_EMISMATCH,
 * SYMM_EINVAL or SYMM_EUNREACH names the ranks and what is missing. Found well once, it stays so. A rank that has left
 * is not looked at: the wait for it will tell. */
int symm_reach_check(struct group *group, int64_t store_deadline);

#endif
