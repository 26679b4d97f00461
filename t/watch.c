/* The thread that looks after groups whose device does not say that work has failed. The host device does say it: here
 * it is made to keep quiet. */
#include "ask.h"
#include "symm/kernel/layout.h"
#include "rig.h"
#include "watch.h"

#define WORLD 3

static struct tap_redis redis;
static int *rally;

/* ---- a device that keeps quiet ---- */

static const struct symm_device_ops *loud;
static struct symm_device_ops quiet;

static int launch_quietly(struct symm_device *device, void *stream, const struct symm_sync_op *op,
			  void (*failed)(void *arg), void *arg, uint64_t *count)
{
	(void)failed;
	(void)arg;
	return loud->launch(device, stream, op, NULL, NULL, count);
}

/* Opens on a device that is watched. */
static int quiet_open(struct rig *rig, int rank)
{
	struct symm_device *device;

	GOOD(rig_open(rig, rank));
	device = device_of_context(rig->context);
	if (!device->ops->watched) {
		loud = device->ops;
		quiet = *loud;
		quiet.watched = true;
		quiet.launch = launch_quietly;
		device->ops = &quiet;
	}
	return 0;
}

/* ---- the tests ---- */

static struct group *group_of_rig(const struct rig *rig)
{
	int rc;
	struct group *group = symm_group_get(rig->group, &rc);

	symm_group_put(group);
	return group;
}

/* What kernels see. */
static uint32_t poison_of(const struct rig *rig)
{
	const struct group *group = group_of_rig(rig);
	struct symm_device *device = group->context->device;
	uint32_t word[2] = { 0, 0 };

	return device->ops->read(device, word, &group->sync->poison, sizeof(word)) == 0 ? word[0] : 0;
}

/* What makes kernels that wait look at the mirror. */
static uint32_t news_of(const struct rig *rig)
{
	return __atomic_load_n(&group_of_rig(rig)->mirror->news, __ATOMIC_ACQUIRE);
}

static bool poison_comes(const struct rig *rig)
{
	double start = seconds_now();

	while (poison_of(rig) == 0 && seconds_now() - start < patience(0.3) + opening())
		usleep(500);
	return poison_of(rig) != 0;
}

/* Rank 1's barrier on a stream times out. Nobody calls symm before the host looks at what kernels see. */
static int spreads(int rank, void *arg)
{
	struct rig rig = *(struct rig *)arg;
	struct symm_mem *mem;
	void *ptr, *stream;

	if (quiet_open(&rig, rank) != 0)
		return 1;
	GOOD(rig_enter(&rig));
	GOOD(rig_memory(&rig, 64, &ptr, &mem));
	GOOD(symm_stream_create(rig.context, &stream));
	if (rank == 1)
		GOOD(symm_barrier_on_stream(mem, 0, 20, stream));
	CHECK(poison_comes(&rig));
	CHECK(!symm_group_is_sound(group_of_rig(&rig)));
	BAD(symm_group_status(rig.group), SYMM_ETIMEDOUT, "rank 1 ");
	BAD(symm_barrier(mem, 1, 0), SYMM_ETIMEDOUT, "barrier on channel 0 timed out waiting for rank 0");
	GOOD(symm_stream_synchronize(stream, 0));
	tap_rally(rally, WORLD);
	GOOD(symm_stream_destroy(stream));
	GOOD(symm_close(rig.context));
	return 0;
}

/* The loop thread hears of the failure; the watch poisons what kernels see. Those that wait hear of it before. */
static int told(int rank, void *arg)
{
	struct rig rig = *(struct rig *)arg;
	struct symm_err why;

	if (quiet_open(&rig, rank) != 0)
		return 1;
	GOOD(rig_enter(&rig));
	symm_err_set(&why, SYMM_EPEER, "the test failed it");
	tap_rally(rally, WORLD);
	if (rank == 0)
		symm_group_fail(group_of_rig(&rig), 0, &why, true);
	CHECK(poison_comes(&rig) && poison_of(&rig) == (uint32_t)-SYMM_EPEER);
	CHECK(news_of(&rig) == 1);
	BAD(symm_group_status(rig.group), SYMM_EPEER, "the test failed it");
	tap_rally(rally, WORLD);
	GOOD(symm_close(rig.context));
	return 0;
}

struct ranks {
	struct rig rig[2];
	struct symm_mem *mem[2];
	void *stream[2];
};

static void *join_one(void *arg)
{
	struct rig *rig = arg;
	void *ptr;
	struct symm_mem *mem;

	if (rig_enter(rig) != 0 || rig_memory(rig, 64, &ptr, &mem) != 0)
		return NULL;
	return mem;
}

/* Two ranks of one process share the thread: rank 1's failure is hearsay for rank 0, whose turn may come first, and
 * which must not keep the thread from hearing rank 1. */
static int shared_thread(int rank, void *arg)
{
	struct ranks r = { { *(struct rig *)arg, *(struct rig *)arg }, { NULL, NULL }, { NULL, NULL } };
	pthread_t thread[2];
	void *mem;

	r.rig[0].world = r.rig[1].world = 2;
	for (int i = 0; i < 2; i++) {
		if (quiet_open(&r.rig[i], i) != 0)
			return 1;
		pthread_create(&thread[i], NULL, join_one, &r.rig[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], &mem);
		CHECK(mem != NULL);
		r.mem[i] = mem;
		GOOD(symm_stream_create(r.rig[i].context, &r.stream[i]));
	}
	GOOD(symm_wait_signal_on_stream(r.mem[0], 1, 0, 10000, r.stream[0]));
	GOOD(symm_barrier_on_stream(r.mem[1], 1, 20, r.stream[1]));
	for (int i = 0; i < 2; i++) {
		CHECK(poison_comes(&r.rig[i]));
		BAD(symm_group_status(r.rig[i].group), SYMM_ETIMEDOUT, "barrier on channel 1 timed out");
		GOOD(symm_stream_destroy(r.stream[i]));
	}
	for (int i = 0; i < 2; i++)
		GOOD(symm_close(r.rig[i].context));
	return rank;
}

/* Groups come and go while others fail. */
static int come_and_go(int rank, void *arg)
{
	struct rig rig = *(struct rig *)arg;
	struct symm_mem *mem;
	void *ptr, *stream;

	for (int i = 0; i < 30; i++) {
		if (quiet_open(&rig, rank) != 0)
			return 1;
		GOOD(rig_enter(&rig));
		GOOD(rig_memory(&rig, 64, &ptr, &mem));
		GOOD(symm_stream_create(rig.context, &stream));
		if (i % 3 == rank)
			GOOD(symm_barrier_on_stream(mem, 0, 1, stream));
		GOOD(symm_stream_destroy(stream));
		tap_rally(rally, WORLD);
		GOOD(symm_close(rig.context));
	}
	return 0;
}

int main(void)
{
	static const struct {
		const char *name;
		int world;
		int (*run)(int rank, void *arg);
	} tests[] = {
		{ "a kernel's failure is spread", WORLD, spreads },
		{ "what the loop hears becomes poison", WORLD, told },
		{ "two ranks of one process", 1, shared_thread },
		{ "groups come and go", WORLD, come_and_go },
	};

	if (!need_device(WORLD))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct rig rig = { .url = redis.url, .world = tests[i].world };

		*rally = 0;
		tap_ranks(tests[i].name, tests[i].world, tests[i].run, &rig, 60);
	}
	tap_redis_stop(&redis);
	return tap_done();
}
