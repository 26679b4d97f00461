/* allgather_fused: an all-gather and the computation that wants its result, in one kernel.
 *
 * Each rank has a shard of floats and computes a polynomial of every float of every rank's shard. Two ways:
 *
 *   copy, then compute   copy engines bring the peers' shards here; then a kernel computes
 *   fused                one kernel: some of its blocks push this rank's shard to the peers, chunk by chunk, and raise
 *                        a flag there for each; all others compute: this rank's own chunks first, then those of peers
 *                        as they arrive
 *
 * Both are verified, then timed: medians of rank 0. The exit status is 1 if a result is wrong.
 *
 *   nvcc -O3 -std=c++11 -arch=sm_90 -o allgather_fused allgather_fused.cu -lsymm
 *   symmrun -n 2 --device cuda ./allgather_fused [MIB]       (of a shard: 256)
 */
#include <symm/device.cuh>
#include <symm/symm.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

enum { THREADS = 512, PUSHERS = SYMM_CHANNELS, STEPS = 16, CHUNKS = PUSHERS * STEPS, PATTERN = 1021, TIMES = 21 };

static const uint64_t patience_ns = 20000000000;

#define CHECK(call)                                                                                                    \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != SYMM_OK) {                                                                                  \
			fprintf(stderr, "%s: %s: %s\n", #call, symm_strerror(rc_), symm_last_error());                 \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

#define CUDA(call)                                                                                                     \
	do {                                                                                                           \
		cudaError_t rc_ = (call);                                                                              \
		if (rc_ != cudaSuccess) {                                                                              \
			fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(rc_));                                   \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- the computation ---- */

__host__ __device__ inline float polynomial(float x, int terms)
{
	float y = 0;

	for (int i = 0; i < terms; i++)
		y = fmaf(y, x, 0.25f);
	return y;
}

/* n is in float4. What peers push while the kernel runs is read by plain loads: no const __restrict__, no __ldg. */
__device__ inline void compute_some(float4 *out, const float4 *in, size_t n, int terms, size_t thread, size_t threads)
{
	for (size_t i = thread; i < n; i += threads) {
		float4 x = in[i];

		out[i] = make_float4(polynomial(x.x, terms), polynomial(x.y, terms), polynomial(x.z, terms),
				     polynomial(x.w, terms));
	}
}

__global__ void __launch_bounds__(THREADS) compute(float4 *out, const float4 *in, size_t n, int terms)
{
	compute_some(out, in, n, terms, blockIdx.x * (size_t)blockDim.x + threadIdx.x, (size_t)gridDim.x * blockDim.x);
}

/* ---- fused ---- */

struct job {
	symm_device_view view;
	float4 *out;  /* [world size][shard] */
	size_t shard; /* in float4 */
	int terms;
	uint32_t turn;    /* what a flag of this launch is: more than any before */
	uint32_t *ticket; /* of the next chunk to compute; 0 at launch */
	int *failure;     /* of the host: 0, or a SYMM code */
};

/* A block of symmetric memory holds all shards side by side, and then the flags of all their chunks. */
__device__ inline float4 *chunk_at(const job &j, int block_of, int rank, int chunk)
{
	return symm::buffer<float4>(j.view, block_of) + rank * j.shard + chunk * (j.shard / CHUNKS);
}

__device__ inline uint32_t *flag_at(const job &j, int block_of, int rank, int chunk)
{
	float4 *flags = symm::buffer<float4>(j.view, block_of) + symm::world_size(j.view) * j.shard;

	return reinterpret_cast<uint32_t *>(flags) + rank * CHUNKS + chunk;
}

/* Four loads are on their way before the first store. */
__device__ inline void push(float4 *to, const float4 *from, size_t n)
{
	size_t i = threadIdx.x;

	for (; i + 3 * THREADS < n; i += 4 * THREADS) {
		const float4 a = from[i], b = from[i + THREADS], c = from[i + 2 * THREADS], d = from[i + 3 * THREADS];

		to[i] = a;
		to[i + THREADS] = b;
		to[i + 2 * THREADS] = c;
		to[i + 3 * THREADS] = d;
	}
	for (; i < n; i += THREADS)
		to[i] = from[i];
}

/* Pusher number p, in each step: chunk step * PUSHERS + p, to all peers. */
__device__ inline int push_all(const job &j, int pusher)
{
	const int me = symm::rank(j.view), world = symm::world_size(j.view);
	/* Once a peer's kernel runs, its last one, which read what we overwrite, has ended. A channel a pusher. */
	int code = symm::barrier(symm::block_scope(), j.view, pusher, patience_ns);

	for (int step = 0; step < STEPS && code == 0; step++)
		for (int hop = 1; hop < world; hop++) {
			const int peer = (me + hop) % world, chunk = step * PUSHERS + pusher;

			push(chunk_at(j, peer, me, chunk), chunk_at(j, me, me, chunk), j.shard / CHUNKS);
			__syncthreads();
			if (threadIdx.x == 0)
				symm::store_release(flag_at(j, peer, me, chunk), j.turn);
		}
	return code;
}

/* Own chunks first; then those of the peers, in the order in which they are pushed. */
__device__ inline int compute_next(const job &j, uint32_t ticket)
{
	const int me = symm::rank(j.view), world = symm::world_size(j.view), peers = world - 1;
	const bool own = ticket < CHUNKS;
	const int from = own ? me : (me + world - 1 - (int)(ticket - CHUNKS) % peers) % world;
	const int chunk = own ? (int)ticket : (int)(ticket - CHUNKS) / peers;
	const size_t n = j.shard / CHUNKS;
	const uint32_t *flag = flag_at(j, me, from, chunk);
	const uint32_t turn = j.turn;
	int code = 0;

	if (!own)
		code = symm::wait_until(
			symm::block_scope(), j.view, from, [=] { return symm::load_relaxed(flag) == turn; },
			patience_ns);
	if (code == 0)
		compute_some(j.out + from * j.shard + chunk * n, chunk_at(j, me, from, chunk), n, j.terms, threadIdx.x,
			     THREADS);
	return code;
}

/* All blocks have to be resident at once: pushers of one rank wait for those of another. */
__global__ void __launch_bounds__(THREADS, 2) fused(job j)
{
	__shared__ uint32_t ticket;
	const uint32_t tickets = CHUNKS * symm::world_size(j.view);
	int code = blockIdx.x < PUSHERS ? push_all(j, blockIdx.x) : 0;

	while (code == 0) {
		__syncthreads();
		if (threadIdx.x == 0)
			ticket = atomicAdd(j.ticket, 1);
		__syncthreads();
		if (ticket >= tickets)
			break;
		code = compute_next(j, ticket);
	}
	if (code != 0 && threadIdx.x == 0)
		*j.failure = code;
}

/* ---- the host ---- */

struct program {
	symm_context *context;
	symm_group *group;
	symm_mem *mem;
	void *block;
	job j;
	unsigned blocks;
	cudaStream_t stream;
	cudaEvent_t from, to;
};

static float value_of(int rank, size_t i)
{
	return (float)(i % PATTERN + rank) / 2048;
}

static void fill(program &p)
{
	const int me = p.j.view.rank;
	std::vector<float> shard(4 * p.j.shard);

	for (size_t i = 0; i < shard.size(); i++)
		shard[i] = value_of(me, i);
	CUDA(cudaMemcpy((float4 *)p.block + me * p.j.shard, shard.data(), 16 * p.j.shard, cudaMemcpyHostToDevice));
}

static void start(program &p, size_t shard_bytes)
{
	int devices, device, processors, most, world;

	CHECK(symm_open(NULL, &p.context));
	CUDA(cudaGetDeviceCount(&devices));
	device = std::max(0, symm_context_local_rank(p.context)) % devices;
	CUDA(cudaSetDevice(device));
	CHECK(symm_group_join(p.context, "world", SYMM_AUTO, SYMM_AUTO, 0, &p.group));
	world = symm_group_world_size(p.group);
	CHECK(symm_alloc(p.group, world * (shard_bytes + CHUNKS * sizeof(uint32_t)), NULL, &p.block));
	CHECK(symm_rendezvous(p.block, p.group, 0, &p.mem));
	CHECK(symm_mem_device_view(p.mem, &p.j.view));
	p.j.shard = shard_bytes / 16;
	CUDA(cudaMalloc(&p.j.out, world * shard_bytes));
	CUDA(cudaMalloc(&p.j.ticket, sizeof(*p.j.ticket)));
	CUDA(cudaMallocHost(&p.j.failure, sizeof(*p.j.failure)));
	*p.j.failure = 0;
	CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
	CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&most, fused, THREADS, 0));
	p.blocks = processors * std::min(most, 2);
	CUDA(cudaStreamCreateWithFlags(&p.stream, cudaStreamNonBlocking));
	CUDA(cudaEventCreate(&p.from));
	CUDA(cudaEventCreate(&p.to));
	fill(p);
}

static void stop(program &p)
{
	CUDA(cudaEventDestroy(p.from));
	CUDA(cudaEventDestroy(p.to));
	CUDA(cudaStreamDestroy(p.stream));
	CUDA(cudaFreeHost(p.j.failure));
	CUDA(cudaFree(p.j.ticket));
	CUDA(cudaFree(p.j.out));
	CHECK(symm_mem_release(p.mem));
	CHECK(symm_free(p.block));
	CHECK(symm_close(p.context));
}

/* ---- what is compared ---- */

static void enqueue_copies(program &p)
{
	const size_t bytes = 16 * p.j.shard;

	CHECK(symm_barrier_on_stream(p.mem, 0, 0, p.stream));
	for (int hop = 1; hop < p.j.view.world_size; hop++) {
		const int peer = (p.j.view.rank + hop) % p.j.view.world_size;

		CHECK(symm_get_on_stream(p.mem, peer, peer * bytes, (char *)p.block + peer * bytes, bytes, p.stream));
	}
}

static void enqueue_compute(program &p)
{
	compute<<<p.blocks * 2, THREADS, 0, p.stream>>>(p.j.out, (const float4 *)p.block,
							p.j.view.world_size * p.j.shard, p.j.terms);
	CUDA(cudaGetLastError());
}

static void enqueue_apart(program &p)
{
	enqueue_copies(p);
	enqueue_compute(p);
}

static void enqueue_fused(program &p)
{
	p.j.turn++;
	CUDA(cudaMemsetAsync(p.j.ticket, 0, sizeof(*p.j.ticket), p.stream));
	fused<<<p.blocks, THREADS, 0, p.stream>>>(p.j);
	CUDA(cudaGetLastError());
}

static void finish(program &p)
{
	CUDA(cudaStreamSynchronize(p.stream));
	CHECK(*p.j.failure);
	CHECK(symm_group_status(p.group));
}

/* ms, the median. */
static double measure(program &p, void (*enqueue)(program &p))
{
	std::vector<float> ms(TIMES);

	for (float &one : ms) {
		CHECK(symm_barrier(p.mem, 1, 0));
		CUDA(cudaEventRecord(p.from, p.stream));
		enqueue(p);
		CUDA(cudaEventRecord(p.to, p.stream));
		finish(p);
		CUDA(cudaEventElapsedTime(&one, p.from, p.to));
	}
	std::sort(ms.begin(), ms.end());
	return ms[TIMES / 2];
}

/* How many floats are wrong after one run that has to bring everything anew. */
static size_t verify(program &p, void (*enqueue)(program &p))
{
	const size_t bytes = 16 * p.j.shard, floats = 4 * p.j.shard;
	std::vector<float> out(floats), expected(PATTERN);
	size_t wrong = 0;

	for (int rank = 0; rank < p.j.view.world_size; rank++)
		if (rank != p.j.view.rank)
			CUDA(cudaMemset((char *)p.block + rank * bytes, 0xff, bytes));
	CUDA(cudaMemset(p.j.out, 0xff, p.j.view.world_size * bytes));
	CUDA(cudaDeviceSynchronize());
	CHECK(symm_barrier(p.mem, 1, 0));
	enqueue(p);
	finish(p);
	for (int rank = 0; rank < p.j.view.world_size; rank++) {
		for (int i = 0; i < PATTERN; i++)
			expected[i] = polynomial(value_of(rank, i), p.j.terms);
		CUDA(cudaMemcpy(out.data(), p.j.out + rank * p.j.shard, bytes, cudaMemcpyDeviceToHost));
		for (size_t i = 0; i < floats; i++)
			wrong += !(std::fabs(out[i] - expected[i % PATTERN]) <= 1e-5f);
	}
	CHECK(symm_barrier(p.mem, 1, 0));
	return wrong;
}

static size_t compare(program &p, int terms)
{
	const double gigabytes = 16e-9 * p.j.shard * (p.j.view.world_size - 1);
	double copies, computing, apart, together;
	size_t wrong;

	p.j.terms = terms;
	wrong = verify(p, enqueue_apart);
	wrong += verify(p, enqueue_fused);
	copies = measure(p, enqueue_copies);
	computing = measure(p, enqueue_compute);
	apart = measure(p, enqueue_apart);
	together = measure(p, enqueue_fused);
	if (p.j.view.rank == 0)
		printf("%5d  %8.3f (%3.0f GB/s)  %8.3f  %9.3f  %8.3f  %5.2fx  %zu\n", terms, copies,
		       gigabytes / (copies * 1e-3), computing, apart, together, apart / together, wrong);
	return wrong;
}

int main(int argc, char **argv)
{
	const size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 256;
	static const int terms[] = { 16, 64, 128, 256 };
	program p = program();
	size_t wrong = 0;

	setenv("CUDA_MODULE_LOADING", "EAGER", 1); /* no kernel is loaded while another waits */
	if (mib == 0 || mib > 16384) {
		fprintf(stderr, "usage: allgather_fused [MIB], of a shard: 1 to 16384\n");
		return 2;
	}
	start(p, mib << 20);
	if (p.j.view.rank == 0)
		printf("%d ranks, shards of %zu MiB, ms\n"
		       "terms  copy                   compute  one after  fused     gain   wrong\n",
		       p.j.view.world_size, mib);
	for (int n : terms)
		wrong += compare(p, n);
	stop(p);
	if (wrong > 0)
		fprintf(stderr, "rank %d: %zu floats are wrong\n", p.j.view.rank, wrong);
	return wrong > 0;
}
