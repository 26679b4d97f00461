/* Waiters of which one listens for all, as on a GPU (symm_sync_news): the period of the clock in which somebody has
 * listened is number 0 and never ends, unless a test says that it was another. */
#define SYMM_WAIT_LISTEN_BITS 63
#include "sync_cases.h"

#include <unistd.h>

#define MS UINT64_C(1000000)
#define WORLD 3
#define WAITERS 6
#define DEATHS 30

static struct arena arena;

static struct symm_sync *rank_new(void)
{
	memset(arena.slots, 0, arena_bytes(WORLD));
	return sync_new(&arena, 0);
}

static void nap(int ms)
{
	usleep((useconds_t)ms * 1000);
}

/* As the host does, but for the news. */
static void set_gone(struct symm_sync *s, uint32_t rank)
{
	symm_flag_publish(symm_sync_gone_at(s->group->mirror, rank), SYMM_GONE_DIED);
}

static void set_abort(struct symm_sync *s, uint32_t code)
{
	symm_flag_publish(&s->group->mirror->abort, code);
}

/* The next waiter that asks is to listen. */
static void end_period(struct symm_sync *s)
{
	symm_flag_publish(&s->group->listened, 2);
}

/* Whatever the clock says: nobody has listened yet, or somebody long ago, or one whose clock was far ahead. */
static void test_periods(void)
{
	static const uint32_t turns[][2] = { { 0, 1 },          { 0, 0x7fffffff }, { 0, 0x80000000 }, { 0, 0xfffffffe },
					     { 0xffffffff, 0 }, { 5, 0x80000005 }, { 5, 0xf0000000 }, { 5, 3 } };

	for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
		struct symm_sync_group group = { .listened = turns[i][0] };

		ok(symm_sync_listens(&group, turns[i][1]), "after period %#x one listens in %#x", turns[i][0],
		   turns[i][1]);
		ok(!symm_sync_listens(&group, turns[i][1]), "and no other");
		ok(!symm_sync_listens(&group, turns[i][1] - 1), "nor one that is late");
		is_int(group.listened, turns[i][1], "which is the last period then");
	}
}

static void test_news(void)
{
	struct symm_sync *s = rank_new();
	struct symm_sync_group *group = s->group;

	symm_flag_bump(&group->mirror->news);
	is_int(symm_sync_news(group), 0, "news that nobody has listened to are unknown");
	end_period(s);
	is_int(symm_sync_news(group), 1, "one listens");
	is_int(symm_sync_news(group), 1, "and all know");
	symm_flag_bump(&group->mirror->news);
	is_int(symm_sync_news(group), 1, "for a period");
	group->news = 0;
	end_period(s);
	is_int(symm_sync_news(group), 2, "who listens heeds nobody who was slow to tell");
	is_int(group->news, 2, "and tells better");
	sync_free(s);
}

/* A wait looks at what the host has changed if it knows of news, and only then. */
static void test_knows(bool abort, bool listens, bool told)
{
	struct symm_sync *s = rank_new();
	int code = abort ? -10 : SYMM_SYNC_GONE;

	if (abort)
		set_abort(s, 10);
	else
		set_gone(s, 1);
	symm_flag_bump(&s->group->mirror->news);
	if (listens)
		end_period(s);
	if (told)
		symm_flag_publish(&s->group->news, 1);
	is_int(wait_signal(s, 1, 9, listens || told ? PATIENCE : 20 * MS), listens || told ? code : SYMM_SYNC_TIMEDOUT,
	       "%s; a wait that %s", abort ? "the host has failed the group" : "the peer is gone",
	       listens ? "listens" : (told ? "is told" : "does neither"));
	sync_free(s);
}

/* What a wait has found it finds again, and what it has not, it looks for with the next news. */
static void test_finds_again(bool abort)
{
	struct symm_sync *s = rank_new();
	struct symm_sync_place at = place_of(s);
	struct symm_sync_call c = symm_sync_call_of(&at, SYMM_SYNC_WAIT_SIGNAL, 1, 0, PATIENCE, 1, 2);
	int code = abort ? -10 : SYMM_SYNC_GONE;
	uint32_t blame, heard = 0;

	c.want = symm_sync_word(&c, EPOCH0 + 1);
	set_gone(s, 2);
	symm_flag_publish(&s->group->news, 1);
	is_int(symm_sync_broken(&c, &blame), 0, "the death of another does not end a wait");
	is_int(symm_sync_lost(&at, 1, &heard), 0, "nor a user's");
	if (abort)
		set_abort(s, 10);
	else
		set_gone(s, 1);
	is_int(symm_sync_broken(&c, &blame), 0, "and needs no second look");
	is_int(symm_sync_lost(&at, 1, &heard), 0, "nor does a user's wait");
	symm_flag_publish(&s->group->news, 2);
	for (int look = 1; look <= 2; look++)
		is_int(symm_sync_lost(&at, 1, &heard), code, "the next news end the user's: look %d", look);
	for (int look = 1; look <= 2; look++)
		is_int(symm_sync_broken(&c, &blame), code, "and the other: look %d", look);
	sync_free(s);
}

/* ---- many waiters ---- */

struct waiter {
	struct symm_sync *s;
	uint32_t channel;
	int code;
	pthread_t thread;
};

static void *waiter_run(void *arg)
{
	struct waiter *waiter = arg;

	if (waiter->channel == 0)
		waiter->code = barrier(waiter->s, 0, PATIENCE);
	else
		waiter->code = wait_signal(waiter->s, 1, waiter->channel, PATIENCE);
	return NULL;
}

static void waiters_start(struct waiter *waiter, struct symm_sync *s)
{
	for (uint32_t i = 0; i < WAITERS; i++) {
		waiter[i] = (struct waiter){ .s = s, .channel = i };
		if (pthread_create(&waiter[i].thread, NULL, waiter_run, &waiter[i]) != 0)
			tap_bail("no thread");
	}
}

/* All end, though one listens. */
static int die(int pause_ms)
{
	struct symm_sync *s = rank_new();
	struct waiter waiter[WAITERS];
	int others = 0;

	waiters_start(waiter, s);
	nap(pause_ms);
	set_gone(s, 1);
	symm_flag_bump(&s->group->mirror->news);
	end_period(s);
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(waiter[i].thread, NULL);
		others += waiter[i].code != SYMM_SYNC_GONE;
	}
	others += s->group->mirror->record.peer != 1;
	sync_free(s);
	return others;
}

static void test_many(void)
{
	int others = 0;

	for (int i = 0; i < DEATHS; i++)
		others += die(i % 3);
	is_int(others, 0, "%d waiters learn of a death from the one that listens, %d times", WAITERS, DEATHS);
}

int main(void)
{
	size_t bytes = symm_sync_padded(arena_bytes(WORLD));
	char *memory = aligned_alloc(64, bytes);

	arena = arena_in(memory, WORLD, 0);
	test_periods();
	test_news();
	for (int abort = 0; abort <= 1; abort++) {
		test_knows(abort, false, false);
		test_knows(abort, true, false);
		test_knows(abort, false, true);
		test_finds_again(abort);
	}
	test_many();
	free(memory);
	return tap_done();
}
