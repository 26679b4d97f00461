/* around.cc: what a kernel does, done by a thread of the CPU: a number goes round all ranks. Host device. */
#include <cstdio>
#include <cstdlib>
#include <symm/device.cuh>

static void check(int rc)
{
	if (rc == SYMM_OK)
		return;
	std::fprintf(stderr, "%s: %s\n", symm_strerror(rc), symm_last_error());
	std::exit(1);
}

/* On a GPU this is __global__, and its scope a block or a warp. Two places by turns: one is read, one written. */
static int pass_on(const symm_device_view &view, int turns, int *number)
{
	const int me = symm::rank(view), right = (me + 1) % symm::world_size(view), channel = 0;
	const uint64_t second = 1000000000;
	int rc = 0;

	for (int turn = 0; turn < turns && rc == 0; turn++) {
		symm::buffer<int>(view, right)[turn % 2] = *number;
		rc = symm::barrier(symm::thread_scope(), view, channel, second);
		if (rc == 0)
			*number = symm::buffer<int>(view, me)[turn % 2];
	}
	return rc;
}

int main()
{
	symm_context *context;
	symm_group *group;
	symm_mem *mem;
	symm_device_view view;
	void *ptr;
	int number;

	check(symm_open(NULL, &context));
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
	check(symm_alloc(group, 2 * sizeof(int), NULL, &ptr));
	check(symm_rendezvous(ptr, group, 0, &mem));
	check(symm_mem_device_view(mem, &view));

	number = 100 + view.rank;
	if (pass_on(view, view.world_size - 1, &number) != 0)
		check(symm_group_status(group)); /* who was waited for */
	std::printf("rank %d: %d has come\n", view.rank, number);

	check(symm_mem_release(mem));
	check(symm_free(ptr));
	check(symm_close(context));
	return 0;
}
