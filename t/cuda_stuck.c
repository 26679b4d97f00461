/* Work that does not begin: the call says so at its deadline and the group fails, and memory stays as long as what was
 * given up may still use it. And a group that has failed while its kernels cannot be told. */
#include "cuda_help.h"

static struct tap_redis redis;

/* ---- failed ---- */

/* Rank 1 fails the group; rank 0's kernels cannot be told, and yet none of its calls succeeds any more. */
static int fails_at_once(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 2 };
	struct symm_mem *mem;
	int *rally = arg;
	double start;
	void *ptr;

	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &mem));
	if (rank == 0)
		fake_fail("cuMemcpyHtoDAsync:*=2");
	tap_rally(rally, 2);
	if (rank == 1)
		BAD(symm_wait_signal(mem, 0, 0, 10), SYMM_ETIMEDOUT, "timed out");
	for (start = seconds_now(); symm_group_status(rig.group) == 0 && seconds_now() - start < patience(5);)
		nap_ms(1);
	BAD(symm_put_signal(mem, rank, 1, 0), SYMM_ETIMEDOUT, "rank 1 (");
	BAD(symm_wait_signal(mem, rank, 1, 0), SYMM_ETIMEDOUT, "rank 1 (");
	if (rank == 0)
		fake_fail(NULL);
	GOOD(symm_close(rig.context));
	return 0;
}

int main(void)
{
	int *rally;

	if (!driver_choose() || !need_device(2))
		return 0;
	if (!faked()) {
		tap_skip_all("only the fake driver has one hardware queue, and copies that fail");
		return 0;
	}
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("a failed group whose kernels cannot be told", 2, fails_at_once, rally, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
