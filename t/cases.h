/* cases.h: the main of tests that are a table of ranks' functions, each with a rig for its argument. */
#ifndef CASES_H
#define CASES_H

#include "ask.h"
#include "rig.h"

struct test_case {
	const char *name;
	int world;
	int (*run)(int rank, void *arg);
};

/* Each case, by as many processes as its world has ranks, in 30 s; those of more ranks than there may be are skipped.
 * In the end Redis is empty. rally: set to 0 before each; NULL: there is none. */
static inline void test_cases(const struct tap_redis *redis, int *rally, const struct test_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct rig rig = { .url = redis->url, .world = cases[i].world };

		if (rally != NULL)
			*rally = 0;
		if (world_fits(cases[i].name, cases[i].world))
			tap_ranks(cases[i].name, cases[i].world, cases[i].run, &rig, 30);
	}
	has_str(ask(redis, "DBSIZE"), ":0", "nothing is left in Redis");
}
#define TEST_CASES(redis, rally, cases) test_cases((redis), (rally), (cases), sizeof(cases) / sizeof((cases)[0]))

#endif
