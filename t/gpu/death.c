/* death.c: rank 1, whose memory rank 0 has mapped, is killed by SIGKILL: while rank 0 waits for it in a kernel of ours
 * or in a loop of the user's own, or while a kernel of the user's reads its memory. Rank 0's waits end and name rank 1,
 * its context works on, and so do the mapping and the close.
 */
#include "gpu.h"

#include "t/cuda/calls.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { BYTES = 64 << 20, WORDS = BYTES / 8 };

enum way { SIGNAL, BARRIER, GRAPH, LOOP, READ };
static const char *const names[] = { "signal", "barrier", "graph", "loop", "reader" };

/* What the ranks tell each other; of both processes. */
struct told {
	int ready;       /* rank 0's kernel runs */
	int pid;         /* rank 1's */
	double killed_s; /* when */
};
static struct told *told;

struct survivor {
	struct gpu *gpu;
	enum way way;
	struct symm_mem *mem;
	struct CUstream_st *stream;
	uint32_t *flag; /* pinned: ends the reader */
	int32_t *codes; /* of the device: how the loop has ended, for each of its threads */
};

static int victim(struct gpu *gpu)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_join(&gpu->rig, gpu->rank));
	GOOD(rig_memory(&gpu->rig, BYTES, &ptr, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	told->pid = getpid();
	__atomic_store_n(&told->ready, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static int start_reader(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	const void *from = symm_mem_buffer(s->mem, 1);
	uint64_t n = WORDS;
	unsigned long long flag;
	void *params[] = { &from, &n, &flag };
	struct CUfunc_st *kernel;

	CU(gpu->cu->cuMemHostGetDevicePointer(&flag, s->flag, 0));
	DO(gpu_kernel(gpu, "test_reread", &kernel));
	return gpu_launch(gpu, kernel, 1, 256, params, s->stream);
}

static int start_graph(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	struct CUgraphExec_st *exec;
	struct CUgraph_st *graph;

	CU(gpu->cu->cuStreamBeginCapture(s->stream, SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	GOOD(symm_wait_signal_on_stream(s->mem, 1, 3, 0, s->stream));
	CU(gpu->cu->cuStreamEndCapture(s->stream, &graph));
	CU(gpu->cu->cuGraphInstantiateWithFlags(&exec, graph, 0));
	CU(gpu->cu->cuGraphLaunch(exec, s->stream));
	CU(gpu->cu->cuGraphExecDestroy(exec));
	CU(gpu->cu->cuGraphDestroy(graph));
	return 0;
}

enum { THREADS = 64 };

/* For a word of our block that rank 1 is to set. */
static int start_loop(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	struct test_call how = { .scope = TEST_BLOCK,
				 .op = TEST_UNTIL,
				 .flag = { BYTES - 8, 1 },
				 .peer = 1,
				 .timeout_ns = UINT64_C(60000000000),
				 .threads = THREADS };
	void *params[] = { &how }, *codes;
	struct CUfunc_st *kernel;

	GOOD(symm_mem_device_view(s->mem, &how.view));
	DO(gpu_alloc(gpu, THREADS * sizeof(int32_t), &codes));
	s->codes = how.codes = codes;
	DO(gpu_kernel(gpu, "test_call", &kernel));
	return gpu_launch(gpu, kernel, 1, THREADS, params, s->stream);
}

static int see_loop(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	int32_t codes[THREADS];

	CU(gpu->cu->cuMemcpyDtoH(codes, gpu_address(s->codes), sizeof(codes)));
	for (int i = 0; i < THREADS; i++)
		CHECK(codes[i] == SYMM_EPEER, "thread %d: code %d", i, codes[i]);
	CU(gpu->cu->cuMemFree(gpu_address(s->codes)));
	return 0;
}

static int start(struct survivor *s)
{
	switch (s->way) {
	case SIGNAL:
		GOOD(symm_wait_signal_on_stream(s->mem, 1, 3, 0, s->stream));
		return 0;
	case BARRIER:
		GOOD(symm_barrier_on_stream(s->mem, 3, 0, s->stream));
		return 0;
	case GRAPH:
		return start_graph(s);
	case LOOP:
		return start_loop(s);
	case READ:
		return start_reader(s);
	}
	return 1;
}

static int kill_peer(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;

	while (__atomic_load_n(&told->ready, __ATOMIC_ACQUIRE) == 0)
		usleep(1000);
	usleep(100000);
	CHECK(gpu->cu->cuStreamQuery(s->stream) == SYMM_CUDA_NOT_READY, "nothing runs any more");
	told->killed_s = gpu_seconds();
	CHECK(kill(told->pid, SIGKILL) == 0);
	return 0;
}

/* The waits of the stream end; a reader does not notice, and is ended by us. */
static int see_the_end(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	char name[64];

	if (s->way == READ) {
		usleep(500000);
		CHECK(gpu->cu->cuStreamQuery(s->stream) == SYMM_CUDA_NOT_READY, "the reader has ended");
		__atomic_store_n(s->flag, 1, __ATOMIC_RELEASE);
	}
	CU(gpu->cu->cuStreamSynchronize(s->stream));
	snprintf(name, sizeof(name), "death.%s.stream_idle", names[s->way]);
	gpu_figure(name, (gpu_seconds() - told->killed_s) * 1e3, "ms");
	return 0;
}

/* A death fails only what waits for the dead; a call after it finds that out. */
static int see_the_cause(struct survivor *s)
{
	struct gpu *gpu = s->gpu;
	double start_s = gpu_seconds();

	if (s->way == LOOP)
		DO(see_loop(s));
	if (s->way == LOOP || s->way == READ)
		BAD(symm_wait_signal(s->mem, 1, 3, 0), SYMM_EPEER, "rank 1");
	while (symm_group_status(gpu->rig.group) == 0 && gpu_seconds() - start_s < 5)
		usleep(1000);
	BAD(symm_group_status(gpu->rig.group), SYMM_EPEER, "rank 1");
	fprintf(stderr, "# %s: %s\n", names[s->way], symm_last_error());
	return 0;
}

/* A launch and a copy succeed, and the memory of the dead can still be read. */
static int context_works(struct survivor *s)
{
	const struct gpu *gpu = s->gpu;
	uint64_t *own = symm_mem_buffer(s->mem, 0);
	uint64_t value = 0x1234567890abcdef, n = 1000, got[2] = { 0, 0 };
	struct CUfunc_st *kernel;
	void *params[] = { &own, &value, &n };

	DO(gpu_kernel(gpu, "test_fill64", &kernel));
	DO(gpu_launch(gpu, kernel, 1, 256, params, s->stream));
	CU(gpu->cu->cuStreamSynchronize(s->stream));
	CU(gpu->cu->cuMemcpyDtoH(&got[0], gpu_address(own + n - 1), 8));
	CU(gpu->cu->cuMemcpyDtoH(&got[1], gpu_address(symm_mem_buffer(s->mem, 1)) + BYTES - 8, 8));
	CHECK(got[0] == value, "the kernel wrote %" PRIx64, got[0]);
	return 0;
}

static int survivor(struct gpu *gpu)
{
	struct survivor s = { .gpu = gpu, .way = *(enum way *)gpu->arg };
	void *ptr, *flag;

	GOOD(rig_join(&gpu->rig, gpu->rank));
	GOOD(rig_memory(&gpu->rig, BYTES, &ptr, &s.mem));
	CU(gpu->cu->cuStreamCreate(&s.stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(gpu->cu->cuMemHostAlloc(&flag, sizeof(*s.flag), SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP));
	s.flag = flag;
	*s.flag = 0;
	GOOD(symm_barrier(s.mem, 0, 0));
	DO(start(&s));
	DO(kill_peer(&s));
	DO(see_the_end(&s));
	DO(see_the_cause(&s));
	DO(context_works(&s));
	CU(gpu->cu->cuStreamDestroy(s.stream));
	CU(gpu->cu->cuMemFreeHost(s.flag));
	GOOD(symm_mem_release(s.mem));
	GOOD(symm_free(ptr));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

static int rank_of(struct gpu *gpu)
{
	return gpu->rank == 0 ? survivor(gpu) : victim(gpu);
}

static void one(enum way way)
{
	char job[32];
	struct gpu_start how = { rank_of, &way, 2 };
	int pid[2], status, end;

	snprintf(job, sizeof(job), "death-%s", names[way]);
	setenv("SYMM_JOB", job, 1);
	*told = (struct told){ 0 };
	tap_ranks_start(2, gpu_run, &how, pid);
	status = tap_wait(pid[0], 90);
	ok(status == 0, "%s: rank 0 survives", names[way]);
	end = tap_wait(pid[1], 10);
	ok(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL, "%s: rank 1 was killed", names[way]);
}

int main(void)
{
	gpu_prepare();
	told = tap_shared(sizeof(*told));
	for (enum way way = SIGNAL; way <= READ; way++)
		one(way);
	return tap_done();
}
