/* Allocations: sizes, refusals, persistence, and every order in which pointer, reference, group and context end. */
#include "cases.h"

#include <pthread.h>
#include <signal.h>

static struct tap_redis redis;
static int *rally; /* [2]: two places to meet, shared by the ranks */

static struct symm_alloc_options persistent(uint64_t id)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;

	options.persistent = 1;
	options.alloc_id = id;
	return options;
}

/* ---- sizes ---- */

static int check_size(struct rig *rig, int rank, size_t bytes)
{
	struct symm_mem *mem;
	size_t told = 0;
	void *ptr;

	GOOD(symm_alloc(rig->group, bytes, NULL, &ptr));
	CHECK(device_holds(device_of_context(rig->context), ptr, bytes, 0), "(%zu bytes)", bytes);
	GOOD(symm_alloc_size((char *)ptr + bytes / 2, &told));
	CHECK(told == bytes);
	GOOD(symm_alloc_size((char *)ptr + bytes - 1, &told));
	CHECK(told == bytes);
	BAD(symm_alloc_size((char *)ptr + bytes, &told), SYMM_ENOENT, "not inside");
	BAD(symm_alloc_size((char *)ptr - 1, &told), SYMM_ENOENT, "not inside");
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	CHECK(symm_mem_buffer_size(mem) == bytes && symm_mem_buffer(mem, rank) == ptr);
	CHECK(block_fill(mem, 1 - rank, 0xa5 + rank, bytes));
	GOOD(symm_barrier(mem, 0, 0));
	CHECK(block_holds(mem, rank, 0xa5 + (1 - rank), bytes));
	CHECK(pad_is_zero(mem, rank));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_free(ptr));
	GOOD(symm_mem_release(mem));
	return 0;
}

static int sizes(int rank, void *arg)
{
	static const size_t bytes[] = { 1, 4095, 4096, (size_t)1 << 20 };
	struct rig *rig = arg;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++)
		if (check_size(rig, rank, bytes[i]) != 0)
			return 1;
	GOOD(symm_close(rig->context));
	return 0;
}

static int refusals(int rank, void *arg)
{
	static const struct {
		size_t bytes, options_size;
		const char *device;
		int code;
		const char *text;
	} cases[] = {
		{ 0, 0, NULL, SYMM_EINVAL, "0 bytes" },
		{ SIZE_MAX, 0, NULL, SYMM_EINVAL, "more than an address space" },
		{ SIZE_MAX - 4095, 0, NULL, SYMM_EINVAL, "more than an address space" },
		{ (size_t)1 << 62, 0, NULL, SYMM_EINVAL, "more than an address space" },
		{ (size_t)1 << 47, 0, NULL, SYMM_ENOMEM, "" },
		{ (size_t)1 << 45, 0, NULL, SYMM_ENOMEM, "bytes" },
		{ 1, 1, NULL, SYMM_EINVAL, "options.size is 1, not " },
		{ 1, SIZE_MAX, NULL, SYMM_EINVAL, "SYMM_ALLOC_OPTIONS_INIT" },
		{ 1, 0, "other:0", SYMM_EINVAL, "device other:0: the context's device is " },
		{ 1, 0, "", SYMM_EINVAL, "the context's device is " },
	};
	struct rig *rig = arg;
	void *untouched = rig, *ptr = untouched;

	GOOD(rig_join(rig, rank));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;

		options.device = cases[i].device;
		if (cases[i].options_size != 0)
			options.size = cases[i].options_size;
		BAD(symm_alloc(rig->group, cases[i].bytes, &options, &ptr), cases[i].code, cases[i].text);
		CHECK(ptr == untouched && strncmp(symm_last_error(), "symm_alloc: ", 12) == 0, "(%s)",
		      symm_last_error());
	}
	BAD(symm_alloc(rig->group, 1, NULL, NULL), SYMM_EINVAL, "ptr is NULL");
	BAD(symm_alloc(NULL, 1, NULL, &ptr), SYMM_EINVAL, "not a symm_group");
	BAD(symm_alloc((struct symm_group *)(void *)rig->context, 1, NULL, &ptr), SYMM_ESTALE, "symm_group");
	GOOD(symm_alloc(rig->group, 1,
			&(struct symm_alloc_options){ sizeof(struct symm_alloc_options), device_text(), 0, 0, 0 },
			&ptr));
	BAD(symm_alloc_size(ptr, NULL), SYMM_EINVAL, "bytes is NULL");
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- persistence ---- */

static int persistence_refusals(struct rig *rig, struct symm_group *other, void *first)
{
	struct symm_alloc_options id7 = persistent(7);
	void *ptr = NULL;

	BAD(symm_alloc(rig->group, 8192, &id7, &ptr), SYMM_EBUSY, "alloc_id 7 is still active");
	GOOD(symm_free(first));
	BAD(symm_free(first), SYMM_ENOENT, "has been freed");
	BAD(symm_rendezvous_completed(first, NULL), SYMM_ENOENT, "has been freed");
	BAD(symm_alloc(rig->group, 4096, &id7, &ptr), SYMM_EMISMATCH, "alloc_id 7 stands for 8192 bytes, and 4096 ");
	BAD(symm_alloc(other, 8192, &id7, &ptr), SYMM_EMISMATCH, "alloc_id 7 belongs to group world, and group other ");
	CHECK(ptr == NULL);
	return 0;
}

/* The second life of a persistent allocation needs no store: Redis is stopped meanwhile. */
static int second_life(struct rig *rig, int rank, void *first, struct symm_mem *mem)
{
	struct symm_alloc_options id7 = persistent(7);
	struct symm_mem *again, *found;
	void *ptr;

	tap_rally(rally, 2);
	if (rank == 0)
		kill(redis.pid, SIGSTOP);
	tap_rally(rally, 2);
	GOOD(symm_alloc(rig->group, 8192, &id7, &ptr));
	CHECK(ptr == first);
	CHECK(symm_rendezvous_completed(ptr, NULL) == 1);
	GOOD(symm_rendezvous(ptr, NULL, 500, &again));
	GOOD(symm_mem_find((char *)ptr + 8191, rig->group, &found));
	CHECK(again == mem && found == mem);
	GOOD(symm_barrier(mem, 3, 0));
	if (rank == 0)
		kill(redis.pid, SIGCONT);
	GOOD(symm_mem_release(again));
	GOOD(symm_mem_release(found));
	return 0;
}

static int persistence(int rank, void *arg)
{
	struct symm_alloc_options id7 = persistent(7), id0 = persistent(0);
	struct rig *rig = arg;
	struct symm_group *other;
	struct symm_mem *mem;
	void *first, *zero, *plain;
	size_t bytes;

	GOOD(rig_join(rig, rank));
	GOOD(symm_group_join(rig->context, "other", rank, 2, 0, &other));
	GOOD(symm_alloc(rig->group, 8192, &id7, &first));
	GOOD(symm_alloc(other, 100, &id0, &zero));
	GOOD(symm_alloc(rig->group, 100, NULL, &plain));
	CHECK(zero != plain);
	if (persistence_refusals(rig, other, first) != 0)
		return 1;
	GOOD(symm_alloc(rig->group, 8192, &id7, &plain));
	CHECK(plain == first);
	GOOD(symm_rendezvous(first, NULL, 0, &mem));
	GOOD(symm_free(first));
	GOOD(symm_mem_release(mem));
	if (second_life(rig, rank, first, mem) != 0)
		return 1;
	GOOD(symm_group_leave(rig->group));
	BAD(symm_alloc_size(first, &bytes), SYMM_ENOENT, "not inside");
	BAD(symm_mem_retain(mem), SYMM_ESTALE, "");
	GOOD(symm_alloc(other, 4096, &id7, &first));
	GOOD(symm_close(rig->context));
	BAD(symm_alloc_size(first, &bytes), SYMM_ENOENT, "not inside");
	BAD(symm_free(zero), SYMM_ENOENT, "not the address");
	return 0;
}

/* Ids are a context's own: the same id in another context of the process is another allocation. */
static int persistence_of_contexts(int rank, void *arg)
{
	struct symm_alloc_options id = persistent(UINT64_MAX);
	struct rig *rig = arg, second = *rig;
	void *one, *two;

	GOOD(rig_join(rig, rank));
	second.job = "second";
	GOOD(rig_join(&second, rank));
	GOOD(symm_alloc(rig->group, 64, &id, &one));
	GOOD(symm_alloc(second.group, 128, &id, &two));
	CHECK(one != two);
	BAD(symm_alloc(second.group, 128, &id, &two), SYMM_EBUSY, "alloc_id 18446744073709551615");
	GOOD(symm_close(rig->context));
	GOOD(symm_free(two));
	GOOD(symm_close(second.context));
	return 0;
}

/* ---- ends ---- */

static int wrong_frees(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	size_t bytes;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(symm_alloc(rig->group, 10000, NULL, &ptr));
	GOOD(symm_free(NULL));
	BAD(symm_free((char *)ptr + 1), SYMM_ENOENT, "is not the address of an allocation");
	BAD(symm_free(&bytes), SYMM_ENOENT, "is not the address of an allocation");
	BAD(symm_alloc_size(NULL, &bytes), SYMM_ENOENT, "not inside");
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	BAD(symm_free(ptr), SYMM_ENOENT, "is not the address of an allocation");
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "not inside an allocation");
	BAD(symm_rendezvous(ptr, NULL, 0, &mem), SYMM_ENOENT, "not inside an allocation");
	BAD(symm_rendezvous_completed(ptr, rig->group), SYMM_ENOENT, "not inside an allocation");
	BAD(symm_mem_find(ptr, rig->group, &mem), SYMM_ENOENT, "not inside an allocation");
	BAD(symm_mem_find(ptr, NULL, NULL), SYMM_EINVAL, "mem is NULL");
	GOOD(symm_close(rig->context));
	return 0;
}

/* What is held by a reference works on after free, on both ranks, until its last reference goes. */
static int handle_outlives_pointer(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem, *found;
	char text[16] = "from rank ?", got[16];
	size_t bytes;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, 1000, &ptr, &mem));
	GOOD(symm_free(ptr));
	BAD(symm_alloc_size(ptr, &bytes), SYMM_ENOENT, "has been freed");
	BAD(symm_mem_find(ptr, NULL, &found), SYMM_ENOENT, "has been freed");
	text[10] = (char)('0' + rank);
	GOOD(symm_barrier(mem, 1, 0));
	GOOD(symm_put(mem, 1 - rank, 100, text, sizeof(text)));
	GOOD(symm_barrier(mem, 1, 0));
	GOOD(symm_get(mem, rank, 100, got, sizeof(got)));
	CHECK(got[10] == '0' + 1 - rank && symm_mem_buffer(mem, rank) == ptr);
	GOOD(symm_put_signal(mem, 1 - rank, 31, 0));
	GOOD(symm_wait_signal(mem, 1 - rank, 31, 0));
	tap_rally(rally, 2);
	if (rank == 0)
		GOOD(symm_mem_release(mem));
	tap_rally(rally, 2);
	if (rank == 1) {
		CHECK(block_read(mem, 0, 100, got, sizeof(got)) && strcmp(got, "from rank 1") == 0);
		BAD(symm_barrier(mem, 1, 0), SYMM_ESTALE, "has freed the allocation");
		GOOD(symm_group_status(rig->group));
		GOOD(symm_mem_release(mem));
	}
	BAD(symm_barrier(mem, 1, 0), SYMM_ESTALE, "this symm_mem is no more");
	CHECK(symm_mem_buffer(mem, 0) == NULL && symm_mem_buffers(mem) == NULL && symm_mem_buffer_size(mem) == 0);
	BAD(symm_mem_rank(mem), SYMM_ESTALE, "");
	GOOD(symm_close(rig->context));
	return 0;
}

static int counting(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem, *found;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, 64, &ptr, &mem));
	GOOD(symm_mem_retain(mem));
	GOOD(symm_mem_find(ptr, NULL, &found));
	for (int i = 0; i < 3; i++)
		GOOD(symm_mem_release(mem));
	BAD(symm_mem_release(mem), SYMM_EINVAL, "no reference to release");
	GOOD(symm_rendezvous(ptr, NULL, 0, &found));
	CHECK(found == mem);
	GOOD(symm_free(ptr));
	GOOD(symm_mem_retain(mem));
	GOOD(symm_mem_release(mem));
	CHECK(symm_mem_rank(mem) == rank);
	GOOD(symm_mem_release(mem));
	BAD(symm_mem_release(mem), SYMM_ESTALE, "symm_mem_release: this symm_mem is no more");
	BAD(symm_mem_retain(mem), SYMM_ESTALE, "symm_mem_retain: this symm_mem is no more");
	GOOD(symm_mem_release(NULL));
	BAD(symm_mem_retain(NULL), SYMM_EINVAL, "is not a symm_mem");
	BAD(symm_mem_release((struct symm_mem *)(void *)&found), SYMM_EINVAL, "is not a symm_mem");
	BAD(symm_mem_release((struct symm_mem *)(void *)rig->group), SYMM_ESTALE, "symm_mem");
	GOOD(symm_close(rig->context));
	BAD(symm_close(rig->context), SYMM_ESTALE, "");
	return 0;
}

/* ---- threads ---- */

#define FREERS 4

struct freer {
	void *ptr;
	int code;
	pthread_t thread;
};

static void *freer_run(void *arg)
{
	struct freer *freer = arg;

	freer->code = symm_free(freer->ptr);
	return NULL;
}

/* Of several threads that free one pointer one does it; the others are told that it is gone, or going. */
static int frees_at_once(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	for (int round = 0; round < rounds(100); round++) {
		struct freer freer[FREERS];
		int freed = 0;

		GOOD(rig_memory(rig, 64, &ptr, &mem));
		GOOD(symm_mem_release(mem));
		for (int i = 0; i < FREERS; i++) {
			freer[i] = (struct freer){ .ptr = ptr };
			CHECK(pthread_create(&freer[i].thread, NULL, freer_run, &freer[i]) == 0);
		}
		for (int i = 0; i < FREERS; i++) {
			pthread_join(freer[i].thread, NULL);
			freed += freer[i].code == 0;
			CHECK(freer[i].code == 0 || freer[i].code == SYMM_ENOENT || freer[i].code == SYMM_EBUSY, "(%d)",
			      freer[i].code);
		}
		CHECK(freed == 1, "(%d threads have freed it)", freed);
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* Everything that ends an allocation. */
#define ENDS 7

struct ending {
	struct rig rig;
	struct symm_group *other;
	struct symm_mem *own, *borrowed;
	void *ptr, *stream;
	int next, code[2 * ENDS];
};

static void *end_one(void *arg)
{
	struct ending *e = arg;
	int turn = __atomic_fetch_add(&e->next, 1, __ATOMIC_RELAXED), code;

	switch (turn % ENDS) {
	case 0:
		code = symm_free(e->ptr);
		break;
	case 1:
		code = symm_mem_release(e->own);
		break;
	case 2:
		code = symm_mem_release(e->borrowed);
		break;
	case 3:
		code = symm_group_leave(e->other);
		break;
	case 4:
		code = symm_group_leave(e->rig.group);
		break;
	case 5:
		code = symm_stream_destroy(e->stream);
		break;
	default:
		code = symm_close(e->rig.context);
	}
	e->code[turn % (2 * ENDS)] = code;
	return NULL;
}

static int ending_begin(struct ending *e, const struct rig *rig, int first)
{
	*e = (struct ending){ .rig = *rig, .next = first };
	GOOD(rig_join(&e->rig, 0));
	GOOD(symm_group_join(e->rig.context, "other", 0, 1, 0, &e->other));
	GOOD(symm_stream_create(e->rig.context, &e->stream));
	GOOD(symm_alloc(e->rig.group, 64, NULL, &e->ptr));
	GOOD(symm_rendezvous(e->ptr, NULL, 0, &e->own));
	GOOD(symm_rendezvous(e->ptr, e->other, 0, &e->borrowed));
	GOOD(symm_barrier_on_stream(e->own, 0, 0, e->stream));
	return 0;
}

/* All of it at once, twice: whoever comes late is told that it is gone, or going, and nothing is freed twice. */
static int ends_at_once(int rank, void *arg)
{
	const struct rig *rig = arg;

	(void)rank;
	for (int round = 0; round < rounds(100); round++) {
		pthread_t thread[2 * ENDS];
		struct ending e;

		if (ending_begin(&e, rig, round) != 0)
			return 1;
		for (int i = 0; i < 2 * ENDS; i++)
			CHECK(pthread_create(&thread[i], NULL, end_one, &e) == 0);
		for (int i = 0; i < 2 * ENDS; i++)
			pthread_join(thread[i], NULL);
		for (int i = 0; i < 2 * ENDS; i++)
			CHECK(e.code[i] == 0 || e.code[i] == SYMM_ENOENT || e.code[i] == SYMM_ESTALE ||
				      e.code[i] == SYMM_EBUSY || e.code[i] == SYMM_EINVAL,
			      "(%d: %d)", i, e.code[i]);
		BAD(symm_close(e.rig.context), SYMM_ESTALE, "this symm_context is no more");
		BAD(symm_group_leave(e.other), SYMM_ESTALE, "this symm_group is no more");
		BAD(symm_stream_destroy(e.stream), SYMM_ESTALE, "this stream is no more");
		BAD(symm_free(e.ptr), SYMM_ENOENT, "is not the address of an allocation");
	}
	return 0;
}

/* ---- two gigabytes ---- */

#define BIG ((size_t)2 << 30)
#define PAGE 4096

static size_t memory_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t kib = 0;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL &&
	       sscanf(line, "MemAvailable: %zu kB", &kib) != 1)
		;
	if (file != NULL)
		fclose(file);
	return kib * 1024;
}

/* The peer writes its number into every page, and into the last word. */
static int big(int rank, void *arg)
{
	const size_t last = BIG / sizeof(uint64_t) - 1,
		     step = (on_host() ? PAGE : 64 * PAGE) / sizeof(uint64_t); /* each is a call of the driver */
	uint64_t me = (uint64_t)rank, peer = 1 - me;
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, BIG, &ptr, &mem));
	for (size_t word = 0; word < last; word += step)
		CHECK(word_set(mem, 1 - rank, word, word + me + 1));
	CHECK(word_set(mem, 1 - rank, last, me + 1));
	GOOD(symm_barrier(mem, 0, 0));
	for (size_t word = 0; word < last; word += step)
		CHECK(word_get(mem, rank, word) == word + peer + 1, "(word %zu)", word);
	CHECK(word_get(mem, rank, last) == peer + 1);
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_close(rig->context));
	return 0;
}

static void test_big(void)
{
	struct rig rig = { .url = redis.url, .world = 2, .timeout_ms = 60000 };
	const char *wanted = getenv("SYMM_TEST_BIG");

	if (!world_fits("2 GiB", 2))
		return;
	if (wanted != NULL && strcmp(wanted, "0") == 0)
		tap_skip(2, "SYMM_TEST_BIG=0");
	else if (memory_available() < (size_t)6 << 30)
		tap_skip(2, "two blocks of 2 GiB: %zu MiB are free, and 6144 are wanted", memory_available() >> 20);
	else
		tap_ranks("2 GiB", 2, big, &rig, 60);
}

int main(void)
{
	static const struct test_case tests[] = {
		{ "sizes", 2, sizes },
		{ "refusals", 1, refusals },
		{ "persistence", 2, persistence },
		{ "persistence of two contexts", 1, persistence_of_contexts },
		{ "wrong frees, and use after free", 2, wrong_frees },
		{ "the handle outlives the pointer", 2, handle_outlives_pointer },
		{ "references are counted", 2, counting },
		{ "four threads free one pointer", 2, frees_at_once },
		{ "everything ends at once", 1, ends_at_once },
	};

	if (!need_device(1))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	test_big();
	TEST_CASES(&redis, rally, tests);
	tap_redis_stop(&redis);
	return tap_done();
}
