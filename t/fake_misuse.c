/* The fake driver: what it does not let pass. Who breaks a rule of the driver's is told so and aborted. */
#include "fake_help.h"
#include "symm/kernel/layout.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int odd_size(void)
{
	address handle;

	return (int)cuda->cuMemCreate(&handle, 4096, &gpu0, 0);
}

static int released_twice(void)
{
	address handle;

	cuda->cuMemCreate(&handle, GRANULE, &gpu0, 0);
	cuda->cuMemRelease(handle);
	return (int)cuda->cuMemRelease(handle);
}

static int mapped(size_t bytes, address *at)
{
	address handle;

	return cuda->cuMemCreate(&handle, bytes, &gpu0, 0) != 0 || map(handle, bytes, at) != 0 ||
	       cuda->cuMemRelease(handle) != 0;
}

static int unmapped_in_part(void)
{
	address at;

	return mapped(2 * GRANULE, &at) || (int)cuda->cuMemUnmap(at, GRANULE);
}

static int freed_while_mapped(void)
{
	address at;

	return mapped(GRANULE, &at) || (int)cuda->cuMemAddressFree(at, GRANULE);
}

static int unmapped_in_use(void)
{
	uint32_t *flag;
	address at;

	if (mapped(GRANULE, &at) || cuda->cuMemHostAlloc((void **)&flag, 4, 2) != 0)
		return 1;
	*flag = 0;
	if (spin_until(NULL, flag) || fill(NULL, at, 0, 1))
		return 1;
	return (int)cuda->cuMemUnmap(at, GRANULE);
}

static int no_access(void)
{
	address handle, at;

	cuda->cuMemCreate(&handle, GRANULE, &gpu0, 0);
	cuda->cuMemAddressReserve(&at, GRANULE, 0, 0, 0);
	cuda->cuMemMap(at, GRANULE, 0, handle, 0);
	return fill(NULL, at, 0, 1) != 0 || cuda->cuCtxSynchronize() != 0;
}

static int foreign_memory(void)
{
	uint64_t word;

	return fill(NULL, (uintptr_t)&word, 0, 1) != 0 || cuda->cuCtxSynchronize() != 0;
}

static int leak(void)
{
	address at;

	return mapped(GRANULE, &at) || (int)cuda->cuDevicePrimaryCtxRelease(0);
}

static int released_too_often(void)
{
	return (int)cuda->cuDevicePrimaryCtxRelease(1);
}

/* As BEGIN has left it. */
static int released_while_pushed(void)
{
	return (int)cuda->cuModuleUnload(module) || (int)cuda->cuDevicePrimaryCtxRelease(0);
}

static int many_blocks(void)
{
	struct symm_sync_args args = { .counted = 0 };
	void *params[] = { &args };
	struct CUfunc_st *function;

	cuda->cuModuleGetFunction(&function, module, "symm_kernel_count");
	return (int)cuda->cuLaunchKernel(function, 2, 1, 1, 1, 1, 1, 0, NULL, params, NULL);
}

static const struct misuse {
	const char *name;
	int (*run)(void);
	const char *said;
} misuses[] = {
	{ "a size that is not granular", odd_size, "multiple of the granularity" },
	{ "a handle released twice", released_twice, "released before" },
	{ "half a mapping unmapped", unmapped_in_part, "is not what was mapped" },
	{ "addresses freed with memory there", freed_while_mapped, "still mapped" },
	{ "memory unmapped under a kernel", unmapped_in_use, "unmapped under running work (test_fill64)" },
	{ "memory used without access", no_access, "GPU 0 has no access" },
	{ "a kernel that uses the host's own memory", foreign_memory, "does not know" },
	{ "things left in a released context", leak, "not given back: 1 memory handles 1 mappings 1 reservations" },
	{ "a context released too often", released_too_often, "more often than retained" },
	{ "a context released and not popped", released_while_pushed, "pushed 1 times more than popped" },
	{ "the library's kernel in two blocks", many_blocks, "in 2 blocks" },
};

static void test_misuse(const struct misuse *misuse)
{
	char said[1024] = "";
	int end[2], status;
	ssize_t n, all = 0;
	pid_t pid;

	if (pipe(end) != 0)
		tap_bail("pipe");
	pid = fork();
	if (pid == 0) {
		dup2(end[1], 2);
		close(end[0]);
		close(end[1]);
		_exit(begin("SYMM_FAKE_DEVICES=2") != 0 ? 1 : misuse->run() != 0);
	}
	close(end[1]);
	while (all < 1000 && (n = read(end[0], said + all, 1000 - (size_t)all)) > 0)
		all += n;
	close(end[0]);
	status = tap_wait(pid, 20);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: aborts", misuse->name);
	has_str(said, misuse->said, "%s: told", misuse->name);
}

int main(void)
{
	use_fake();
	for (size_t i = 0; i < sizeof(misuses) / sizeof(misuses[0]); i++)
		test_misuse(&misuses[i]);
	return tap_done();
}
