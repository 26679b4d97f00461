/* fork.h: whether this process is the child of a fork that symm did not survive. */
#ifndef SYMM_FORK_H
#define SYMM_FORK_H

#include <stdbool.h>

/* From now on a child of this process is known as one. */
int symm_fork_arm(void);
/* 0, or SYMM_EFORK with the detail written. A load and a branch. */
int symm_fork_check(void);
/* The same without a detail. */
bool symm_fork_is_child(void);

#endif
