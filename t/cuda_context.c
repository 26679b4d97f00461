/* The caller's current context, capture mode and last error are unchanged by every call of the library, whether it
 * succeeds or fails, whatever is current when it is called. */
#include "cuda_help.h"
#include "symm/allocator.h"
#include "symm/pool.h"
#include "symm/tensor.h"
#include "symm/view.h"

#include <limits.h>
#include <pthread.h>

#define WORLD 2

static struct tap_redis redis;
static int *rally;

static _Thread_local struct current before;

/* The call gives the code (or, for SOME, something) and leaves all as it was. */
#define KEEPS(call, code)                                                                                              \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		CHECK(rc_ == (code), "%s gives %d: %s", #call, rc_, symm_last_error());                                \
		DO(current_same(&before, #call));                                                                      \
	} while (0)
#define SOME(call) KEEPS((call) != 0, 1)

/* ---- all calls ---- */

struct caller {
	int rank, ordinal;
	struct symm_context *context;
	struct symm_group *group;
	const char *name; /* of the group */
	int channel;      /* and the next one */
};

static int open_and_join(struct caller *c)
{
	struct symm_options options = SYMM_OPTIONS_INIT;
	char device[32];

	snprintf(device, sizeof(device), "cuda:%d", c->ordinal);
	options.url = redis.url;
	options.job = "test";
	options.rank = c->rank;
	options.local_rank = c->rank;
	options.world_size = WORLD;
	options.timeout_ms = 20000;
	options.share_device = 1;
	options.device = "cuda:99";
	KEEPS(symm_open(&options, &c->context), SYMM_EDEVICE);
	options.device = device;
	options.url = "unix:///nowhere";
	options.timeout_ms = 50;
	KEEPS(symm_set_log(SYMM_AUTO, NULL, NULL), 0);
	KEEPS(symm_set_trace(NULL, NULL, NULL), 0);
	KEEPS(symm_open(&options, &c->context), SYMM_ESTORE);
	options.url = redis.url;
	options.timeout_ms = 20000;
	KEEPS(symm_open(&options, &c->context), 0);
	KEEPS(symm_group_join(c->context, "", SYMM_AUTO, SYMM_AUTO, 0, &c->group), SYMM_EINVAL);
	KEEPS(symm_group_join(c->context, c->rank == 0 ? "alone0" : "alone1", 0, 2, 1, &c->group), SYMM_ETIMEDOUT);
	KEEPS(symm_group_join(c->context, c->name, SYMM_AUTO, SYMM_AUTO, 0, &c->group), 0);
	return 0;
}

static int query(const struct caller *c)
{
	struct symm_stats stats = SYMM_STATS_INIT;
	struct symm_group *found;

	KEEPS(symm_context_rank(c->context), c->rank);
	KEEPS(symm_context_world_size(c->context), WORLD);
	KEEPS(symm_context_local_rank(c->context), c->rank);
	KEEPS(symm_group_find(c->context, c->name, &found), 0);
	KEEPS(symm_group_find(c->context, "other", &found), SYMM_ENOENT);
	KEEPS(symm_group_rank(c->group), c->rank);
	KEEPS(symm_group_world_size(c->group), WORLD);
	SOME(symm_group_generation(c->group) > 0);
	SOME(symm_group_name(c->group) != NULL);
	SOME(symm_group_store(c->group) != NULL);
	KEEPS(symm_group_status(c->group), 0);
	KEEPS(symm_context_stats(c->context, &stats), 0);
	return 0;
}

static int join_again(const struct caller *c)
{
	const int ranks[] = { 1, 0 };
	struct symm_group *reversed;
	char name[64];

	snprintf(name, sizeof(name), "%s.reversed", c->name);
	KEEPS(symm_group_join_ranks(c->group, name, ranks, 0, 0, &reversed), SYMM_EINVAL);
	KEEPS(symm_group_join_ranks(c->group, name, ranks, 2, 0, &reversed), 0);
	KEEPS(symm_group_leave(reversed), 0);
	return 0;
}

static int make_memory(const struct caller *c, void **ptr, struct symm_mem **mem)
{
	struct symm_mem *found;
	size_t bytes;

	KEEPS(symm_alloc(c->group, 0, NULL, ptr), SYMM_EINVAL);
	KEEPS(symm_alloc(c->group, (size_t)1 << 44, NULL, ptr), SYMM_ENOMEM);
	KEEPS(symm_alloc(c->group, 4096, NULL, ptr), 0);
	KEEPS(symm_alloc_size(*ptr, &bytes), 0);
	KEEPS(symm_alloc_size(&bytes, &bytes), SYMM_ENOENT);
	KEEPS(symm_mem_find(*ptr, c->group, mem), SYMM_ENOENT);
	KEEPS(symm_rendezvous_completed(*ptr, c->group), 0);
	KEEPS(symm_rendezvous(*ptr, c->group, -1, mem), SYMM_EINVAL);
	KEEPS(symm_rendezvous(*ptr, c->group, 0, mem), 0);
	KEEPS(symm_rendezvous_completed(*ptr, c->group), 1);
	KEEPS(symm_mem_find(*ptr, c->group, &found), 0);
	KEEPS(symm_mem_retain(found), 0);
	KEEPS(symm_mem_release(found), 0);
	KEEPS(symm_mem_release(found), 0);
	return 0;
}

static int ask_memory(const struct caller *c, struct symm_mem *mem)
{
	struct symm_device_view view;
	struct symm_sync_words words;
	struct symm_allocator allocator = SYMM_ALLOCATOR_INIT;

	KEEPS(symm_mem_rank(mem), c->rank);
	KEEPS(symm_mem_world_size(mem), WORLD);
	SOME(symm_mem_buffer(mem, 1 - c->rank) != NULL);
	SOME(symm_mem_buffer(mem, WORLD) == NULL);
	SOME(symm_mem_signal_pad(mem, c->rank) != NULL);
	SOME(symm_mem_buffers(mem) != NULL);
	SOME(symm_mem_signal_pads(mem) != NULL);
	SOME(symm_mem_buffers_dev(mem) != NULL);
	SOME(symm_mem_signal_pads_dev(mem) != NULL);
	SOME(symm_mem_buffer_size(mem) == 4096);
	SOME(symm_mem_signal_pad_size(mem) > 0);
	KEEPS(symm_mem_device_view(mem, &view), 0);
	KEEPS(symm_mem_sync_words(mem, &words), 0);
	KEEPS(symm_mem_has_multicast(mem), 0);
	SOME(symm_mem_multicast(mem) == NULL);
	KEEPS(symm_has_multicast_support("cuda:0"), 0);
	KEEPS(symm_has_multicast_support("cuda:99"), SYMM_EDEVICE);
	KEEPS(symm_get_allocator("cuda", &allocator), 0);
	KEEPS(symm_register_allocator("cuda", &allocator), SYMM_EBUSY);
	return 0;
}

/* Two words of the caller's own. */
static int use_memory(const struct caller *c, struct symm_mem *mem, uint64_t *own)
{
	int peer = 1 - c->rank, channel = c->channel;

	KEEPS(symm_barrier(mem, 99, 0), SYMM_EINVAL);
	KEEPS(symm_barrier(mem, channel, 0), 0);
	KEEPS(symm_put(mem, peer, 4096, own, 8), SYMM_EINVAL);
	own[0] = 100 + (uint64_t)c->rank;
	KEEPS(symm_put(mem, peer, 0, own, 8), 0);
	KEEPS(symm_put_signal(mem, WORLD, channel, 0), SYMM_EINVAL);
	KEEPS(symm_put_signal(mem, peer, channel, 0), 0);
	KEEPS(symm_wait_signal(mem, peer, channel, -1), SYMM_EINVAL);
	KEEPS(symm_wait_signal(mem, peer, channel, 0), 0);
	KEEPS(symm_get(mem, c->rank, 0, own + 1, 8), 0);
	KEEPS(symm_get(mem, -1, 0, own + 1, 8), SYMM_EINVAL);
	SOME(own[1] == 100 + (uint64_t)peer);
	return 0;
}

static int move_data(const struct caller *c, struct symm_mem *mem, const uint64_t *own)
{
	int peer = 1 - c->rank, channel = c->channel;

	KEEPS(symm_copy(mem, peer, 64, c->rank, 64, 8), 0);
	KEEPS(symm_copy(mem, peer, 64, peer, 64, 8), SYMM_EINVAL);
	KEEPS(symm_memset32(mem, peer, 64, 1, 2), 0);
	KEEPS(symm_memset32(mem, peer, 2, 1, 2), SYMM_EINVAL);
	KEEPS(symm_write_value(mem, peer, 72, 1, 8), 0);
	KEEPS(symm_write_value(mem, peer, 72, 1, 2), SYMM_EINVAL);
	KEEPS(symm_put_with_signal(mem, peer, 80, own, 8, channel, 0), 0);
	KEEPS(symm_put_with_signal(mem, peer, 80, NULL, 8, channel, 0), SYMM_EINVAL);
	KEEPS(symm_wait_signal(mem, peer, channel, 0), 0);
	KEEPS(symm_put_with_signal(mem, peer, 80, &peer, sizeof(peer), channel, 0), 0);
	KEEPS(symm_wait_signal(mem, peer, channel, 0), 0);
	return 0;
}

static int move_data_on_stream(const struct caller *c, struct symm_mem *mem, const uint64_t *own, void *stream)
{
	int peer = 1 - c->rank, channel = c->channel + 1;

	KEEPS(symm_copy_on_stream(mem, peer, 64, c->rank, 64, 8, stream), 0);
	KEEPS(symm_copy_on_stream(mem, peer, 64, peer, 64, 8, stream), SYMM_EINVAL);
	KEEPS(symm_memset32_on_stream(mem, peer, 64, 1, 2, stream), 0);
	KEEPS(symm_memset32_on_stream(mem, peer, 2, 1, 2, stream), SYMM_EINVAL);
	KEEPS(symm_write_value_on_stream(mem, peer, 72, 1, 8, stream), 0);
	KEEPS(symm_write_value_on_stream(mem, peer, 72, 1, 2, stream), SYMM_EINVAL);
	KEEPS(symm_put_with_signal_on_stream(mem, peer, 80, own, 8, channel, 0, stream), 0);
	KEEPS(symm_put_with_signal_on_stream(mem, peer, 80, NULL, 8, channel, 0, stream), SYMM_EINVAL);
	KEEPS(symm_wait_signal_on_stream(mem, peer, channel, 0, stream), 0);
	return 0;
}

static int use_stream(const struct caller *c, struct symm_mem *mem, uint64_t *own)
{
	int peer = 1 - c->rank, channel = c->channel + 1;
	void *stream;

	KEEPS(symm_stream_create(NULL, &stream), SYMM_EINVAL);
	KEEPS(symm_stream_create(c->context, &stream), 0);
	KEEPS(symm_barrier_on_stream(mem, 99, 0, stream), SYMM_EINVAL);
	KEEPS(symm_barrier_on_stream(mem, channel, 0, stream), 0);
	own[0] = 200 + (uint64_t)c->rank;
	KEEPS(symm_put_on_stream(mem, peer, 8, own, 8, stream), 0);
	KEEPS(symm_put_on_stream(mem, peer, 8, NULL, 8, stream), SYMM_EINVAL);
	KEEPS(symm_put_signal_on_stream(mem, peer, channel, 0, stream), 0);
	KEEPS(symm_put_signal_on_stream(mem, peer, -1, 0, stream), SYMM_EINVAL);
	KEEPS(symm_wait_signal_on_stream(mem, peer, channel, 0, stream), 0);
	KEEPS(symm_wait_signal_on_stream(mem, peer, channel, 0, c->group), SYMM_ESTALE);
	KEEPS(symm_get_on_stream(mem, c->rank, 8, own + 1, 8, stream), 0);
	KEEPS(symm_get_on_stream(mem, c->rank, 4090, own + 1, 8, stream), SYMM_EINVAL);
	KEEPS(symm_stream_synchronize(stream, 0), 0);
	KEEPS(symm_stream_synchronize(stream, -1), SYMM_EINVAL);
	SOME(own[1] == 200 + (uint64_t)peer);
	DO(move_data_on_stream(c, mem, own, stream));
	KEEPS(symm_stream_synchronize(stream, 0), 0);
	KEEPS(symm_stream_destroy(stream), 0);
	KEEPS(symm_stream_destroy(stream), SYMM_ESTALE);
	return 0;
}

/* Work that does not end, as the driver has it: a kernel that waits could hold up those of other streams. */
static int wait_in_vain(const struct caller *c)
{
	void *stream;

	if (!faked())
		return 0;
	GOOD(symm_stream_create(c->context, &stream));
	fake_fail("cuStreamQuery:*=600");
	KEEPS(symm_stream_synchronize(stream, 10), SYMM_ETIMEDOUT);
	fake_fail(NULL);
	KEEPS(symm_stream_synchronize(stream, 0), 0);
	KEEPS(symm_stream_destroy(stream), 0);
	return 0;
}

/* A stream of the other device's: the driver itself refuses it, in the middle of our call. */
static int use_foreign_stream(const struct caller *c, struct symm_mem *mem)
{
	struct CUctx_st *other, *current;
	struct CUstream_st *stream;
	int count;

	CU(cu->cuDeviceGetCount(&count));
	if (count < 2)
		return 0;
	CU(cu->cuCtxGetCurrent(&current));
	DO(driver_use(1 - c->ordinal, &other));
	CU(cu->cuStreamCreate(&stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(cu->cuCtxSetCurrent(current));
	DO(current_look(&before));
	KEEPS(symm_barrier_on_stream(mem, c->channel, 0, stream), SYMM_EINVAL);
	CU(cu->cuCtxSetCurrent(other));
	CU(cu->cuStreamDestroy(stream));
	CU(cu->cuCtxSetCurrent(current));
	CU(cu->cuDevicePrimaryCtxRelease(1 - c->ordinal));
	return current_look(&before);
}

/* A tensor's end frees its memory. */
static int use_tensors(const struct caller *c, struct symm_mem *mem)
{
	const DLDataType word = { kDLUInt, 64, 1 };
	const int64_t four = 4;
	DLManagedTensorVersioned *tensor, *view, *alias;
	DLManagedTensor *old;
	struct symm_mem *found;

	KEEPS(symm_empty_strided(c->group, -1, &four, NULL, word, NULL, &tensor), SYMM_EINVAL);
	KEEPS(symm_empty_strided(c->group, 1, &four, NULL, word, NULL, &tensor), 0);
	KEEPS(symm_tensor_mem(&tensor->dl_tensor, NULL, &found), SYMM_ENOENT);
	KEEPS(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 0, &found), 0);
	KEEPS(symm_mem_release(found), 0);
	KEEPS(symm_get_signal_pad(mem, 1 - c->rank, 1, &four, word, 0, &view), 0);
	KEEPS(symm_tensor_unversioned(view, &old), 0);
	KEEPS((old->deleter(old), 0), 0);
	KEEPS(symm_get_buffer(found, 1 - c->rank, 1, &four, word, 1, &view), SYMM_EINVAL);
	KEEPS(symm_get_buffer(found, 1 - c->rank, 1, &four, word, 0, &view), 0);
	KEEPS(symm_tensor_alias(view, &alias), 0);
	KEEPS((symm_tensor_free(alias), 0), 0);
	KEEPS(symm_tensor_count(c->context, NULL, NULL, 0) - 2, 0);
	KEEPS(symm_group_leave(c->group), SYMM_EBUSY);
	KEEPS((symm_tensor_free(tensor), 0), 0);
	KEEPS((symm_tensor_free(view), 0), 0);
	return 0;
}

static int use_pool(const struct caller *c)
{
	struct symm_pool *pool;
	size_t offset;
	void *ptr;

	KEEPS(symm_pool_create(c->group, 0, NULL, 0, &pool), SYMM_EINVAL);
	KEEPS(symm_pool_create(c->group, 65536, NULL, 0, &pool), 0);
	SOME(symm_pool_mem(pool) != NULL);
	KEEPS(symm_pool_alloc_persistent(pool, 100, 7, &ptr), 0);
	KEEPS(symm_pool_alloc(pool, 65536, &ptr), SYMM_ENOMEM);
	KEEPS(symm_pool_alloc(pool, 100, &ptr), 0);
	KEEPS(symm_pool_offset(pool, ptr, &offset), 0);
	SOME(symm_pool_peer(pool, ptr, 1 - c->rank) != NULL);
	KEEPS(symm_pool_usage(pool, NULL, NULL, NULL), 0);
	KEEPS(symm_pool_check(pool, 0), 0);
	if (c->rank == 0)
		KEEPS(symm_pool_free(pool, ptr), 0);
	KEEPS(symm_pool_check(pool, 0), SYMM_EMISMATCH);
	KEEPS(symm_pool_destroy(pool), 0);
	KEEPS(symm_pool_destroy(pool), SYMM_ESTALE);
	return 0;
}

static int fail_memory(const struct caller *c, struct symm_mem *mem)
{
	KEEPS(symm_wait_signal(mem, 1 - c->rank, c->channel, 10), SYMM_ETIMEDOUT);
	KEEPS(symm_group_status(c->group), SYMM_ETIMEDOUT);
	KEEPS(symm_barrier(mem, c->channel, 0), SYMM_ETIMEDOUT);
	KEEPS(symm_barrier_on_stream(mem, c->channel, 0, NULL), SYMM_ETIMEDOUT);
	return 0;
}

/* From symm_open to symm_close, with what is current now. */
static int all_calls(struct caller *c)
{
	struct symm_mem *mem;
	uint64_t *own;
	void *ptr;

	DO(current_look(&before));
	DO(open_and_join(c));
	DO(query(c));
	DO(join_again(c));
	DO(make_memory(c, &ptr, &mem));
	DO(ask_memory(c, mem));
	own = own_memory(c->context, 2 * sizeof(*own));
	DO(use_memory(c, mem, own));
	DO(use_pool(c));
	DO(move_data(c, mem, own));
	DO(use_stream(c, mem, own));
	DO(wait_in_vain(c));
	DO(use_foreign_stream(c, mem));
	DO(use_tensors(c, mem));
	tap_rally(rally, WORLD);
	own_memory_free(c->context, own);
	KEEPS(symm_free(own), SYMM_ENOENT);
	if (c->channel == 0) {
		KEEPS(symm_mem_release(mem), 0);
		KEEPS(symm_free(ptr), 0);
		KEEPS(symm_group_leave(c->group), 0);
		KEEPS(symm_group_leave(c->group), SYMM_ESTALE);
	} else {
		DO(fail_memory(c, mem));
	}
	KEEPS(symm_close(c->context), 0);
	KEEPS(symm_close(c->context), SYMM_ESTALE);
	return 0;
}

/* ---- what is current ---- */

enum { NONE, OURS, OTHERS, THREAD_MODE, CURRENTS };
static const char *const currents[] = { "none", "ours", "another device's", "ours, capture mode thread-local" };

static int under(struct caller *c, int current)
{
	enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL;
	struct CUctx_st *context;
	char name[32];
	int ordinal = current == OTHERS ? 1 - c->ordinal : c->ordinal;

	snprintf(name, sizeof(name), "g%d.%d", current, c->channel);
	c->name = name;
	if (current == NONE)
		return all_calls(c);
	DO(driver_use(ordinal, &context));
	if (current == THREAD_MODE)
		CU(cu->cuThreadExchangeStreamCaptureMode(&mode));
	DO(all_calls(c));
	if (current == THREAD_MODE)
		CU(cu->cuThreadExchangeStreamCaptureMode(&mode));
	return driver_end(ordinal);
}

static int keep_current(int rank, void *arg)
{
	struct caller c = { .rank = rank };
	int count;

	GOOD(symm_cuda_load(&cu));
	CU(cu->cuDeviceGetCount(&count));
	c.ordinal = rank % count;
	if (*(int *)arg == OTHERS && count < 2)
		return 0;
	DO(under(&c, *(int *)arg));
	/* The same, and the group fails in the end. */
	c.channel = 3;
	return under(&c, *(int *)arg);
}

/* Threads at once, each with another context. */
struct thread {
	struct caller caller;
	struct symm_mem *mem;
	int current, rc;
	pthread_t id;
};

static int work(struct thread *t)
{
	uint64_t *own = own_memory(t->caller.context, 2 * sizeof(*own));
	struct CUctx_st *context;
	int count;

	CU(cu->cuDeviceGetCount(&count));
	if (t->current == OURS)
		DO(driver_use(t->caller.ordinal, &context));
	if (t->current == OTHERS)
		DO(driver_use((t->caller.ordinal + 1) % count, &context));
	DO(current_look(&before));
	/* One stream a thread: more than there are hardware queues could wait for each other. */
	DO(use_stream(&t->caller, t->mem, own));
	for (int i = 0; i < rounds(100); i++)
		DO(use_memory(&t->caller, t->mem, own));
	own_memory_free(t->caller.context, own);
	if (t->current == OURS)
		return driver_end(t->caller.ordinal);
	return t->current == OTHERS ? driver_end((t->caller.ordinal + 1) % count) : 0;
}

static void *work_thread(void *arg)
{
	struct thread *t = arg;

	t->rc = work(t);
	return NULL;
}

/* Each uses words of its own: the memory is the thread's, the context and the group are shared. */
static int threads(int rank, void *arg)
{
	struct thread t[3] = { 0 };
	struct caller c = { .rank = rank, .name = "threads" };
	void *ptr;
	int count;

	(void)arg;
	many_queues();
	GOOD(symm_cuda_load(&cu));
	CU(cu->cuDeviceGetCount(&count));
	c.ordinal = rank % count;
	DO(current_look(&before));
	DO(open_and_join(&c));
	for (int i = 0; i < 3; i++) {
		t[i].caller = c;
		t[i].current = i;
		DO(make_memory(&c, &ptr, &t[i].mem));
	}
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i].id, NULL, work_thread, &t[i]) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i].id, NULL);
	for (int i = 0; i < 3; i++)
		CHECK(t[i].rc == 0, "thread %d", i);
	KEEPS(symm_close(c.context), 0);
	return 0;
}

/* ---- the runtime's last error ---- */

/* The folder that has the bin of the nvcc on PATH; "": there is none. */
static void toolkit_of_nvcc(char root[PATH_MAX])
{
	char *path = strdup(getenv("PATH") != NULL ? getenv("PATH") : ""), *rest = path, *folder, nvcc[PATH_MAX];

	*root = '\0';
	while (*root == '\0' && (folder = strsep(&rest, ":")) != NULL) {
		snprintf(nvcc, sizeof(nvcc), "%.4000s/nvcc", folder);
		if (realpath(nvcc, root) == NULL)
			*root = '\0';
	}
	free(path);
	for (int i = 0; i < 2 && *root != '\0'; i++)
		*strrchr(root, '/') = '\0';
}

/* Machines with GPUs need not have it where the loader looks. NULL: there is none. */
static void *runtime_open(void)
{
	static const char *const names[] = { "libcudart.so.13", "libcudart.so.12" };
	static const char *const folders[] = { "lib64", "targets/x86_64-linux/lib" };
	char roots[2][PATH_MAX] = { "", "/usr/local/cuda" }, path[PATH_MAX];
	void *library = NULL;

	toolkit_of_nvcc(roots[0]);
	for (int name = 0; name < 2 && library == NULL; name++) {
		library = dlopen(names[name], RTLD_NOW);
		for (int i = 0; i < 4 && library == NULL; i++) {
			snprintf(path, sizeof(path), "%.4000s/%s/%s", roots[i / 2], folders[i % 2], names[name]);
			library = dlopen(path, RTLD_NOW);
		}
	}
	return library;
}

/* A call of ours neither clears it nor sets another. */
static int last_error(int rank, void *arg)
{
	int (*set_device)(int device), (*peek)(void), error;
	struct caller c = { .rank = rank, .name = "last" };
	void *library = runtime_open();

	(void)arg;
	CHECK(library != NULL);
	*(void **)&set_device = dlsym(library, "cudaSetDevice");
	*(void **)&peek = dlsym(library, "cudaPeekAtLastError");
	CHECK(set_device(0) == 0 && set_device(9999) != 0);
	error = peek();
	GOOD(symm_cuda_load(&cu));
	DO(all_calls(&c));
	CHECK(error != 0 && peek() == error, "%d was %d", peek(), error);
	return 0;
}

static int no_runtime(int rank, void *arg)
{
	(void)rank;
	(void)arg;
	return runtime_open() == NULL;
}

/* A child looks: the runtime is to be loaded after ranks are forked. */
static void test_last_error(void)
{
	int pid;

	if (faked()) {
		tap_skip(WORLD, "the runtime's last error: the runtime has no use for the fake driver");
		return;
	}
	tap_ranks_start(1, no_runtime, NULL, &pid);
	if (tap_wait(pid, 60) == 0)
		tap_ranks("the runtime's last error", WORLD, last_error, NULL, 120);
	else
		tap_skip(WORLD, "no libcudart");
}

int main(void)
{
	if (!driver_choose() || !need_device(WORLD))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (int i = 0; i < CURRENTS; i++) {
		char name[64];

		snprintf(name, sizeof(name), "the current context: %s", currents[i]);
		tap_ranks(name, WORLD, keep_current, &i, 120);
	}
	tap_ranks("threads with other contexts", WORLD, threads, NULL, 120);
	test_last_error();
	tap_redis_stop(&redis);
	return tap_done();
}
