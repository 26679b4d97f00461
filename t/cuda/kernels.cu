/* The kernels of tests: t/cuda/kernels.h and calls.h on a GPU. */
#include "t/cuda/calls.h"

static __device__ uint64_t thread_number()
{
	return blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
}

static __device__ uint64_t thread_count()
{
	return gridDim.x * (uint64_t)blockDim.x;
}

extern "C" __global__ void test_fill64(uint64_t *to, uint64_t value, uint64_t n)
{
	test_fill64_share(to, value, n, thread_number(), thread_count());
}

extern "C" __global__ void test_expect64(const uint64_t *from, uint64_t value, uint64_t n, uint32_t *errors)
{
	test_expect64_share(from, value, n, errors, thread_number(), thread_count());
}

extern "C" __global__ void test_spin(const uint32_t *flag)
{
	test_spin_until(flag);
}

extern "C" __global__ void test_reread(const uint64_t *from, uint64_t n, const uint32_t *flag)
{
	test_reread_until(from, n, flag, thread_number(), thread_count());
}

extern "C" __global__ void test_empty()
{
}

extern "C" __global__ void test_copy(struct test_wide *to, const struct test_wide *from, uint64_t n)
{
	test_copy_share(to, from, n, thread_number(), thread_count());
}

/* Of one block. */
extern "C" __global__ void test_litmus_write(struct test_litmus litmus)
{
	test_litmus_write_share(&litmus, threadIdx.x, blockDim.x);
}

extern "C" __global__ void test_litmus_read(struct test_litmus litmus)
{
	test_litmus_read_share(&litmus, threadIdx.x, blockDim.x);
}

extern "C" __global__ void test_call(struct test_call call)
{
	test_call_share(&call, threadIdx.x);
}

/* In the scope of a thread each goes its own way, on a channel and with words of its own. */
extern "C" __global__ void test_exchange(struct test_exchange exchange)
{
	if (exchange.scope != TEST_THREAD) {
		test_exchange_share(&exchange, threadIdx.x, blockDim.x);
		return;
	}
	exchange.channel += threadIdx.x;
	exchange.offset += threadIdx.x * test_exchange_bytes(&exchange);
	exchange.flag.offset += threadIdx.x * sizeof(uint64_t);
	test_exchange_share(&exchange, 0, 1);
}
