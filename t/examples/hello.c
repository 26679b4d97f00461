/* hello.c: every rank writes its number into its right neighbour's block. Host device. */
#include <stdio.h>
#include <stdlib.h>
#include <symm/symm.h>

static void check(int rc)
{
	if (rc == SYMM_OK)
		return;
	fprintf(stderr, "%s: %s\n", symm_strerror(rc), symm_last_error());
	exit(1);
}

int main(void)
{
	struct symm_context *context;
	struct symm_group *group;
	struct symm_mem *mem;
	int *mine, *right, rank, size;
	void *ptr;

	check(symm_open(NULL, &context)); /* who am I, where is Redis: the environment */
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
	check(symm_alloc(group, 4096, NULL, &ptr));
	check(symm_rendezvous(ptr, group, 0, &mem));

	rank = symm_mem_rank(mem);
	size = symm_mem_world_size(mem);
	right = symm_mem_buffer(mem, (rank + 1) % size);
	mine = ptr;

	right[0] = rank;
	check(symm_barrier(mem, 0, 0));
	printf("rank %d of %d: my left neighbour is %d\n", rank, size, mine[0]);

	check(symm_mem_release(mem));
	check(symm_free(ptr));
	check(symm_close(context)); /* leaves the group */
	return 0;
}
