/* ring.c: a message goes round all ranks three times, by copies and signals on streams. Any device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <symm/symm.h>

enum { CHANNEL = 5, LAPS = 3, BYTES = 64 };

static void check(int rc)
{
	if (rc == SYMM_OK)
		return;
	fprintf(stderr, "%s: %s\n", symm_strerror(rc), symm_last_error());
	exit(1);
}

static void take(struct symm_mem *mem, int left, void *stream)
{
	check(symm_wait_signal_on_stream(mem, left, CHANNEL, 0, stream));
}

static void pass_on(struct symm_mem *mem, int right, void *stream)
{
	const void *mine = symm_mem_buffer(mem, symm_mem_rank(mem));

	check(symm_put_on_stream(mem, right, 0, mine, BYTES, stream));
	check(symm_put_signal_on_stream(mem, right, CHANNEL, 0, stream));
}

int main(void)
{
	char message[BYTES] = "once upon a time";
	struct symm_context *context;
	struct symm_group *group;
	struct symm_mem *mem;
	void *ptr, *stream;
	int rank, size;

	check(symm_open(NULL, &context));
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
	check(symm_alloc(group, BYTES, NULL, &ptr));
	check(symm_rendezvous(ptr, group, 0, &mem));
	check(symm_stream_create(context, &stream));
	rank = symm_mem_rank(mem);
	size = symm_mem_world_size(mem);

	if (rank == 0)
		check(symm_put(mem, 0, 0, message, BYTES));
	for (int lap = 0; lap < LAPS; lap++) { /* only enqueues: nobody has waited yet */
		if (rank != 0)
			take(mem, (rank + size - 1) % size, stream);
		pass_on(mem, (rank + 1) % size, stream);
		if (rank == 0)
			take(mem, (rank + size - 1) % size, stream);
	}
	check(symm_stream_synchronize(stream, 0));
	check(symm_group_status(group)); /* did all of that succeed? */

	memset(message, 0, BYTES);
	check(symm_get(mem, rank, 0, message, BYTES));
	printf("rank %d: %s\n", rank, message);

	check(symm_stream_destroy(stream));
	check(symm_mem_release(mem));
	check(symm_free(ptr));
	check(symm_close(context));
	return 0;
}
