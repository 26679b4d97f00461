/* litmus.c: message passing on all channels at once, with data that shows one lost or early signal.
 *
 * Each of 8 streams serves 4 channels. A round of a channel: a kernel writes numbered words into the blocks of all
 * peers, a barrier, a kernel checks what the peers wrote here; then the same with one partner, and a signal in each
 * direction in place of the barrier; then again, but the words are written here, and copied to the partner together
 * with the signal. The words lie in two halves by turns, so that the barrier or signals of one round are all that keeps
 * a rank from overwriting what another still reads, two rounds later. Stores and loads are plain: nothing but symm
 * orders them. Rounds are enqueued by turns one by one and as a captured graph; neighbour ranks are out of step in
 * that.
 *
 * usage: litmus [COUNT]          barriers, and signals and copies with signals each way, in total (100000)
 *        litmus --blind [COUNT]  without barriers and signals: then wrong words must be found
 */
#include "gpu.h"

#include "t/cuda/kernels.h"

#include <inttypes.h>
#include <stdlib.h>

enum { STREAMS = 8, EACH = SYMM_CHANNELS / STREAMS, WORDS = 64, STEP = 5 };

/* What a round does: all and a barrier; one partner and a signal; one partner, and a copy with its signal. */
enum { ALL, PAIR, CARRIED, KINDS };

struct run {
	int count;
	bool blind;
};

/* One kind of a channel's rounds. */
struct lane {
	struct test_litmus write, read;
	int partner;
	size_t at; /* CARRIED: from where on in the partner's block */
};

struct litmus {
	struct gpu *gpu;
	bool blind;
	struct symm_mem *mem;
	struct CUfunc_st *write, *read;
	struct CUstream_st *stream[STREAMS];
	struct CUgraphExec_st *graph[STREAMS]; /* STEP rounds of its channels */
	struct lane lane[KINDS][SYMM_CHANNELS];
	struct test_lane *lanes; /* of the device: [KINDS][SYMM_CHANNELS][TEST_LANES] */
	char *stage;             /* what is carried comes from here, where it stands as in the partner's block */
	void **stages;           /* of the device: [world], all the same */
};

static size_t half(const struct gpu *gpu)
{
	return (size_t)gpu->world * WORDS * sizeof(uint64_t);
}

/* Both halves of all kinds and channels. */
static size_t block_bytes(const struct gpu *gpu)
{
	return 2 * KINDS * SYMM_CHANNELS * half(gpu);
}

static void set_lane(struct litmus *l, int kind, int channel)
{
	size_t number = (size_t)(kind * SYMM_CHANNELS + channel);
	int partner = l->gpu->rank ^ (1 + channel % (l->gpu->world - 1));
	struct lane *lane = &l->lane[kind][channel];

	lane->partner = partner;
	lane->read = (struct test_litmus){
		.buffers = symm_mem_buffers_dev(l->mem),
		.offset = number * 2 * half(l->gpu),
		.half = half(l->gpu),
		.words = WORDS,
		.rank = (uint32_t)l->gpu->rank,
		.from = kind == ALL ? 0 : (uint32_t)partner,
		.to = kind == ALL ? (uint32_t)l->gpu->world : (uint32_t)partner + 1,
		.tag = (uint32_t)number,
		.lanes = l->lanes + number * TEST_LANES,
	};
	lane->write = lane->read;
	if (kind == CARRIED)
		lane->write.buffers = l->stages;
	lane->at = number * 2 * half(l->gpu) + (size_t)l->gpu->rank * WORDS * sizeof(uint64_t);
}

static int kernel(struct litmus *l, struct CUfunc_st *function, struct test_litmus *litmus, struct CUstream_st *stream)
{
	void *params[] = { litmus };

	return gpu_launch(l->gpu, function, 1, TEST_LANES, params, stream);
}

/* The words of this round and those of the last: which is which, only the kernels know. */
static int carry(struct litmus *l, const struct lane *lane, int channel, struct CUstream_st *stream)
{
	size_t bytes = half(l->gpu) + WORDS * sizeof(uint64_t);

	if (l->blind)
		GOOD(symm_put_on_stream(l->mem, lane->partner, lane->at, l->stage + lane->at, bytes, stream));
	else
		GOOD(symm_put_with_signal_on_stream(l->mem, lane->partner, lane->at, l->stage + lane->at, bytes,
						    channel, 0, stream));
	return 0;
}

static int synchronise(struct litmus *l, int kind, int channel, struct CUstream_st *stream)
{
	const struct lane *lane = &l->lane[kind][channel];

	if (kind == CARRIED)
		DO(carry(l, lane, channel, stream));
	if (l->blind)
		return 0;
	if (kind == ALL)
		GOOD(symm_barrier_on_stream(l->mem, channel, 0, stream));
	if (kind == PAIR)
		GOOD(symm_put_signal_on_stream(l->mem, lane->partner, channel, 0, stream));
	if (kind != ALL)
		GOOD(symm_wait_signal_on_stream(l->mem, lane->partner, channel, 0, stream));
	return 0;
}

static int round_of(struct litmus *l, int channel, struct CUstream_st *stream)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct lane *lane = &l->lane[kind][channel];

		DO(kernel(l, l->write, &lane->write, stream));
		DO(synchronise(l, kind, channel, stream));
		DO(kernel(l, l->read, &lane->read, stream));
	}
	return 0;
}

static int step(struct litmus *l, int s)
{
	for (int i = 0; i < STEP * EACH; i++)
		DO(round_of(l, s * EACH + i % EACH, l->stream[s]));
	return 0;
}

static int make_stream(struct litmus *l, int s)
{
	const struct gpu *gpu = l->gpu;
	struct CUgraph_st *graph;

	CU(gpu->cu->cuStreamCreate(&l->stream[s], SYMM_CUDA_STREAM_NON_BLOCKING));
	CU(gpu->cu->cuStreamBeginCapture(l->stream[s], SYMM_CUDA_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	DO(step(l, s));
	CU(gpu->cu->cuStreamEndCapture(l->stream[s], &graph));
	CU(gpu->cu->cuGraphInstantiateWithFlags(&l->graph[s], graph, 0));
	CU(gpu->cu->cuGraphDestroy(graph));
	return 0;
}

static int make_stage(struct litmus *l)
{
	const struct gpu *gpu = l->gpu;
	void *stage, *stages;

	DO(gpu_alloc(gpu, block_bytes(gpu), &stage));
	DO(gpu_alloc(gpu, (size_t)gpu->world * sizeof(void *), &stages));
	l->stage = stage;
	l->stages = stages;
	for (int rank = 0; rank < gpu->world; rank++)
		CU(gpu->cu->cuMemcpyHtoD(gpu_address(l->stages + rank), &stage, sizeof(stage)));
	return 0;
}

static int start(struct litmus *l, void **block)
{
	struct gpu *gpu = l->gpu;
	void *lanes;

	CHECK(gpu->world >= 2 && (gpu->world & (gpu->world - 1)) == 0, "wants 2, 4, 8, ... ranks");
	GOOD(rig_join(&gpu->rig, gpu->rank));
	GOOD(rig_memory(&gpu->rig, block_bytes(gpu), block, &l->mem));
	DO(gpu_kernel(gpu, "test_litmus_write", &l->write));
	DO(gpu_kernel(gpu, "test_litmus_read", &l->read));
	DO(gpu_alloc(gpu, KINDS * SYMM_CHANNELS * TEST_LANES * sizeof(struct test_lane), &lanes));
	l->lanes = lanes;
	DO(make_stage(l));
	for (int kind = 0; kind < KINDS; kind++)
		for (int channel = 0; channel < SYMM_CHANNELS; channel++)
			set_lane(l, kind, channel);
	for (int s = 0; s < STREAMS; s++)
		DO(make_stream(l, s));
	return 0;
}

/* Calls that block share the channels' counters with those on streams. */
static int say_hello(struct litmus *l)
{
	for (int channel = 0; channel < SYMM_CHANNELS; channel++) {
		GOOD(symm_barrier(l->mem, channel, 0));
		GOOD(symm_put_signal(l->mem, l->lane[PAIR][channel].partner, channel, 0));
		GOOD(symm_wait_signal(l->mem, l->lane[PAIR][channel].partner, channel, 0));
	}
	return 0;
}

static int go(struct litmus *l, int steps)
{
	const struct gpu *gpu = l->gpu;

	for (int i = 0; i < steps; i++)
		for (int s = 0; s < STREAMS; s++) {
			if ((i + gpu->rank) % 2 == 0)
				DO(step(l, s));
			else
				CU(gpu->cu->cuGraphLaunch(l->graph[s], l->stream[s]));
		}
	for (int s = 0; s < STREAMS; s++)
		CU(gpu->cu->cuStreamSynchronize(l->stream[s]));
	GOOD(symm_group_status(gpu->rig.group));
	return 0;
}

/* No kernel was skipped, and how many words were wrong. */
static int count_wrong(const struct litmus *l, int steps, uint64_t *wrong)
{
	static struct test_lane lanes[KINDS * SYMM_CHANNELS][TEST_LANES];
	const struct gpu *gpu = l->gpu;

	*wrong = 0;
	CU(gpu->cu->cuMemcpyDtoH(lanes, gpu_address(l->lanes), sizeof(lanes)));
	for (int i = 0; i < KINDS * SYMM_CHANNELS; i++) {
		CHECK(lanes[i][0].written == (uint64_t)steps * STEP && lanes[i][0].read == lanes[i][0].written,
		      "%d: wrote %" PRIu64 " and read %" PRIu64 " rounds of %d", i, lanes[i][0].written,
		      lanes[i][0].read, steps * STEP);
		for (int lane = 0; lane < TEST_LANES; lane++)
			*wrong += lanes[i][lane].wrong;
	}
	return 0;
}

static int stop(struct litmus *l, void *block)
{
	const struct gpu *gpu = l->gpu;

	for (int s = 0; s < STREAMS; s++) {
		CU(gpu->cu->cuGraphExecDestroy(l->graph[s]));
		CU(gpu->cu->cuStreamDestroy(l->stream[s]));
	}
	CU(gpu->cu->cuMemFree(gpu_address(l->lanes)));
	CU(gpu->cu->cuMemFree(gpu_address(l->stages)));
	CU(gpu->cu->cuMemFree(gpu_address(l->stage)));
	GOOD(symm_mem_release(l->mem));
	GOOD(symm_free(block));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

static int litmus(struct gpu *gpu)
{
	const struct run *run = gpu->arg;
	int steps = (run->count + STEP * SYMM_CHANNELS - 1) / (STEP * SYMM_CHANNELS);
	struct litmus l = { .gpu = gpu, .blind = run->blind };
	double start_s;
	uint64_t wrong;
	void *block;

	DO(start(&l, &block));
	DO(say_hello(&l));
	start_s = gpu_seconds();
	DO(go(&l, steps));
	if (gpu->rank == 0) {
		gpu_figure("litmus.rounds", steps * STEP * SYMM_CHANNELS,
			   "barriers, and twice as many signals each way");
		gpu_figure("litmus.time", gpu_seconds() - start_s, "s");
	}
	DO(count_wrong(&l, steps, &wrong));
	gpu_figure(run->blind ? "litmus.blind_wrong" : "litmus.wrong", (double)wrong, "words");
	GOOD(symm_barrier(l.mem, 0, 0));
	DO(stop(&l, block));
	CHECK((wrong != 0) == run->blind, "%" PRIu64 " words were wrong", wrong);
	return 0;
}

int main(int argc, char **argv)
{
	struct run run = { 100000, argc > 1 && strcmp(argv[1], "--blind") == 0 };

	if (argc > 1 + run.blind)
		run.count = atoi(argv[1 + run.blind]);
	return gpu_main(run.blind ? "litmus, blind" : "litmus", litmus, &run, 500);
}
