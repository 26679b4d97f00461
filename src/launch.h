/* launch.h: what the launcher says of this rank, in the environment: SYMM_*, else Slurm, Open MPI, PMIx or torchrun. */
#ifndef SYMM_LAUNCH_H
#define SYMM_LAUNCH_H

#include "symm/symm.h"

#include <stdbool.h>

struct symm_launch {
	const char *source;               /* "SYMM_*", "Slurm", ...; "none" */
	int rank, world_size, local_rank; /* SYMM_AUTO: not said */
	char job[SYMM_NAME_MAX + 1];
};

/* SYMM_EINVAL names the variable that is not a number in its range. */
int symm_launch_read(struct symm_launch *launch);
#define SYMM_LAUNCH_MS_MAX 1000000000000LL
/* A positive number of milliseconds from the environment, or otherwise; SYMM_EINVAL names the variable. */
int symm_launch_ms(const char *variable, int64_t otherwise, int64_t *ms);
/* 1 or 0 from the environment, 0 if it says nothing; SYMM_EINVAL names the variable. */
int symm_launch_flag(const char *variable, bool *on);
/* The variables that are read deeper inside, where no call could refuse them; SYMM_EINVAL names a wrong one. */
int symm_launch_check(void);

#endif
