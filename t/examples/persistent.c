/* persistent.c: a block freed and allocated again is the same one, and needs no second rendezvous. Host device. */
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

/* One round of work, as a function of a library may do it at each call. */
static void *work(struct symm_group *group, long *rounds)
{
	struct symm_alloc_options options = SYMM_ALLOC_OPTIONS_INIT;
	struct symm_mem *mem;
	void *ptr, *second;

	options.persistent = 1;
	options.alloc_id = 7;
	check(symm_alloc(group, sizeof(long), &options, &ptr));
	if (symm_alloc(group, sizeof(long), &options, &second) != SYMM_EBUSY) {
		fprintf(stderr, "one alloc_id was active twice\n");
		exit(1);
	}
	check(symm_rendezvous(ptr, group, 0, &mem)); /* collective the first time, then a look-up */
	*rounds = ++*(long *)ptr;
	check(symm_mem_release(mem));
	check(symm_free(ptr)); /* ends its use; the block stays cached */
	return ptr;
}

int main(void)
{
	struct symm_context *context;
	struct symm_group *group;
	void *first, *later;
	long rounds;

	check(symm_open(NULL, &context));
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
	first = work(group, &rounds);
	for (int i = 0; i < 9; i++) {
		later = work(group, &rounds);
		if (later != first)
			return 1;
	}
	printf("rank %d: %ld rounds in one block\n", symm_group_rank(group), rounds);
	check(symm_close(context)); /* now it goes */
	return 0;
}
