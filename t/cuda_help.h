/* cuda_help.h: what the tests of the CUDA device begin with. They run on the driver of t/fake, or, with
 * SYMM_DEVICE=cuda, on whatever driver there is; what only the fake one can show is skipped on others.
 *
 * Ranks are processes. Each calls driver_start first, which makes the primary context of its GPU current, as programs
 * of the runtime API have it.
 */
#ifndef CUDA_HELP_H
#define CUDA_HELP_H

#include "ask.h"
#include "device/cuda.h"
#include "fake/control.h"
#include "rig.h"

#include <dlfcn.h>
#include <sys/mman.h>

/* ---- which driver ---- */

static inline bool is_fake(const char *path)
{
	void *library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

	return library != NULL && dlsym(library, "symm_fake_counts") != NULL;
}

static inline bool faked(void)
{
	return is_fake(getenv("SYMM_LIBCUDA"));
}

/* In main: chooses the driver, unless SYMM_DEVICE has; false: there is no fake one, and all is skipped. */
static inline bool driver_choose(void)
{
	const char *device = getenv("SYMM_DEVICE"), *folder = getenv("top_builddir");
	char path[4096];

	if (device != NULL && strncmp(device, "cuda", 4) == 0)
		return true;
	snprintf(path, sizeof(path), "%s/t/fake/libcuda.so.1", folder != NULL ? folder : ".");
	if (!is_fake(path)) {
		tap_skip_all("no fake driver at %s", path);
		return false;
	}
	setenv("SYMM_DEVICE", "cuda", 1);
	setenv("SYMM_LIBCUDA", path, 1);
	setenv("SYMM_REQUIRE_GPU", "1", 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	return true;
}

/* True if tests that only the fake driver can show may run; else so many are skipped. */
static inline bool fake_only(const char *name, int tests)
{
	if (faked())
		return true;
	tap_skip(tests, "%s: only the fake driver can show it", name);
	return false;
}

/* ---- the driver, in a rank ---- */

static const struct symm_cuda_api *cu;

/* A function of fake/control.h. */
static inline void *fake(const char *name)
{
	void *library = dlopen(getenv("SYMM_LIBCUDA"), RTLD_NOW | RTLD_LOCAL);

	return library != NULL ? dlsym(library, name) : NULL;
}

static inline struct symm_fake_counts fake_counts(void)
{
	void (*counts)(struct symm_fake_counts * counts);
	struct symm_fake_counts out;

	*(void **)&counts = fake("symm_fake_counts");
	counts(&out);
	return out;
}

static inline int fake_calls(const char *name)
{
	int (*calls)(const char *name);

	*(void **)&calls = fake("symm_fake_calls");
	return calls(name);
}

static inline void fake_fail(const char *failures)
{
	void (*fail)(const char *failures);

	*(void **)&fail = fake("symm_fake_fail");
	fail(failures);
}

/* Checks a call of the driver's in a rank's function. */
#define CU(call)                                                                                                       \
	do {                                                                                                           \
		enum symm_cuda_result result_ = (call);                                                                \
		if (result_ != SYMM_CUDA_SUCCESS)                                                                      \
			return tap_rank_failed(__FILE__, __LINE__, #call, ": CUDA error %d", (int)result_);            \
	} while (0)

/* A function of ours that has told already what went wrong. */
#define DO(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) != 0)                                                                                       \
			return 1;                                                                                      \
	} while (0)

/* The primary context of a device becomes current, and is held. */
static inline int driver_use(int ordinal, struct CUctx_st **context)
{
	CU(cu->cuDevicePrimaryCtxRetain(context, ordinal));
	CU(cu->cuCtxSetCurrent(*context));
	return 0;
}

/* Ranks take the devices by turns. */
static inline int driver_start(int rank, int *ordinal, struct CUctx_st **context)
{
	int count;

	GOOD(symm_cuda_load(&cu));
	CU(cu->cuDeviceGetCount(&count));
	*ordinal = rank % count;
	return driver_use(*ordinal, context);
}

static inline int driver_end(int ordinal)
{
	CU(cu->cuCtxSetCurrent(NULL));
	CU(cu->cuDevicePrimaryCtxRelease(ordinal));
	return 0;
}

/* ---- what a call may not change ---- */

struct current {
	struct CUctx_st *context;
	enum symm_cuda_capture_mode mode;
	int depth; /* of the thread's stack of contexts */
};

static inline int current_look(struct current *now)
{
	enum symm_cuda_capture_mode mode = SYMM_CUDA_STREAM_CAPTURE_MODE_RELAXED;
	int (*depth)(void);

	CU(cu->cuCtxGetCurrent(&now->context));
	CU(cu->cuThreadExchangeStreamCaptureMode(&mode));
	now->mode = mode;
	CU(cu->cuThreadExchangeStreamCaptureMode(&mode));
	*(void **)&depth = fake("symm_fake_context_depth");
	now->depth = depth != NULL ? depth() : 0;
	return 0;
}

static inline int current_same(const struct current *before, const char *call)
{
	struct current now;

	DO(current_look(&now));
	CHECK(now.context == before->context, "context %p was %p after %s", (void *)now.context,
	      (void *)before->context, call);
	CHECK(now.mode == before->mode, "mode %d was %d after %s", (int)now.mode, (int)before->mode, call);
	CHECK(now.depth == before->depth, "depth %d was %d after %s", now.depth, before->depth, call);
	return 0;
}

/* ---- the log ---- */

/* What is written to stderr from here to stderr_give is kept for it. */
static inline int stderr_take(int *saved)
{
	int log = memfd_create("log", MFD_CLOEXEC);

	CHECK(log >= 0 && (*saved = dup(2)) >= 0 && dup2(log, 2) == 2);
	return close(log);
}

static inline void stderr_give(int saved, char *text, size_t size)
{
	ssize_t n = pread(2, text, size - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	dup2(saved, 2);
	close(saved);
}

/* ---- streams ---- */

/* Keeps the stream busy until *flag is set. */
static inline int spin(struct CUstream_st *stream, uint32_t *flag)
{
	struct CUmod_st *module;
	struct CUfunc_st *function;
	void *params[] = { &flag };

	CU(cu->cuModuleLoadData(&module, symm_cuda_fatbin));
	CU(cu->cuModuleGetFunction(&function, module, "test_spin"));
	CU(cu->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL));
	CU(cu->cuModuleUnload(module));
	return 0;
}

/* A stream of the device after that one, whose context becomes current; NULL: there is no other device. */
static inline int foreign_begin(int ordinal, int *other, struct CUstream_st **stream)
{
	struct CUctx_st *context;
	int count;

	*stream = NULL;
	CU(cu->cuDeviceGetCount(&count));
	if (count == 1)
		return 0;
	*other = (ordinal + 1) % count;
	DO(driver_use(*other, &context));
	CU(cu->cuStreamCreate(stream, SYMM_CUDA_STREAM_NON_BLOCKING));
	return 0;
}

/* The context that was current before is so again. */
static inline int foreign_end(int other, struct CUstream_st *stream, struct CUctx_st *context)
{
	CU(cu->cuStreamDestroy(stream));
	DO(driver_end(other));
	CU(cu->cuCtxSetCurrent(context));
	return 0;
}

/* A graph of what is captured. */
static inline int graph_end(struct CUstream_st *stream, struct CUgraphExec_st **exec)
{
	struct CUgraph_st *graph;

	CU(cu->cuStreamEndCapture(stream, &graph));
	CU(cu->cuGraphInstantiateWithFlags(exec, graph, 0));
	CU(cu->cuGraphDestroy(graph));
	return 0;
}

#endif
