/* Modules and kernels. A module's image is not looked into: every module has all kernels of the table below, and they
 * run in their form for a CPU. */
#include "fake.h"

/* One waiter listens for all, as on a GPU. */
#define SYMM_WAIT_LISTEN_BITS 16
#include "kernels/entry.h"
#include "t/cuda/calls.h"

#include <stdlib.h>
#include <string.h>

#define FATBIN_MAGIC 0xba55ed50u
#define NO_KERNELS "NOKERNEL" /* the library's array when it was built without nvcc */

struct CUmod_st {
	struct fake_object object;
};

struct CUfunc_st {
	const char *name;
	void (*run)(void *const *params);
	/* Calls the visitor with each range of memory that the kernel uses. */
	void (*visit)(void *const *params, fake_visitor *visitor, void *arg);
	size_t bytes[5]; /* of each parameter, up to a 0 */
	bool one_block;  /* more of them would do it again */
};

#define PARAM(type, i) (*(type *)params[i])

/* ---- the library's ---- */

/* What the entry writes as its last is held back until the driver, too, takes it for ended: who sees it may unmap. */
static void run_entry(void *const *params, void (*entry)(const struct symm_sync_args *args))
{
	struct symm_sync_args *args = params[0], copy = *args;
	struct symm_sync_result result = { 0, 0, 0 };

	copy.counted = 0;
	copy.result = &result;
	entry(&copy);
	fake_work_over();
	symm_entry_end(args, result.code, result.peer);
}

static void run_barrier(void *const *params)
{
	run_entry(params, symm_entry_barrier);
}

static void run_put_signal(void *const *params)
{
	run_entry(params, symm_entry_put_signal);
}

static void run_wait_signal(void *const *params)
{
	run_entry(params, symm_entry_wait_signal);
}

static void run_count(void *const *params)
{
	run_entry(params, symm_entry_count);
}

static void run_put_with_signal(void *const *params)
{
	run_entry(params, symm_entry_put_with_signal);
}

static void run_write_value(void *const *params)
{
	run_entry(params, symm_entry_write_value);
}

static void visit_count(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct symm_sync_args *args = params[0];

	visitor(args->sync, sizeof(*args->sync), arg);
}

/* All that the algorithms use. */
static void visit_words(struct symm_sync *sync, const struct symm_sync_group *group, fake_visitor *visitor, void *arg)
{
	uint32_t world;

	visitor(group, sizeof(*group), arg);
	FAKE_ASSERT(group->version == SYMM_SYNC_VERSION, "no struct symm_sync_group at %p", (const void *)group);
	world = group->world_size;
	visitor(sync, symm_sync_bytes(world), arg);
	visitor(group->mirror, symm_sync_mirror_bytes(world), arg);
	for (uint32_t peer = 0; peer < world; peer++)
		if (symm_sync_peer_at(sync, peer)->slot != NULL)
			visitor(symm_sync_peer_at(sync, peer)->slot, symm_sync_layout_of(world).bytes, arg);
}

static void visit_sync(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct symm_sync_args *args = params[0];

	visit_words(args->sync, args->group, visitor, arg);
	if (args->result != NULL)
		visitor(args->result, sizeof(*args->result), arg);
}

static void visit_payload(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct symm_sync_args *args = params[0];

	visit_sync(params, visitor, arg);
	visitor(args->payload.dst, args->payload.bytes, arg);
	if (args->payload.src != NULL)
		visitor(args->payload.src, args->payload.bytes, arg);
}

/* ---- the tests' ---- */

static void run_fill64(void *const *params)
{
	test_fill64_share(PARAM(uint64_t *, 0), PARAM(uint64_t, 1), PARAM(uint64_t, 2), 0, 1);
}

static void visit_fill64(void *const *params, fake_visitor *visitor, void *arg)
{
	visitor(PARAM(void *, 0), 8 * PARAM(uint64_t, 2), arg);
}

static void run_expect64(void *const *params)
{
	test_expect64_share(PARAM(uint64_t *, 0), PARAM(uint64_t, 1), PARAM(uint64_t, 2), PARAM(uint32_t *, 3), 0, 1);
}

static void visit_expect64(void *const *params, fake_visitor *visitor, void *arg)
{
	visit_fill64(params, visitor, arg);
	visitor(PARAM(void *, 3), sizeof(uint32_t), arg);
}

static void run_spin(void *const *params)
{
	test_spin_until(PARAM(uint32_t *, 0));
}

static void visit_flag(void *const *params, fake_visitor *visitor, void *arg)
{
	visitor(PARAM(void *, 0), sizeof(uint32_t), arg);
}

static void run_reread(void *const *params)
{
	test_reread_until(PARAM(uint64_t *, 0), PARAM(uint64_t, 1), PARAM(uint32_t *, 2), 0, 1);
}

static void visit_reread(void *const *params, fake_visitor *visitor, void *arg)
{
	visitor(PARAM(void *, 0), 8 * PARAM(uint64_t, 1), arg);
	visitor(PARAM(void *, 2), sizeof(uint32_t), arg);
}

static void run_nothing(void *const *params)
{
	(void)params;
}

static void visit_nothing(void *const *params, fake_visitor *visitor, void *arg)
{
	(void)params;
	(void)visitor;
	(void)arg;
}

static void run_copy(void *const *params)
{
	test_copy_share(PARAM(struct test_wide *, 0), PARAM(struct test_wide *, 1), PARAM(uint64_t, 2), 0, 1);
}

static void visit_copy(void *const *params, fake_visitor *visitor, void *arg)
{
	visitor(PARAM(void *, 0), 16 * PARAM(uint64_t, 2), arg);
	visitor(PARAM(void *, 1), 16 * PARAM(uint64_t, 2), arg);
}

static void run_litmus_write(void *const *params)
{
	test_litmus_write_share(params[0], 0, 1);
}

static void run_litmus_read(void *const *params)
{
	test_litmus_read_share(params[0], 0, 1);
}

static void visit_litmus(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct test_litmus *litmus = params[0];

	visitor(litmus->buffers, litmus->to * sizeof(void *), arg);
	visitor(litmus->lanes, TEST_LANES * sizeof(struct test_lane), arg);
	visitor((char *)litmus->buffers[litmus->rank] + litmus->offset, 2 * litmus->half, arg);
	for (uint32_t peer = litmus->from; peer < litmus->to; peer++)
		visitor((char *)litmus->buffers[peer] + litmus->offset, 2 * litmus->half, arg);
}

static void run_call(void *const *params)
{
	test_call_share(params[0], 0);
}

static void visit_call(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct test_call *call = params[0];

	visit_words(call->view.sync, call->view.group, visitor, arg);
	visitor(call->codes, call->threads * sizeof(int32_t), arg);
}

static void run_exchange(void *const *params)
{
	test_exchange_share(params[0], 0, 1);
}

static void visit_exchange(void *const *params, fake_visitor *visitor, void *arg)
{
	const struct test_exchange *e = params[0];
	int world = e->view.world_size;

	visit_words(e->view.sync, e->view.group, visitor, arg);
	visitor(e->view.buffers, (size_t)world * sizeof(void *), arg);
	for (int peer = 0; peer < world; peer++)
		visitor((char *)e->view.buffers[peer] + e->offset, test_exchange_bytes(e), arg);
	visitor(e->wrong, sizeof(*e->wrong), arg);
	visitor(e->code, sizeof(*e->code), arg);
}

#define ARGS sizeof(struct symm_sync_args)

static const struct CUfunc_st table[] = {
	{ "symm_kernel_barrier", run_barrier, visit_sync, { ARGS }, true },
	{ "symm_kernel_put_signal", run_put_signal, visit_sync, { ARGS }, true },
	{ "symm_kernel_wait_signal", run_wait_signal, visit_sync, { ARGS }, true },
	{ "symm_kernel_put_with_signal", run_put_with_signal, visit_payload, { ARGS }, true },
	{ "symm_kernel_write_value", run_write_value, visit_payload, { ARGS }, true },
	{ "symm_kernel_count", run_count, visit_count, { ARGS }, true },
	{ "test_fill64", run_fill64, visit_fill64, { 8, 8, 8 }, false },
	{ "test_expect64", run_expect64, visit_expect64, { 8, 8, 8, 8 }, false },
	{ "test_spin", run_spin, visit_flag, { 8 }, false },
	{ "test_reread", run_reread, visit_reread, { 8, 8, 8 }, false },
	{ "test_empty", run_nothing, visit_nothing, { 0 }, false },
	{ "test_copy", run_copy, visit_copy, { 8, 8, 8 }, false },
	{ "test_litmus_write", run_litmus_write, visit_litmus, { sizeof(struct test_litmus) }, true },
	{ "test_litmus_read", run_litmus_read, visit_litmus, { sizeof(struct test_litmus) }, true },
	{ "test_call", run_call, visit_call, { sizeof(struct test_call) }, true },
	{ "test_exchange", run_exchange, visit_exchange, { sizeof(struct test_exchange) }, true },
};

/* ---- tasks ---- */

/* Where each parameter stands in a task's frozen copy. */
static void find_params(const struct fake_task *task, void **params)
{
	const struct CUfunc_st *function = task->kernel.function;
	char *at = (char *)task->kernel.params;

	for (int i = 0; function->bytes[i] != 0; i++) {
		params[i] = at;
		at += function->bytes[i];
	}
}

static void run_kernel(const struct fake_task *task)
{
	void *params[4];

	find_params(task, params);
	task->kernel.function->run(params);
}

static void visit_kernel(const struct fake_task *task, fake_visitor *visitor, void *arg)
{
	void *params[4];

	find_params(task, params);
	task->kernel.function->visit(params, visitor, arg);
}

static const struct fake_task_kind kernel_kind = { FAKE_COMPUTE, false, run_kernel, visit_kernel };

static enum symm_cuda_result enqueue_kernel(struct CUfunc_st *function, unsigned int grid_x, unsigned int grid_y,
					    unsigned int grid_z, unsigned int block_x, unsigned int block_y,
					    unsigned int block_z, unsigned int shared_bytes, struct CUstream_st *handle,
					    void **params, void **extra)
{
	struct fake_task task = { .kind = &kernel_kind };
	unsigned long blocks = (unsigned long)grid_x * grid_y * grid_z,
		      threads = (unsigned long)block_x * block_y * block_z;
	struct CUstream_st *stream;
	char *at = task.kernel.params;

	stream = fake_stream_find(handle);
	if (stream == NULL || stream->context != fake_context_current())
		return SYMM_CUDA_INVALID_HANDLE;
	FAKE_ASSERT(function >= table && function < table + sizeof(table) / sizeof(table[0]), "not a function");
	FAKE_ASSERT(params != NULL && extra == NULL, "parameters by address only");
	if (blocks == 0 || threads == 0 || threads > 1024 || shared_bytes > 49152)
		return SYMM_CUDA_INVALID_VALUE;
	FAKE_ASSERT(blocks == 1 || !function->one_block, "%s in %lu blocks", function->name, blocks);
	task.name = function->name;
	task.context = stream->context;
	task.kernel.function = function;
	for (int i = 0; function->bytes[i] != 0; at += function->bytes[i++])
		memcpy(at, params[i], function->bytes[i]);
	return fake_stream_enqueue(stream, &task);
}

enum symm_cuda_result cuLaunchKernel(struct CUfunc_st *function, unsigned int grid_x, unsigned int grid_y,
				     unsigned int grid_z, unsigned int block_x, unsigned int block_y,
				     unsigned int block_z, unsigned int shared_bytes, struct CUstream_st *stream,
				     void **params, void **extra)
{
	FAKE_ENTER(FAKE_CONTEXT);
	return enqueue_kernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params,
			      extra);
}

/* The one attribute that we know changes nothing here: a kernel's turn comes when all before it has ended. */
enum symm_cuda_result cuLaunchKernelEx(const struct symm_cuda_launch *launch, struct CUfunc_st *function, void **params,
				       void **extra)
{
	FAKE_ENTER(FAKE_CONTEXT);
	for (unsigned int i = 0; i < launch->numAttrs; i++)
		FAKE_ASSERT(launch->attrs[i].id == SYMM_CUDA_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
			    "launch attribute %d", (int)launch->attrs[i].id);
	return enqueue_kernel(function, launch->grid[0], launch->grid[1], launch->grid[2], launch->block[0],
			      launch->block[1], launch->block[2], launch->shared_bytes, launch->stream, params, extra);
}

/* ---- modules ---- */

enum symm_cuda_result cuModuleLoadData(struct CUmod_st **module, const void *image)
{
	uint32_t magic;

	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	memcpy(&magic, image, sizeof(magic));
	if (magic != FATBIN_MAGIC && memcmp(image, NO_KERNELS, strlen(NO_KERNELS)) != 0)
		return SYMM_CUDA_INVALID_IMAGE;
	*module = fake_new(sizeof(**module));
	fake_object_add(&(*module)->object, FAKE_MODULE);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuModuleUnload(struct CUmod_st *module)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	FAKE_ASSERT(fake_object_lives(FAKE_MODULE, module), "not a module");
	fake_object_remove(&module->object);
	free(module);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuModuleGetFunction(struct CUfunc_st **function, struct CUmod_st *module, const char *name)
{
	FAKE_ENTER(FAKE_CONTEXT);
	FAKE_ASSERT(fake_object_lives(FAKE_MODULE, module), "not a module");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].name, name) == 0) {
			*function = (struct CUfunc_st *)&table[i];
			return SYMM_CUDA_SUCCESS;
		}
	}
	return SYMM_CUDA_NOT_FOUND;
}

enum symm_cuda_result cuFuncGetAttribute(int *value, enum symm_cuda_func_attribute attribute,
					 struct CUfunc_st *function)
{
	FAKE_ENTER(FAKE_CONTEXT);
	(void)function;
	*value = 0;
	if (attribute == SYMM_CUDA_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
		*value = 1024;
	if (attribute == SYMM_CUDA_FUNC_ATTRIBUTE_NUM_REGS)
		*value = 32;
	if (attribute == SYMM_CUDA_FUNC_ATTRIBUTE_BINARY_VERSION || attribute == SYMM_CUDA_FUNC_ATTRIBUTE_PTX_VERSION)
		*value = 10 * fake_config.major + fake_config.minor;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuFuncLoad(struct CUfunc_st *function)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	(void)function;
	return SYMM_CUDA_SUCCESS;
}
