/* halo.c: heat in a rod. Each rank has a part of it, and a cell of each neighbour's beside that. Host device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <symm/symm.h>

enum { CELLS = 64, STEPS = 500, CHANNEL = 0, MAX_RANKS = 64 };

/* In two copies: a step reads one and writes the other, so that a neighbour who is a step ahead disturbs nobody. */
struct part {
	double cell[2][CELLS + 2];
};

static void check(int rc)
{
	if (rc == SYMM_OK)
		return;
	fprintf(stderr, "%s: %s\n", symm_strerror(rc), symm_last_error());
	exit(1);
}

static void step(const double *from, double *to, int cells)
{
	for (int i = 1; i <= cells; i++)
		to[i] = from[i] + 0.25 * (from[i - 1] - 2 * from[i] + from[i + 1]);
}

/* Puts my first and last cell beside those of my neighbours, and waits until theirs are beside mine. */
static void exchange(struct symm_mem *mem, int now)
{
	int rank = symm_mem_rank(mem), size = symm_mem_world_size(mem);
	const double *mine = ((struct part *)symm_mem_buffer(mem, rank))->cell[now];

	if (rank > 0)
		((struct part *)symm_mem_buffer(mem, rank - 1))->cell[now][CELLS + 1] = mine[1];
	if (rank < size - 1)
		((struct part *)symm_mem_buffer(mem, rank + 1))->cell[now][0] = mine[CELLS];
	for (int peer = rank - 1; peer <= rank + 1; peer += 2)
		if (peer >= 0 && peer < size)
			check(symm_put_signal(mem, peer, CHANNEL, 0)); /* publishes what I wrote */
	for (int peer = rank - 1; peer <= rank + 1; peer += 2)
		if (peer >= 0 && peer < size)
			check(symm_wait_signal(mem, peer, CHANNEL, 0));
}

/* The whole rod by one rank: how many cells of my part differ from it. */
static int verify(const double *mine, int rank, int size)
{
	static double rod[2][MAX_RANKS * CELLS + 2];
	int wrong = 0;

	rod[0][1] = 1000;
	for (int t = 0; t < STEPS; t++)
		step(rod[t % 2], rod[(t + 1) % 2], size * CELLS);
	for (int i = 1; i <= CELLS; i++)
		wrong += mine[i] != rod[STEPS % 2][rank * CELLS + i];
	return wrong;
}

int main(void)
{
	struct symm_context *context;
	struct symm_group *group;
	struct symm_mem *mem;
	struct part *mine;
	int rank, size, wrong;
	void *ptr;

	check(symm_open(NULL, &context));
	check(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
	check(symm_alloc(group, sizeof(struct part), NULL, &ptr)); /* zero: cold */
	check(symm_rendezvous(ptr, group, 0, &mem));
	rank = symm_mem_rank(mem);
	size = symm_mem_world_size(mem);
	mine = ptr;
	if (size > MAX_RANKS)
		return 2;

	if (rank == 0)
		mine->cell[0][1] = 1000;
	for (int t = 0; t < STEPS; t++) {
		exchange(mem, t % 2);
		step(mine->cell[t % 2], mine->cell[(t + 1) % 2], CELLS);
	}
	wrong = verify(mine->cell[STEPS % 2], rank, size);
	printf("rank %d: %d cells are wrong\n", rank, wrong);

	check(symm_mem_release(mem));
	check(symm_free(ptr));
	check(symm_close(context));
	return wrong != 0;
}
