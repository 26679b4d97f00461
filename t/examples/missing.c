/* missing.c: the last rank comes late, the others time out and learn who it was, and all start anew. Host device. */
#include <stdio.h>
#include <stdlib.h>
#include <symm/symm.h>
#include <unistd.h>

struct place {
	struct symm_group *group;
	struct symm_mem *mem;
	void *ptr;
};

static void check(int rc)
{
	if (rc == SYMM_OK)
		return;
	fprintf(stderr, "%s: %s\n", symm_strerror(rc), symm_last_error());
	exit(1);
}

static void enter(struct symm_context *context, struct place *place)
{
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &place->group));
	check(symm_alloc(place->group, 4096, NULL, &place->ptr));
	check(symm_rendezvous(place->ptr, place->group, 0, &place->mem));
}

static void leave(struct place *place)
{
	check(symm_mem_release(place->mem));
	check(symm_free(place->ptr));
	check(symm_group_leave(place->group));
}

int main(void)
{
	struct symm_context *context;
	struct place place;
	int rank, rc;

	check(symm_open(NULL, &context));
	enter(context, &place);
	rank = symm_mem_rank(place.mem);

	if (rank == symm_mem_world_size(place.mem) - 1)
		sleep(1); /* lost in thought */
	rc = symm_barrier(place.mem, 0, 300);
	printf("rank %d: %s\n", rank, symm_last_error());
	if (rc != SYMM_ETIMEDOUT && rc != SYMM_EPEER)
		return 1;

	leave(&place); /* the group has failed, on every rank */
	enter(context, &place);
	check(symm_barrier(place.mem, 0, 0));
	printf("rank %d: all are there again\n", rank);
	leave(&place);
	check(symm_close(context));
	return 0;
}
