/* The signal pad: its size as an option of the allocation. */
#include "cases.h"

static struct tap_redis redis;

/* All of the pad is there and zero, for both ranks, and does not touch the block. */
static int check_pad(struct rig *rig, int rank, size_t bytes, size_t pad)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	unsigned char *ones = malloc(pad);
	struct symm_mem *mem;
	void *ptr;

	options.signal_pad_bytes = pad;
	GOOD(symm_alloc(rig->group, bytes, &options, &ptr));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	CHECK(symm_mem_signal_pad_size(mem) == pad && symm_mem_buffer_size(mem) == bytes);
	CHECK((uintptr_t)symm_mem_signal_pad(mem, 1 - rank) % 256 == 0 && pad_is_zero(mem, rank));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(ones != NULL &&
	      device_write(device_of(mem), symm_mem_signal_pad(mem, 1 - rank), memset(ones, 1, pad), pad));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(device_holds(device_of(mem), symm_mem_signal_pad(mem, rank), pad, 1));
	CHECK(block_holds(mem, rank, 0, bytes));
	free(ones);
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	return 0;
}

static int pads(int rank, void *arg)
{
	static const size_t bytes[] = { 1, 4096, 100000 }, pad[] = { 8, 2048, 4096, 1000000 };
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < 3 * 4; i++)
		if (check_pad(rig, rank, bytes[i / 4], pad[i % 4]) != 0)
			return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

/* A cached one has the pad that it was made with. */
static int cached(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig *rig = arg;
	void *ptr;

	options.persistent = 1;
	options.alloc_id = 7;
	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 64, &options, &ptr));
	GOOD(symm_free(ptr));
	options.signal_pad_bytes = 4096;
	BAD(symm_alloc(rig->group, 64, &options, &ptr), SYMM_EMISMATCH,
	    "alloc_id 7 stands for a signal pad of 2048 bytes, and one of 4096 is asked for");
	options.signal_pad_bytes = 2048;
	GOOD(symm_alloc(rig->group, 64, &options, &ptr));
	GOOD(symm_close(rig->context));
	return 0;
}

static int refusals(int rank, void *arg)
{
	static const struct {
		size_t bytes, pad;
		int code;
		const char *text;
	} cases[] = {
		{ 64, 7, SYMM_EINVAL, "options.signal_pad_bytes is 7, not a multiple of 8" },
		{ 64, SIZE_MAX, SYMM_EINVAL, "not a multiple of 8" },
		{ 64, SIZE_MAX - 7, SYMM_EINVAL, "signal pad of 18446744073709551608 bytes beside 64 is more than" },
		{ (size_t)1 << 46, ((size_t)1 << 46) + 8, SYMM_EINVAL, "more than an address space" },
		{ 64, (size_t)1 << 45, SYMM_ENOMEM, "" },
	};
	struct rig *rig = arg;
	void *ptr = NULL;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;

		options.signal_pad_bytes = cases[i].pad;
		BAD(symm_alloc(rig->group, cases[i].bytes, &options, &ptr), cases[i].code, cases[i].text);
		CHECK(ptr == NULL);
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* Ranks that do not agree read both figures, and may go on. */
static int disagreeing(int rank, void *arg)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	options.signal_pad_bytes = rank == 0 ? 0 : 4096;
	GOOD(symm_alloc(rig->group, 64, &options, &ptr));
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_EMISMATCH, "\"size=64 pad=4096 ");
	CHECK(strstr(symm_last_error(), "\"size=64 pad=2048 ") != NULL, "(%s)", symm_last_error());
	GOOD(symm_free(ptr));
	options.signal_pad_bytes = 2048 * (size_t)(1 - rank); /* 0 is 2048 */
	GOOD(symm_alloc(rig->group, 64, &options, &ptr));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	GOOD(symm_close(rig->context));
	return 0;
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "sizes of pads", 2, pads },
		{ "sizes that cannot be", 1, refusals },
		{ "the pad of a persistent allocation", 1, cached },
		{ "ranks that do not agree", 2, disagreeing },
	};

	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	TEST_CASES(&redis, NULL, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
