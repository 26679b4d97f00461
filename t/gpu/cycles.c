/* cycles.c: that memory comes and goes without a trace: many cycles of alloc, rendezvous and free, before and after
 * which free device memory, open files and the address space are compared; and one large block.
 *
 * usage: cycles [COUNT [MIB]]        (1000 cycles of 4 MiB, one block of 16384 MiB)
 */
#include "gpu.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>

enum { WARM_UP = 20, CYCLE_BYTES = 4 << 20, PAGE = 2 << 20 };
/* What the C library and the driver may have cached meanwhile. A mapping or reservation lost a cycle is far more. */
enum { LINES_MORE = 24, MIB_MORE = 256 };

struct sizes {
	int count;
	size_t mib;
};

struct traces {
	size_t free;
	int fds, lines;
	uint64_t mapped; /* bytes of address space */
};

static int count_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int n = 0;

	while (folder != NULL && readdir(folder) != NULL)
		n++;
	if (folder != NULL)
		closedir(folder);
	return n;
}

static int look(const struct gpu *gpu, struct traces *traces)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t from, to;
	char line[512];
	size_t total;

	CHECK(maps != NULL);
	*traces = (struct traces){ .fds = count_fds() };
	while (fgets(line, sizeof(line), maps) != NULL) {
		traces->lines++;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2)
			traces->mapped += to - from;
	}
	fclose(maps);
	gpu_rally(gpu);
	CU(gpu->cu->cuMemGetInfo(&traces->free, &total));
	gpu_rally(gpu);
	return 0;
}

static int cycle(struct gpu *gpu)
{
	struct symm_mem *mem;
	void *ptr;

	GOOD(rig_memory(&gpu->rig, CYCLE_BYTES, &ptr, &mem));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	return 0;
}

static int cycles(struct gpu *gpu, int count)
{
	for (int i = 0; i < count; i++)
		DO(cycle(gpu));
	gpu_rally(gpu);
	return 0;
}

static int compare(const struct gpu *gpu, const struct traces *before, const struct traces *after)
{
	int64_t mib = ((int64_t)after->mapped - (int64_t)before->mapped) >> 20;

	if (gpu->rank == 0) {
		gpu_figure("cycles.free_before", (double)before->free, "bytes");
		gpu_figure("cycles.free_after", (double)after->free, "bytes");
		gpu_figure("cycles.fds_more", after->fds - before->fds, "fds");
		gpu_figure("cycles.maps_more", after->lines - before->lines, "lines");
		gpu_figure("cycles.mapped_more", (double)mib, "MiB");
	}
	CHECK(after->free == before->free, "%zu bytes of device memory are free, %zu were", after->free, before->free);
	CHECK(after->fds == before->fds, "%d files are open, %d were", after->fds, before->fds);
	CHECK(after->lines <= before->lines + LINES_MORE, "%d mappings, there were %d", after->lines, before->lines);
	CHECK(mib <= MIB_MORE, "%" PRId64 " MiB more of address space", mib);
	return 0;
}

static int run_cycles(struct gpu *gpu)
{
	const struct sizes *sizes = gpu->arg;
	struct traces before, after;
	double start;

	GOOD(rig_join(&gpu->rig, gpu->rank));
	DO(cycles(gpu, WARM_UP));
	DO(look(gpu, &before));
	start = gpu_seconds();
	DO(cycles(gpu, sizes->count));
	if (gpu->rank == 0) {
		gpu_figure("cycles.count", sizes->count, "cycles");
		gpu_figure("cycles.each", (gpu_seconds() - start) * 1e3 / sizes->count, "ms");
	}
	DO(look(gpu, &after));
	DO(compare(gpu, &before, &after));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

/* ---- a large block ---- */

/* Fills a page of a peer's block with a number of that place. */
static int fill(const struct gpu *gpu, struct symm_mem *mem, int peer, size_t offset)
{
	uint64_t *page = (uint64_t *)((char *)symm_mem_buffer(mem, peer) + offset);
	uint64_t value = (uint64_t)peer << 56 | offset | 1, n = PAGE / sizeof(value);
	struct CUfunc_st *kernel;
	void *params[] = { &page, &value, &n };

	DO(gpu_kernel(gpu, "test_fill64", &kernel));
	DO(gpu_launch(gpu, kernel, 1, 256, params, NULL));
	CU(gpu->cu->cuStreamSynchronize(NULL));
	return 0;
}

static int check(const struct gpu *gpu, struct symm_mem *mem, size_t offset)
{
	static uint64_t words[PAGE / sizeof(uint64_t)];
	uint64_t value = (uint64_t)gpu->rank << 56 | offset | 1;

	CU(gpu->cu->cuMemcpyDtoH(words, gpu_address(symm_mem_buffer(mem, gpu->rank)) + offset, PAGE));
	for (size_t i = 0; i < PAGE / sizeof(words[0]); i++)
		CHECK(words[i] == value, "at %zu + 8 x %zu is %" PRIx64 ", not %" PRIx64, offset, i, words[i], value);
	return 0;
}

static int run_large(struct gpu *gpu)
{
	const struct sizes *sizes = gpu->arg;
	size_t bytes = sizes->mib << 20;
	int peer = (gpu->rank + 1) % gpu->world;
	struct symm_mem *mem;
	double start, rendezvous;
	void *ptr;

	GOOD(rig_join(&gpu->rig, gpu->rank));
	start = gpu_seconds();
	GOOD(symm_alloc(gpu->rig.group, bytes, NULL, &ptr));
	rendezvous = gpu_seconds();
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	if (gpu->rank == 0) {
		gpu_figure("large.size", (double)sizes->mib, "MiB");
		gpu_figure("large.alloc", (rendezvous - start) * 1e3, "ms");
		gpu_figure("large.rendezvous", (gpu_seconds() - rendezvous) * 1e3, "ms");
	}
	DO(fill(gpu, mem, peer, 0));
	DO(fill(gpu, mem, peer, bytes - PAGE));
	GOOD(symm_barrier(mem, 0, 0));
	DO(check(gpu, mem, 0));
	DO(check(gpu, mem, bytes - PAGE));
	GOOD(symm_mem_release(mem));
	GOOD(symm_free(ptr));
	GOOD(symm_close(gpu->rig.context));
	return 0;
}

static int both(struct gpu *gpu)
{
	DO(run_cycles(gpu));
	return run_large(gpu);
}

int main(int argc, char **argv)
{
	struct sizes sizes = { 1000, 16384 };

	if (argc > 1)
		sizes.count = atoi(argv[1]);
	if (argc > 2)
		sizes.mib = (size_t)atol(argv[2]);
	return gpu_main("cycles and a large block", both, &sizes, 400);
}
