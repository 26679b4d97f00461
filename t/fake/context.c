/* Primary contexts, and each thread's stack of them. */
#include "fake.h"

static struct CUctx_st contexts[FAKE_DEVICES];

struct level {
	struct CUctx_st *context;
	bool pushed; /* or set */
};

static _Thread_local struct {
	struct level at[64];
	int depth;
} stack;
static _Thread_local struct CUstream_st *per_thread[FAKE_DEVICES];

int symm_fake_context_depth(void)
{
	return stack.depth;
}

struct CUctx_st *fake_context_current(void)
{
	return stack.depth > 0 ? stack.at[stack.depth - 1].context : NULL;
}

enum symm_cuda_result fake_context_check(void)
{
	struct CUctx_st *context = fake_context_current();

	if (context == NULL)
		return SYMM_CUDA_INVALID_CONTEXT;
	return context->users > 0 ? SYMM_CUDA_SUCCESS : SYMM_CUDA_CONTEXT_IS_DESTROYED;
}

static bool is_alive(const struct CUctx_st *context)
{
	return context >= contexts && context < contexts + FAKE_DEVICES && context->users > 0;
}

static void enter(struct CUctx_st *context, bool pushed)
{
	FAKE_ASSERT(stack.depth < 64, "64 contexts have been pushed and not popped");
	stack.at[stack.depth++] = (struct level){ context, pushed };
	context->pushes += pushed;
}

/* True if it had been pushed. */
static bool leave(void)
{
	struct level *top = &stack.at[--stack.depth];

	top->context->pushes -= top->pushed;
	return top->pushed;
}

static void make_stream(struct CUstream_st *stream, struct CUctx_st *context, bool blocking)
{
	stream->context = context;
	stream->blocking = blocking;
}

/* Never freed: like the real one it lives as long as its thread or context, and nobody is told. */
struct CUstream_st *fake_context_per_thread(struct CUctx_st *context)
{
	struct CUstream_st **stream = &per_thread[context->device];

	if (*stream == NULL) {
		*stream = fake_new(sizeof(**stream));
		make_stream(*stream, context, true);
		(*stream)->queue = ++context->queue % fake_config.queues;
		fake_object_add(&(*stream)->object, FAKE_BUILTIN);
	}
	return *stream;
}

enum symm_cuda_result cuDevicePrimaryCtxRetain(struct CUctx_st **context, int device)
{
	int physical = fake_device_physical(device);

	FAKE_ENTER(FAKE_INIT);
	if (physical < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	*context = &contexts[physical];
	(*context)->device = physical;
	make_stream(&(*context)->legacy, *context, false);
	(*context)->users++;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDevicePrimaryCtxRelease(int device)
{
	int physical = fake_device_physical(device);
	struct CUctx_st *context = &contexts[physical < 0 ? 0 : physical];

	FAKE_ENTER(FAKE_INIT);
	if (physical < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	FAKE_ASSERT(context->users > 0, "GPU %d: released more often than retained", physical);
	if (context->users == 1) {
		fake_work_check_none(context);
		fake_object_check_leaks(context);
		FAKE_ASSERT(context->pushes == 0 || fake_config.leaks, "GPU %d: pushed %d times more than popped",
			    physical, context->pushes);
	}
	context->users--;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDevicePrimaryCtxGetState(int device, unsigned int *flags, int *active)
{
	int physical = fake_device_physical(device);

	FAKE_ENTER(FAKE_INIT);
	if (physical < 0)
		return SYMM_CUDA_INVALID_DEVICE;
	*flags = 0;
	*active = contexts[physical].users > 0;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxGetCurrent(struct CUctx_st **context)
{
	FAKE_ENTER(FAKE_INIT);
	*context = fake_context_current();
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxSetCurrent(struct CUctx_st *context)
{
	bool pushed;

	FAKE_ENTER(FAKE_INIT);
	if (context != NULL && !is_alive(context))
		return SYMM_CUDA_INVALID_CONTEXT;
	pushed = stack.depth > 0 && leave();
	if (context != NULL)
		enter(context, pushed);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxPushCurrent(struct CUctx_st *context)
{
	FAKE_ENTER(FAKE_INIT);
	if (!is_alive(context))
		return SYMM_CUDA_INVALID_CONTEXT;
	enter(context, true);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxPopCurrent(struct CUctx_st **context)
{
	FAKE_ENTER(FAKE_INIT);
	if (stack.depth == 0)
		return SYMM_CUDA_INVALID_CONTEXT;
	if (context != NULL)
		*context = fake_context_current();
	leave();
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxGetDevice(int *device)
{
	FAKE_ENTER(FAKE_CONTEXT);
	*device = fake_device_ordinal(fake_context_current()->device);
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuCtxSynchronize(void)
{
	FAKE_ENTER(FAKE_CONTEXT | FAKE_UNSAFE);
	fake_work_wait_all(fake_context_current());
	return SYMM_CUDA_SUCCESS;
}
