/* pool_help.h: what the tests of pools share. */
#ifndef POOL_HELP_H
#define POOL_HELP_H

#include "rig.h"

#include "symm/pool.h"

#define CAPACITY ((size_t)1 << 20)

/* Opens, joins and creates. */
static inline int rig_pool(struct rig *rig, int rank, struct symm_pool **pool)
{
	int rc = rig_join(rig, rank);

	return rc != 0 ? rc : symm_pool_create(rig->group, CAPACITY, NULL, 0, pool);
}

static inline uint32_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

static inline int is_empty(struct symm_pool *pool)
{
	size_t capacity, used, largest;

	GOOD(symm_pool_usage(pool, &capacity, &used, &largest));
	CHECK(capacity == CAPACITY && used == 0 && largest == CAPACITY, "(%zu, %zu, %zu)", capacity, used, largest);
	return 0;
}
#endif
