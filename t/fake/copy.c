/* Copies and fills. */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

/* Eight aligned bytes are moved at once, as hardware does. */
static void move(char *to, const char *from, size_t bytes)
{
	if (bytes == 8 && ((uintptr_t)to | (uintptr_t)from) % 8 == 0)
		__atomic_store_n((uint64_t *)(void *)to,
				 __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
	else
		memmove(to, from, bytes);
}

/* With a seed the second half comes first. */
static void run_copy(const struct fake_task *task)
{
	char *to = task->copy.to;
	const char *from = task->copy.from;
	size_t bytes = task->copy.bytes, half = fake_config.seed != 0 && bytes > 128 ? bytes / 128 * 64 : 0;

	move(to + half, from + half, bytes - half);
	if (half > 0)
		move(to, from, half);
}

static void visit_copy(const struct fake_task *task, fake_visitor *visitor, void *arg)
{
	visitor(task->copy.to, task->copy.bytes, arg);
	visitor(task->copy.from, task->copy.bytes, arg);
}

static void run_fill(const struct fake_task *task)
{
	if (task->fill.width == 1)
		memset(task->fill.to, (int)task->fill.value, task->fill.count);
	for (size_t i = 0; task->fill.width == 4 && i < task->fill.count; i++)
		((uint32_t *)task->fill.to)[i] = task->fill.value;
}

static void visit_fill(const struct fake_task *task, fake_visitor *visitor, void *arg)
{
	visitor(task->fill.to, task->fill.width * task->fill.count, arg);
}

static const struct fake_task_kind copy_kind = { FAKE_COPY, true, run_copy, visit_copy };
/* Fills are kernels on real hardware, too. */
static const struct fake_task_kind fill_kind = { FAKE_COMPUTE, false, run_fill, visit_fill };

static void *pointer(unsigned long long address)
{
	return (void *)(uintptr_t)address;
}

static bool is_known(const void *address)
{
	return fake_linear_find(address) != NULL || fake_mapping_find(address) != NULL;
}

/* A copy to or from memory that is not pinned has ended when the call returns. */
static enum symm_cuda_result copy(struct CUstream_st *handle, void *to, const void *from, size_t bytes, bool wait)
{
	struct CUstream_st *stream = fake_stream_find(handle);
	struct fake_task task = { .kind = &copy_kind, .name = "a copy" };
	enum symm_cuda_result result;

	if (stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	if (bytes == 0)
		return SYMM_CUDA_SUCCESS;
	task.context = stream->context;
	task.copy.to = to;
	task.copy.from = from;
	task.copy.bytes = bytes;
	result = fake_stream_enqueue(stream, &task);
	if (result == SYMM_CUDA_SUCCESS && stream->capture == NULL && (wait || !is_known(to) || !is_known(from)))
		fake_stream_drain(stream);
	return result;
}

static enum symm_cuda_result fill(struct CUstream_st *handle, void *to, uint32_t value, size_t width, size_t count)
{
	struct CUstream_st *stream = fake_stream_find(handle);
	struct fake_task task = { .kind = &fill_kind, .name = "a fill" };

	if (stream == NULL)
		return SYMM_CUDA_INVALID_HANDLE;
	FAKE_ASSERT((uintptr_t)to % width == 0, "%p is not aligned", to);
	if (count == 0)
		return SYMM_CUDA_SUCCESS;
	task.context = stream->context;
	task.fill.to = to;
	task.fill.value = value;
	task.fill.width = width;
	task.fill.count = count;
	return fake_stream_enqueue(stream, &task);
}

enum symm_cuda_result cuMemcpy(unsigned long long to, unsigned long long from, size_t bytes)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	return copy(NULL, pointer(to), pointer(from), bytes, true);
}

enum symm_cuda_result cuMemcpyHtoD(unsigned long long to, const void *from, size_t bytes)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	FAKE_ASSERT(is_known(pointer(to)), "%#llx is not the device's", to);
	return copy(NULL, pointer(to), from, bytes, true);
}

enum symm_cuda_result cuMemcpyDtoH(void *to, unsigned long long from, size_t bytes)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	FAKE_ASSERT(is_known(pointer(from)), "%#llx is not the device's", from);
	return copy(NULL, to, pointer(from), bytes, true);
}

enum symm_cuda_result cuMemcpyAsync(unsigned long long to, unsigned long long from, size_t bytes,
				    struct CUstream_st *stream)
{
	FAKE_ENTER(FAKE_CONTEXT);
	return copy(stream, pointer(to), pointer(from), bytes, false);
}

enum symm_cuda_result cuMemcpyHtoDAsync(unsigned long long to, const void *from, size_t bytes,
					struct CUstream_st *stream)
{
	FAKE_ENTER(FAKE_CONTEXT);
	FAKE_ASSERT(is_known(pointer(to)), "%#llx is not the device's", to);
	return copy(stream, pointer(to), from, bytes, false);
}

enum symm_cuda_result cuMemcpyDtoHAsync(void *to, unsigned long long from, size_t bytes, struct CUstream_st *stream)
{
	FAKE_ENTER(FAKE_CONTEXT);
	FAKE_ASSERT(is_known(pointer(from)), "%#llx is not the device's", from);
	return copy(stream, to, pointer(from), bytes, false);
}

enum symm_cuda_result cuMemsetD8Async(unsigned long long to, unsigned char value, size_t count,
				      struct CUstream_st *stream)
{
	FAKE_ENTER(FAKE_CONTEXT);
	return fill(stream, pointer(to), value, 1, count);
}

enum symm_cuda_result cuMemsetD32Async(unsigned long long to, unsigned int value, size_t count,
				       struct CUstream_st *stream)
{
	FAKE_ENTER(FAKE_CONTEXT);
	return fill(stream, pointer(to), value, 4, count);
}
