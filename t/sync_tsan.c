/* The algorithms of symm/kernel/sync.h with threads as ranks, over one plain array: ThreadSanitizer sees races here
 * that it cannot see between two mappings of one memory. */
#include "sync_cases.h"

static const struct scenario scenarios[] = {
	{ "barriers", case_barriers, 2, 100 },
	{ "barriers", case_barriers, 3, 30 },
	{ "barriers", case_barriers, 8, 10 },
	{ "ring", case_ring, 2, 100 },
	{ "ring", case_ring, 3, 30 },
	{ "ring", case_ring, 8, 10 },
	{ "ping-pong", case_ping_pong, 2, 20000 },
	{ "payloads", case_payloads, 2, 2000 },
	{ "published values", case_published, 2, 2000 },
	{ "crowd", case_crowd, 2, 1000 },
};

struct player {
	const struct scenario *scenario;
	const struct arena *arena;
	struct symm_sync *sync;
	pthread_t thread;
	int result;
};

static void *play(void *arg)
{
	struct player *player = arg;

	player->result = player->scenario->run(player->arena, player->sync);
	return NULL;
}

static void run(const struct scenario *scenario)
{
	size_t bytes = symm_sync_padded(arena_bytes(scenario->world));
	char *memory = aligned_alloc(64, bytes);
	struct arena arena = arena_in(memory, scenario->world, scenario->rounds);
	struct player *players = calloc(scenario->world, sizeof(*players));
	int failed = 0;

	for (size_t i = 0; i < bytes; i++)
		memory[i] = 0;
	for (uint32_t rank = 0; rank < scenario->world; rank++)
		players[rank] =
			(struct player){ .scenario = scenario, .arena = &arena, .sync = sync_new(&arena, rank) };
	for (uint32_t rank = 0; rank < scenario->world; rank++)
		if (pthread_create(&players[rank].thread, NULL, play, &players[rank]) != 0)
			tap_bail("no thread for rank %u", rank);
	for (uint32_t rank = 0; rank < scenario->world; rank++) {
		pthread_join(players[rank].thread, NULL);
		failed += players[rank].result != 0;
	}
	for (uint32_t rank = 0; rank < scenario->world; rank++)
		sync_free(players[rank].sync);
	is_int(failed, 0, "%s with %u ranks", scenario->name, scenario->world);
	free(players);
	free(memory);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
		run(&scenarios[i]);
	return tap_done();
}
