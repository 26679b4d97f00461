/* Worlds: large ones, ranks of one process on one GPU and on several, ranks of several hosts; who may meet whom, and
 * what the others are told. */
#include "cuda_help.h"

#include <pthread.h>

#define BYTES 4096 /* of a block */
#define MOST 64    /* ranks */

static struct tap_redis redis;

/* ---- a rank ---- */

struct rank {
	struct symm_context *context;
	struct symm_group *group;
	struct symm_mem *mem;
	void *ptr;
	int me, world, rc;
	const char *device;
	bool share;
	pthread_t thread;
};

static int open_and_join(struct rank *r)
{
	struct symm_options options = SYMM_OPTIONS_INIT;

	options.url = redis.url;
	options.job = "test";
	options.device = r->device;
	options.share_device = r->share;
	options.rank = r->me;
	options.local_rank = r->me;
	options.world_size = r->world;
	options.timeout_ms = 30000;
	GOOD(symm_open(&options, &r->context));
	GOOD(symm_group_join(r->context, "world", SYMM_AUTO, SYMM_AUTO, 0, &r->group));
	GOOD(symm_alloc(r->group, BYTES, NULL, &r->ptr));
	return 0;
}

/* The tables of host and device agree, and no address stands in them twice; the own block is where it was allocated. */
static int check_tables(const struct rank *r)
{
	void *const *host[] = { symm_mem_buffers(r->mem), symm_mem_signal_pads(r->mem) };
	void *const *there[] = { symm_mem_buffers_dev(r->mem), symm_mem_signal_pads_dev(r->mem) };
	void *copy[MOST];

	CHECK(host[0][r->me] == r->ptr && symm_mem_buffer(r->mem, r->me) == r->ptr);
	for (int table = 0; table < 2; table++) {
		CHECK(there[table] != host[table]);
		CHECK(device_read(device_of(r->mem), copy, there[table], (size_t)r->world * sizeof(void *)), "%s",
		      symm_last_error());
		CHECK(memcmp(copy, host[table], (size_t)r->world * sizeof(void *)) == 0);
	}
	for (int i = 0; i < r->world; i++)
		for (int k = 0; k < i; k++)
			CHECK(host[0][i] != host[0][k] && host[1][i] != host[1][k]);
	return 0;
}

/* All write their word into all blocks, meet, and read what the others wrote into theirs. */
static int all_to_all(const struct rank *r, int channel, uint64_t round)
{
	uint64_t words[MOST];

	for (int peer = 0; peer < r->world; peer++)
		CHECK(word_set(r->mem, peer, (size_t)r->me, round * 1000 + (uint64_t)r->me), "%s", symm_last_error());
	GOOD(symm_barrier(r->mem, channel, 0));
	CHECK(block_read(r->mem, r->me, 0, words, (size_t)r->world * sizeof(uint64_t)));
	for (int peer = 0; peer < r->world; peer++)
		CHECK(words[peer] == round * 1000 + (uint64_t)peer, "round %d, rank %d", (int)round, peer);
	GOOD(symm_barrier(r->mem, channel, 0));
	return 0;
}

static int on_stream(const struct rank *r)
{
	int next = (r->me + 1) % r->world, before = (r->me + r->world - 1) % r->world;
	void *stream;

	GOOD(symm_stream_create(r->context, &stream));
	for (int round = 0; round < 5; round++) {
		GOOD(symm_barrier_on_stream(r->mem, 1, 0, stream));
		GOOD(symm_put_signal_on_stream(r->mem, next, 2, 0, stream));
		GOOD(symm_wait_signal_on_stream(r->mem, before, 2, 0, stream));
	}
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_stream_destroy(stream));
	return 0;
}

static int take_part(struct rank *r)
{
	DO(open_and_join(r));
	GOOD(symm_rendezvous(r->ptr, NULL, 0, &r->mem));
	DO(check_tables(r));
	for (uint64_t round = 0; round < 4; round++)
		DO(all_to_all(r, round % 2 == 0 ? 0 : 31, round));
	DO(on_stream(r));
	GOOD(symm_group_status(r->group));
	return 0;
}

static void *run_thread(void *arg)
{
	struct rank *r = arg;

	r->rc = take_part(r);
	return NULL;
}

/* Ranks from `first` on are threads of this process, on the devices by turns. */
static int threads(struct rank *ranks, int first, int n, int world, int devices)
{
	static const char *const names[] = { "cuda:0", "cuda:1", "cuda:2", "cuda:3",
					     "cuda:4", "cuda:5", "cuda:6", "cuda:7" };

	for (int i = 0; i < n; i++) {
		ranks[i] = (struct rank){ .me = first + i, .world = world, .share = true };
		ranks[i].device = names[(first + i) % devices];
		CHECK(pthread_create(&ranks[i].thread, NULL, run_thread, &ranks[i]) == 0);
	}
	for (int i = 0; i < n; i++)
		pthread_join(ranks[i].thread, NULL);
	for (int i = 0; i < n; i++)
		CHECK(ranks[i].rc == 0, "rank %d", first + i);
	return 0;
}

static int close_all(const struct rank *ranks, int n)
{
	for (int i = 0; i < n; i++)
		GOOD(symm_close(ranks[i].context));
	return 0;
}

/* ---- ranks of one process ---- */

struct crowd {
	const char *name;
	int world, devices;
};

static int crowd(int rank, void *arg)
{
	const struct crowd *c = arg;
	struct rank ranks[MOST];
	struct symm_fake_counts counts;

	(void)rank;
	DO(threads(ranks, 0, c->world, c->world, c->devices));
	if (faked()) {
		/* A block and an arena a rank, each at one address only; and a slab of local memory a device. */
		counts = fake_counts();
		CHECK(counts.mappings == 2 * c->world + c->devices, "%d mappings", counts.mappings);
		CHECK(fake_calls("cuMemImportFromShareableHandle") == 0 &&
		      fake_calls("cuMemExportToShareableHandle") == 0);
	}
	DO(close_all(ranks, c->world));
	if (faked()) {
		counts = fake_counts();
		CHECK(counts.mappings == 0 && counts.handles == 0 && counts.reservations == 0 && counts.streams == 0);
	}
	return 0;
}

/* Two processes of two ranks, which see both devices. */
static int two_by_two(int process, void *arg)
{
	struct rank ranks[2];

	DO(threads(ranks, 2 * process, 2, 4, *(int *)arg));
	return close_all(ranks, 2);
}

/* ---- who may meet ---- */

struct meeting {
	const char *name;
	int world;
	const char *device;
	bool share;
	const char *env[3][2]; /* of each rank, "NAME=VALUE" */
	int code;
	const char *text[3]; /* of the error */
};

#define UUID0 "GPU-face0000-0000-4000-8000-000000000000"
#define UUID1 "GPU-face0000-0000-4000-8000-000000000001"
#define ON_A "SYMM_BOOT_ID=host-a"
#define ON_B "SYMM_BOOT_ID=host-b"
#define FABRIC "SYMM_FAKE_FABRIC=1"
#define LIES "SYMM_FAKE_FABRIC=lies"

static const struct meeting meetings[] = {
	{ "one GPU, not to be shared",
	  2,
	  "cuda:0",
	  false,
	  { { NULL } },
	  SYMM_EINVAL,
	  { "ranks 0 and 1 both use GPU-", "SYMM_SHARE_DEVICE=1", "give each rank a GPU of its own" } },
	{ "one GPU, shared by an option", 2, "cuda:0", true, { { NULL } }, 0, { NULL } },
	{ "one GPU, shared by the environment",
	  2,
	  "cuda:0",
	  false,
	  { { "SYMM_SHARE_DEVICE=1" }, { "SYMM_SHARE_DEVICE=1" } },
	  0,
	  { NULL } },
	{ "one GPU, shared by one of the two",
	  2,
	  "cuda:0",
	  false,
	  { { "SYMM_SHARE_DEVICE=1" } },
	  SYMM_EINVAL,
	  { "ranks 0 and 1 both use " UUID0 } },
	{ "a GPU each, by local rank", 2, "cuda", false, { { NULL } }, 0, { NULL } },
	{ "more ranks than GPUs, shared", 3, "cuda", true, { { NULL } }, 0, { NULL } },
	{ "each sees its own GPU only",
	  2,
	  "cuda",
	  false,
	  { { "CUDA_VISIBLE_DEVICES=0" }, { "CUDA_VISIBLE_DEVICES=1" } },
	  0,
	  { NULL } },
	{ "each sees the same GPU only",
	  2,
	  "cuda",
	  false,
	  { { "CUDA_VISIBLE_DEVICES=1" }, { "CUDA_VISIBLE_DEVICES=1" } },
	  SYMM_EINVAL,
	  { "ranks 0 and 1 both use " UUID1 } },
	{ "numbered otherwise",
	  2,
	  "cuda:0",
	  false,
	  { { "CUDA_VISIBLE_DEVICES=0,1" }, { "CUDA_VISIBLE_DEVICES=1,0" } },
	  0,
	  { NULL } },
	{ "the same GPU by two numbers",
	  2,
	  "cuda",
	  false,
	  { { "CUDA_VISIBLE_DEVICES=0,1" }, { "CUDA_VISIBLE_DEVICES=1,0" } },
	  SYMM_EINVAL,
	  { UUID0 } },
	{ "no path",
	  2,
	  "cuda",
	  false,
	  { { "SYMM_FAKE_NO_PEER=0-1" }, { "SYMM_FAKE_NO_PEER=0-1" } },
	  SYMM_EUNREACH,
	  { "no peer path", UUID0, UUID1 } },
	{ "no path to a GPU that is not seen",
	  2,
	  "cuda",
	  false,
	  { { "CUDA_VISIBLE_DEVICES=0", "SYMM_FAKE_NO_PEER=0-1" },
	    { "CUDA_VISIBLE_DEVICES=1", "SYMM_FAKE_NO_PEER=0-1" } },
	  SYMM_EUNREACH,
	  { "rank 0 (", "no peer path from GPU-face", "to the GPU that has the memory" } },
	{ "hosts with a fabric", 2, "cuda", false, { { ON_A, FABRIC }, { ON_B, FABRIC } }, 0, { NULL } },
	{ "three ranks on two hosts with a fabric",
	  3,
	  "cuda",
	  true,
	  { { ON_A, FABRIC }, { ON_A, FABRIC }, { ON_B, FABRIC } },
	  0,
	  { NULL } },
	{ "the same GPU number on two hosts", 2, "cuda:0", false, { { ON_A, FABRIC }, { ON_B, FABRIC } }, 0, { NULL } },
	{ "hosts without a fabric",
	  2,
	  "cuda",
	  false,
	  { { ON_A }, { ON_B } },
	  SYMM_EUNREACH,
	  { "rank 0 (HOST, pid", "memory of rank 1 on HOST", "no fabric handles" } },
	{ "hosts, and one has a fabric",
	  2,
	  "cuda",
	  false,
	  { { ON_A, FABRIC }, { ON_B } },
	  SYMM_EUNREACH,
	  { "rank 0", "rank 1", "no fabric handles" } },
	{ "hosts whose fabric is none",
	  2,
	  "cuda",
	  false,
	  { { ON_A, LIES }, { ON_B, LIES } },
	  SYMM_EUNREACH,
	  { "rank 0", "rank 1", "no fabric handles" } },
	{ "one host whose fabric is none", 2, "cuda", false, { { LIES }, { LIES } }, 0, { NULL } },
	{ "one host, and one rank has a fabric", 2, "cuda", false, { { FABRIC }, { LIES } }, 0, { NULL } },
	{ "one host with a fabric", 2, "cuda", false, { { FABRIC }, { FABRIC } }, 0, { NULL } },
};

/* HOST stands for this host's name; and which of two ranks is the first to tell is a matter of luck, so that their
 * numbers may have changed places. */
static bool told(const char *text, const char *part, bool swapped)
{
	char wanted[256] = "", host[64] = "";
	size_t n = 0;

	gethostname(host, sizeof(host) - 1);
	for (const char *at = part; *at != '\0' && n < sizeof(wanted) - sizeof(host); at++) {
		if (strncmp(at, "HOST", 4) == 0) {
			n += (size_t)snprintf(wanted + n, sizeof(wanted) - n, "%s", host);
			at += 3;
		} else if (swapped && at - part >= 5 && strncmp(at - 5, "rank ", 5) == 0) {
			wanted[n++] = *at == '0' ? '1' : '0';
		} else {
			wanted[n++] = *at;
		}
	}
	return strstr(text, wanted) != NULL;
}

static int check_told(const struct meeting *m, const char *text)
{
	bool all[2] = { true, true };

	for (int i = 0; i < 3 && m->text[i] != NULL; i++)
		for (int swapped = 0; swapped < 2; swapped++)
			all[swapped] &= told(text, m->text[i], swapped != 0);
	CHECK(all[0] || all[1], "%s", text);
	return 0;
}

static int meet(int rank, void *arg)
{
	const struct meeting *m = arg;
	struct rank r = { .me = rank, .world = m->world, .device = m->device, .share = m->share };
	int rc;

	for (int i = 0; i < 2 && m->env[rank][i] != NULL; i++)
		putenv((char *)(uintptr_t)m->env[rank][i]);
	DO(open_and_join(&r));
	rc = symm_rendezvous(r.ptr, NULL, 0, &r.mem);
	CHECK(rc == m->code, "%d: %s", rc, symm_last_error());
	if (rc != 0) {
		DO(check_told(m, symm_last_error()));
		GOOD(symm_group_status(r.group));
	} else {
		DO(check_tables(&r));
		for (uint64_t round = 0; round < 3; round++)
			DO(all_to_all(&r, 3, round));
		DO(on_stream(&r));
	}
	GOOD(symm_close(r.context));
	return 0;
}

/* The third rank has no device of its own: told when it opens, with the remedy. */
static int too_many(int rank, void *arg)
{
	struct symm_options options = SYMM_OPTIONS_INIT;
	struct symm_context *context;

	(void)rank;
	(void)arg;
	options.url = redis.url;
	options.device = "cuda";
	options.rank = options.local_rank = 2;
	options.world_size = 3;
	BAD(symm_open(&options, &context), SYMM_EDEVICE, "local rank 2 has no GPU of its own, 2 are visible");
	BAD(symm_open(&options, &context), SYMM_EDEVICE, "options.share_device or SYMM_SHARE_DEVICE=1");
	setenv("SYMM_SHARE_DEVICE", "1", 1);
	GOOD(symm_open(&options, &context));
	GOOD(symm_close(context));
	return 0;
}

/* Asked of a child: no process may fork ranks once it has opened a GPU. */
static int open_gpu(int rank, void *arg)
{
	const int *ordinal = arg;
	char text[16];
	struct symm_device *device;

	(void)rank;
	snprintf(text, sizeof(text), "cuda:%d", *ordinal);
	return symm_device_open(&(struct symm_device_wish){ .text = text }, &device) != 0;
}

static bool has_gpus(const char *name, int results, int gpus)
{
	int last = gpus - 1, pid;

	if (faked())
		return true;
	tap_ranks_start(1, open_gpu, &last, &pid);
	if (tap_wait(pid, 60) == 0)
		return true;
	tap_skip(results, "%s: this machine has not %d GPUs", name, gpus);
	return false;
}

int main(void)
{
	static const struct crowd crowds[] = {
		{ "33 ranks of one process", 33, 2 },
		{ "64 ranks of one process", 64, 8 },
		{ "4 ranks of one process on one GPU", 4, 1 },
		{ "5 ranks of one process on two GPUs", 5, 2 },
	};
	int one = 1, two = 2;

	many_queues();
	if (!driver_choose() || !need_device(2))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(crowds) / sizeof(crowds[0]); i++) {
		struct crowd c = crowds[i];

		if (!has_gpus(c.name, 1, c.devices))
			continue;
		if (faked())
			setenv("SYMM_FAKE_DEVICES", "8", 1);
		tap_ranks(c.name, 1, crowd, &c, 60);
		unsetenv("SYMM_FAKE_DEVICES");
	}
	tap_ranks("two processes of two ranks on one GPU", 2, two_by_two, &one, 60);
	if (has_gpus("two processes of two ranks on two GPUs", 2, 2))
		tap_ranks("two processes of two ranks on two GPUs", 2, two_by_two, &two, 60);
	for (size_t i = 0; i < sizeof(meetings) / sizeof(meetings[0]); i++) {
		struct meeting m = meetings[i];

		if (i < 3 || fake_only(m.name, m.world))
			tap_ranks(m.name, m.world, meet, &m, 60);
	}
	if (fake_only("more ranks than GPUs", 1))
		tap_ranks("more ranks than GPUs", 1, too_many, NULL, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
