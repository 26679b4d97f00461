/* fake_help.h: what the tests of the fake driver begin with: its functions, a context on GPU 0, the kernels. */
#ifndef FAKE_HELP_H
#define FAKE_HELP_H

#include "device/cuda_api.h"
#include "error.h"
#include "t/fake/control.h"
#include "tap.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define GRANULE (2 * MIB)
#define READWRITE SYMM_CUDA_MEM_ACCESS_FLAGS_PROT_READWRITE

typedef unsigned long long address;

static const struct symm_cuda_api *cuda;
static struct CUctx_st *context;
static struct CUmod_st *module;
static struct CUfunc_st *fill64, *expect64, *spin;
static void (*get_counts)(struct symm_fake_counts *counts);
static int (*get_calls)(const char *name);
static int (*get_depth)(void);
static void (*set_failures)(const char *failures);

#define CUDA(call) CHECK((call) == SYMM_CUDA_SUCCESS, #call)
#define REFUSED(call, code) CHECK((int)(call) == (code), #call)

/* What the functions below are run with: variables "A=1 B=2". */
static inline void set_variables(const char *variables)
{
	char text[256], *rest = text, *word;

	snprintf(text, sizeof(text), "%s", variables);
	while ((word = strsep(&rest, " ")) != NULL)
		putenv(strdup(word));
}

static inline void find_control(void)
{
	void *library = dlopen(getenv("SYMM_LIBCUDA"), RTLD_NOW | RTLD_NOLOAD);

	*(void **)&get_counts = dlsym(library, "symm_fake_counts");
	*(void **)&get_calls = dlsym(library, "symm_fake_calls");
	*(void **)&get_depth = dlsym(library, "symm_fake_context_depth");
	*(void **)&set_failures = dlsym(library, "symm_fake_fail");
}

/* A context on GPU 0, and the kernels. */
static inline int begin(const char *variables)
{
	static const char image[64] = "NOKERNEL";

	set_variables(variables);
	CHECK(symm_cuda_load(&cuda) == SYMM_OK, "%s", symm_last_error());
	find_control();
	CUDA(cuda->cuDevicePrimaryCtxRetain(&context, 0));
	CUDA(cuda->cuCtxPushCurrent(context));
	CUDA(cuda->cuModuleLoadData(&module, image));
	CUDA(cuda->cuModuleGetFunction(&fill64, module, "test_fill64"));
	CUDA(cuda->cuModuleGetFunction(&expect64, module, "test_expect64"));
	CUDA(cuda->cuModuleGetFunction(&spin, module, "test_spin"));
	return 0;
}

static inline int finish(void)
{
	struct CUctx_st *popped;

	CUDA(cuda->cuModuleUnload(module));
	CUDA(cuda->cuCtxPopCurrent(&popped));
	CHECK(popped == context);
	CUDA(cuda->cuDevicePrimaryCtxRelease(0));
	return 0;
}

#define BEGIN(variables)                                                                                               \
	(void)rank, (void)arg;                                                                                         \
	if (begin(variables) != 0)                                                                                     \
	return 1

static const struct symm_cuda_prop gpu0 = {
	.type = SYMM_CUDA_MEM_ALLOCATION_TYPE_PINNED,
	.requestedHandleTypes = SYMM_CUDA_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	.location = { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, 0 },
};

static inline int map(address handle, size_t bytes, address *at)
{
	struct symm_cuda_access access = { { SYMM_CUDA_MEM_LOCATION_TYPE_DEVICE, 0 }, READWRITE };

	CUDA(cuda->cuMemAddressReserve(at, bytes, 0, 0, 0));
	CUDA(cuda->cuMemMap(*at, bytes, 0, handle, 0));
	CUDA(cuda->cuMemSetAccess(*at, bytes, &access, 1));
	return 0;
}

static inline int unmap(address at, size_t bytes)
{
	CUDA(cuda->cuMemUnmap(at, bytes));
	CUDA(cuda->cuMemAddressFree(at, bytes));
	return 0;
}

static inline int launch(struct CUfunc_st *function, struct CUstream_st *stream, void **params)
{
	return cuda->cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params, NULL) != SYMM_CUDA_SUCCESS;
}

static inline int fill(struct CUstream_st *stream, address to, uint64_t value, uint64_t n)
{
	void *params[] = { &to, &value, &n };

	return launch(fill64, stream, params);
}

static inline int expect(struct CUstream_st *stream, address from, uint64_t value, uint64_t n, uint32_t *errors)
{
	void *params[] = { &from, &value, &n, &errors };

	return launch(expect64, stream, params);
}

static inline int spin_until(struct CUstream_st *stream, uint32_t *flag)
{
	void *params[] = { &flag };

	return launch(spin, stream, params);
}

/* In main. */
static inline void use_fake(void)
{
	const char *folder = getenv("top_builddir");
	char path[4096];

	snprintf(path, sizeof(path), "%s/t/fake/libcuda.so.1", folder != NULL ? folder : ".");
	setenv("SYMM_LIBCUDA", path, 1);
}

#endif
