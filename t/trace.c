/* Ranges for profilers: the functions of symm_set_trace, and those of NVTX for a tool that is loaded. */
#include "ask.h"
#include "nvtx.h"
#include "nvtx/tool.h"
#include "rig.h"

#include "symm/pool.h"
#include "symm/tensor.h"

#include <dlfcn.h>
#include <pthread.h>

#define RANKS 2
#define MOST 100

static struct tap_redis redis;
static char tool[4096]; /* the path of t/nvtx/tool.c's library */

/* What the functions have seen on one thread. */
struct trace {
	const char *call[MOST];
	int depth[MOST];  /* in how many others */
	int begun, ended; /* begun: atomic */
	bool wrong;       /* an end came before its begin */
	pthread_t thread;
};

static void begin(void *arg, const char *call)
{
	struct trace *trace = arg;

	trace->wrong |= trace->begun > 0 && !pthread_equal(trace->thread, pthread_self());
	trace->thread = pthread_self();
	if (trace->begun < MOST) {
		trace->call[trace->begun] = call;
		trace->depth[trace->begun] = trace->begun - trace->ended;
	}
	__atomic_fetch_add(&trace->begun, 1, __ATOMIC_RELEASE);
}

static void end(void *arg)
{
	struct trace *trace = arg;

	trace->ended++;
	trace->wrong |= trace->ended > trace->begun || !pthread_equal(trace->thread, pthread_self());
}

/* What all_calls makes, in its order; what one calls by itself is further in. */
static const char *const expected[] = {
	"symm_open",
	"symm_group_join",
	"symm_alloc",
	"symm_rendezvous",
	"symm_rendezvous",
	"symm_stream_create",
	"symm_barrier",
	"symm_barrier_on_stream",
	"symm_put_signal",
	"symm_wait_signal",
	"symm_put_signal_on_stream",
	"symm_wait_signal_on_stream",
	"symm_put_on_stream",
	"symm_get_on_stream",
	"symm_copy_on_stream",
	"symm_memset32_on_stream",
	"symm_write_value_on_stream",
	"symm_put_with_signal_on_stream",
	"symm_wait_signal_on_stream",
	"symm_stream_synchronize",
	"symm_put",
	"symm_get",
	"symm_copy",
	"symm_memset32",
	"symm_write_value",
	"symm_put_with_signal",
	"symm_wait_signal",
	"symm_barrier",
	"symm_put",
	"symm_rendezvous",
	"symm_stream_destroy",
	"symm_mem_release",
	"symm_mem_release",
	"symm_free",
	"symm_empty_strided",
	"  symm_alloc",
	"symm_tensor_rendezvous",
	"  symm_rendezvous",
	"symm_tensor_free",
	"symm_tensor_free",
	"symm_mem_release",
	"symm_group_join_ranks",
	"symm_pool_create",
	"  symm_mem_release",
	"symm_pool_alloc",
	"symm_pool_alloc_persistent",
	"symm_pool_check",
	"symm_pool_free",
	"symm_pool_destroy",
	"symm_group_leave",
	"symm_group_leave",
	"symm_close",
};
enum { CALLS = sizeof(expected) / sizeof(expected[0]) };

static int memory_calls(struct rig *rig, struct symm_mem *mem, int rank, void *stream)
{
	void *own = own_memory(rig->context, 64);

	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_barrier_on_stream(mem, 1, 0, stream));
	GOOD(symm_put_signal(mem, rank, 0, 0));
	GOOD(symm_wait_signal(mem, rank, 0, 0));
	GOOD(symm_put_signal_on_stream(mem, rank, 0, 0, stream));
	GOOD(symm_wait_signal_on_stream(mem, rank, 0, 0, stream));
	GOOD(symm_put_on_stream(mem, rank, 0, own, 64, stream));
	GOOD(symm_get_on_stream(mem, rank, 0, own, 64, stream));
	GOOD(symm_copy_on_stream(mem, rank, 0, rank, 64, 64, stream));
	GOOD(symm_memset32_on_stream(mem, rank, 0, 1, 1, stream));
	GOOD(symm_write_value_on_stream(mem, rank, 0, 1, 8, stream));
	GOOD(symm_put_with_signal_on_stream(mem, rank, 0, own, 64, 0, 0, stream));
	GOOD(symm_wait_signal_on_stream(mem, rank, 0, 0, stream));
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_put(mem, rank, 0, own, 64));
	GOOD(symm_get(mem, rank, 0, own, 64));
	GOOD(symm_copy(mem, rank, 0, rank, 64, 64));
	GOOD(symm_memset32(mem, rank, 0, 1, 1));
	GOOD(symm_write_value(mem, rank, 0, 1, 8));
	GOOD(symm_put_with_signal(mem, rank, 0, own, 64, 0, 0));
	GOOD(symm_wait_signal(mem, rank, 0, 0));
	BAD(symm_barrier(mem, -1, 0), SYMM_EINVAL, "symm_barrier: channel -1");
	BAD(symm_put(NULL, rank, 0, own, 64), SYMM_EINVAL, "symm_put: ");
	own_memory_free(rig->context, own);
	return 0;
}

static int tensor_calls(struct rig *rig)
{
	DLManagedTensorVersioned *tensor, *alias;
	DLManagedTensor *old;
	struct symm_mem *mem;

	GOOD(symm_empty_strided(rig->group, 1, (int64_t[]){ 16 }, NULL, (DLDataType){ kDLInt, 32, 1 }, NULL, &tensor));
	GOOD(symm_tensor_rendezvous(&tensor->dl_tensor, NULL, 0, &mem));
	GOOD(symm_tensor_alias(tensor, &alias));
	GOOD(symm_tensor_unversioned(alias, &old));
	symm_tensor_free(tensor);
	old->deleter(old);
	return symm_mem_release(mem);
}

static int pool_calls(struct symm_group *group)
{
	struct symm_pool *pool;
	void *ptr;

	GOOD(symm_pool_create(group, 1 << 20, NULL, 0, &pool));
	GOOD(symm_pool_alloc(pool, 64, &ptr));
	GOOD(symm_pool_alloc_persistent(pool, 64, 7, &ptr));
	GOOD(symm_pool_check(pool, 0));
	GOOD(symm_pool_free(pool, ptr));
	return symm_pool_destroy(pool);
}

/* Each call that waits, enqueues or allocates, those that give back, and some that fail. */
static int all_calls(int rank)
{
	struct rig rig = { .url = redis.url, .world = RANKS };
	struct symm_mem *mem, *again;
	struct symm_group *turned;
	void *ptr, *stream;

	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &mem));
	GOOD(symm_rendezvous(ptr, NULL, 0, &again));
	GOOD(symm_stream_create(rig.context, &stream));
	if (memory_calls(&rig, mem, rank, stream) != 0)
		return 1;
	BAD(symm_rendezvous(ptr, NULL, -1, &again), SYMM_EINVAL, "symm_rendezvous: ");
	GOOD(symm_stream_destroy(stream));
	GOOD(symm_mem_release(mem));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	GOOD(tensor_calls(&rig));
	GOOD(symm_group_join_ranks(rig.group, "turned", (int[]){ 1, 0 }, RANKS, 0, &turned));
	GOOD(pool_calls(turned));
	GOOD(symm_group_leave(turned));
	GOOD(symm_group_leave(rig.group));
	return symm_close(rig.context);
}

static int is_expected(const char *const *call, int begun, int ended)
{
	for (int i = 0; i < begun && i < CALLS; i++)
		CHECK(strcmp(call[i], expected[i] + strspn(expected[i], " ")) == 0, "call %d is %s, not %s", i, call[i],
		      expected[i]);
	CHECK(begun == CALLS && ended == CALLS, "%d begun, %d ended, not %d", begun, ended, (int)CALLS);
	return 0;
}

static int is_expected_trace(const struct trace *trace)
{
	if (is_expected(trace->call, trace->begun, trace->ended) != 0)
		return 1;
	for (int i = 0; i < CALLS; i++)
		CHECK(trace->depth[i] == (expected[i][0] == ' '), "%s is in %d", expected[i], trace->depth[i]);
	CHECK(!trace->wrong);
	return 0;
}

static int functions(int rank, void *arg)
{
	struct trace trace = { .begun = 0 };

	(void)arg;
	GOOD(symm_set_trace(begin, end, &trace));
	if (all_calls(rank) != 0)
		return 1;
	GOOD(symm_set_trace(NULL, NULL, NULL));
	if (is_expected_trace(&trace) != 0)
		return 1;
	return all_calls(rank) != 0 || trace.begun != CALLS;
}

/* ---- functions that call symm, and what is set meanwhile ---- */

static struct symm_mem *inner_mem;
static int inner_result;

static void begin_and_call(void *arg, const char *call)
{
	begin(arg, call);
	inner_result = symm_put_signal(inner_mem, 0, 1, 0);
	if (inner_result == 0)
		inner_result = symm_wait_signal(inner_mem, 0, 1, 0);
	if (inner_result == 0 && symm_set_trace(NULL, NULL, NULL) != SYMM_EDEADLK)
		inner_result = 1;
}

static void *wait_for_signal(void *arg)
{
	*(int *)arg = symm_wait_signal(inner_mem, 0, 2, 0);
	return NULL;
}

/* What the functions call is not traced; a call that was under way when they were set ends without them. */
static int changes(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };
	struct trace trace = { .begun = 0 }, other = { .begun = 0 };
	pthread_t thread;
	void *ptr;
	int rc;

	(void)arg;
	BAD(symm_set_trace(begin, NULL, NULL), SYMM_EINVAL, "symm_set_trace: end is NULL");
	BAD(symm_set_trace(NULL, end, NULL), SYMM_EINVAL, "symm_set_trace: begin is NULL");
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &inner_mem));
	GOOD(symm_set_trace(begin_and_call, end, &trace));
	GOOD(symm_barrier(inner_mem, 0, 0));
	CHECK(inner_result == 0, "%s", symm_last_error());
	CHECK(trace.begun == 1 && trace.ended == 1 && !trace.wrong);
	GOOD(symm_set_trace(begin, end, &other));
	CHECK(pthread_create(&thread, NULL, wait_for_signal, &rc) == 0);
	while (__atomic_load_n(&other.begun, __ATOMIC_ACQUIRE) == 0)
		nap_ms(1);
	GOOD(symm_set_trace(begin, end, &trace));
	GOOD(symm_put_signal(inner_mem, 0, 2, 0));
	pthread_join(thread, NULL);
	GOOD(rc);
	CHECK(other.begun == 1 && other.ended == 0);
	CHECK(trace.begun == 2 && trace.ended == 2);
	GOOD(symm_set_trace(NULL, NULL, NULL));
	return symm_close(rig.context);
}

/* ---- in exit() ---- */

static struct trace last_trace;
static DLManagedTensorVersioned *last_tensor;

/* Registered before the library's own, so it runs after that. */
static void free_late(void)
{
	int begun = last_trace.begun;

	symm_tensor_free(last_tensor);
	if (begun > 0 && last_trace.begun == begun && last_trace.ended == begun)
		_exit(0);
	tap_diag("in exit(): %d begun, %d ended, not %d", last_trace.begun, last_trace.ended, begun);
}

static int exits(int rank, void *arg)
{
	struct rig rig = { .url = redis.url, .world = 1 };

	(void)arg;
	CHECK(atexit(free_late) == 0);
	GOOD(symm_set_trace(begin, end, &last_trace));
	GOOD(rig_join(&rig, rank));
	GOOD(symm_empty_strided(rig.group, 1, (int64_t[]){ 16 }, NULL, (DLDataType){ kDLInt, 32, 1 }, NULL,
				&last_tensor));
	return 1; /* free_late makes it 0 */
}

/* ---- NVTX ---- */

static int nvtx(int rank, void *arg)
{
	const struct nvtx_tool_seen *seen;
	nvtx_tool_seen_fn *seen_of;
	void *library;

	(void)arg;
	setenv("NVTX_INJECTION64_PATH", tool, 1);
	if (all_calls(rank) != 0)
		return 1;
	library = dlopen(tool, RTLD_NOW | RTLD_NOLOAD);
	CHECK(library != NULL, "NVTX has not loaded %s", tool);
	*(void **)&seen_of = dlsym(library, "nvtx_tool_seen");
	CHECK(seen_of != NULL);
	seen = seen_of();
	CHECK(seen->elsewhere == 0 && seen->last[0] == '\0', "domain %s", seen->last);
	return is_expected(seen->range, seen->pushed, seen->popped);
}

/* Both take the same calls. */
static int nvtx_and_functions(int rank, void *arg)
{
	struct trace trace = { .begun = 0 };

	GOOD(symm_set_trace(begin, end, &trace));
	if (nvtx(rank, arg) != 0)
		return 1;
	return is_expected_trace(&trace);
}

static bool find_tool(void)
{
	const char *folder = getenv("top_builddir");

	snprintf(tool, sizeof(tool), "%s/t/nvtx/libnvtxtool.so", folder != NULL ? folder : ".");
	return access(tool, R_OK) == 0;
}

int main(void)
{
	if (!need_device(RANKS))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	tap_ranks("functions", RANKS, functions, NULL, 20);
	tap_ranks("functions that call, and are changed", 1, changes, NULL, 20);
	tap_ranks("in exit()", 1, exits, NULL, 20);
	if (!symm_nvtx_built) {
		tap_skip(2 * RANKS, "this build makes no NVTX ranges");
	} else if (!find_tool()) {
		ok(false, "the tool is at %s", tool);
	} else {
		tap_ranks("NVTX", RANKS, nvtx, NULL, 20);
		tap_ranks("NVTX and functions", RANKS, nvtx_and_functions, NULL, 20);
	}
	tap_redis_stop(&redis);
	return tap_done();
}
