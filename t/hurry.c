/* Collectives that do not sleep, as where there are cores to spare: on a machine with few they still come to their end.
 */
#include "ask.h"
#include "base.h"
#include "group.h"
#include "handle.h"
#include "rig.h"

#define RANKS 3

static struct tap_redis redis;
static bool plenty;

uint32_t __real_symm_cores(void);
uint32_t __wrap_symm_cores(void);

uint32_t __wrap_symm_cores(void)
{
	return plenty ? 64 : __real_symm_cores();
}

static bool hurries(struct symm_group *handle)
{
	int rc;
	struct group *group = symm_group_get(handle, &rc);
	bool does = group != NULL && group->hurries;

	if (group != NULL)
		symm_group_put(group);
	return does;
}

static int meetings(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	CHECK(hurries(rig.group) == plenty);
	for (int round = 0; round < rounds(100); round++) {
		/* Some come late, and are waited for asleep after all. */
		if (round % 10 == rank)
			nap_ms(5);
		GOOD(rig_memory(&rig, 4096, &ptr, &mem));
		GOOD(symm_barrier(mem, 0, 0));
		GOOD(symm_mem_release(mem));
		GOOD(symm_free(ptr));
	}
	return symm_close(rig.context);
}

/* Who waits for one that does not come uses no core meanwhile. */
static int waits(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct timespec used;
	struct symm_mem *mem;
	void *ptr;

	(void)arg;
	GOOD(rig_join(&rig, rank));
	if (rank == 0)
		nap_ms(600);
	GOOD(symm_alloc(rig.group, 4096, NULL, &ptr));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	used.tv_nsec += used.tv_sec * 1000000000;
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	if (rank != 0) {
		struct timespec now;

		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
		now.tv_nsec += now.tv_sec * 1000000000;
		CHECK((double)(now.tv_nsec - used.tv_nsec) / 1e9 < patience(0.2), "%.3f s of 0.6",
		      (double)(now.tv_nsec - used.tv_nsec) / 1e9);
	}
	return symm_close(rig.context);
}

int main(void)
{
	if (!need_device(RANKS))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	plenty = true;
	tap_ranks("100 rendezvous in a hurry", RANKS, meetings, NULL, 60);
	tap_ranks("a rank that is late", RANKS, waits, NULL, 30);
	has_str(ask(&redis, "DBSIZE"), ":0", "nothing is left in Redis");
	tap_redis_stop(&redis);
	return tap_done();
}
