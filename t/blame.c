/* Who is blamed: ranks that give up waiting and exit at once, without close, must not hide whom all waited for. */
#include "rig.h"

#include <stdlib.h>
#include <unistd.h>

enum { RANKS = 6, ROUNDS = 4 };

static struct tap_redis redis;
static int world, absent; /* the last */
static int *over;

static int wait_and_exit(struct symm_mem *mem, int rank, bool signals)
{
	char culprit[32];

	snprintf(culprit, sizeof(culprit), "waiting for rank %d", absent);
	if (rank == absent) {
		while (__atomic_load_n(over, __ATOMIC_ACQUIRE) < absent)
			usleep(1000);
		return 0;
	}
	if (signals)
		BAD(symm_wait_signal(mem, absent, 1, 300), SYMM_ETIMEDOUT, culprit);
	else
		BAD(symm_barrier(mem, 1, 300), SYMM_ETIMEDOUT, culprit);
	return 0;
}

static int give_up(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = world };
	struct symm_mem *mem;
	void *ptr;
	int rc;

	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 64, &ptr, &mem));
	rc = wait_and_exit(mem, rank, arg != NULL);
	__atomic_fetch_add(over, 1, __ATOMIC_RELEASE);
	_exit(rc);
}

int main(void)
{
	bool signals = true;

	if (!need_device(2))
		return 0;
	world = most_ranks() < RANKS ? most_ranks() : RANKS;
	absent = world - 1;
	over = tap_shared(sizeof(*over));
	for (int round = 0; round < ROUNDS; round++) {
		tap_redis_start(&redis, TAP_REDIS_UNIX);
		*over = 0;
		tap_ranks(round % 2 ? "the barrier" : "the signal", world, give_up, round % 2 ? NULL : &signals, 20);
		tap_redis_stop(&redis);
	}
	return tap_done();
}
