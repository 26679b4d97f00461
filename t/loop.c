#include "base.h"
#include "error.h"
#include "loop.h"
#include "tap.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, POSTS = 20000 };

/* ---- order of posting, from several threads ---- */

struct poster {
	struct symm_loop *loop;
	struct item {
		struct symm_task task;
		struct poster *poster;
		int number;
	} * items;
	int ran;
	bool in_order;
};

static void item_run(void *arg)
{
	struct item *item = arg;

	if (item->number != item->poster->ran || !symm_loop_here(item->poster->loop))
		item->poster->in_order = false;
	item->poster->ran++;
}

static void *post_all(void *arg)
{
	struct poster *poster = arg;

	for (int i = 0; i < POSTS; i++) {
		poster->items[i] =
			(struct item){ .task = { .fn = item_run, .arg = &poster->items[i] }, .poster = poster };
		poster->items[i].number = i;
		symm_loop_post(poster->loop, &poster->items[i].task);
	}
	return NULL;
}

static void test_order(void)
{
	struct poster posters[THREADS];
	pthread_t threads[THREADS];
	struct symm_loop *loop;

	if (!is_int(symm_loop_get(&loop), SYMM_OK, "first get"))
		return;
	ok(!symm_loop_here(loop), "the caller is not the loop thread");
	for (int i = 0; i < THREADS; i++) {
		posters[i] = (struct poster){ .loop = loop, .in_order = true };
		posters[i].items = calloc(POSTS, sizeof(*posters[i].items));
		pthread_create(&threads[i], NULL, post_all, &posters[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	symm_loop_put(loop);
	for (int i = 0; i < THREADS; i++) {
		is_int(posters[i].ran, POSTS, "the last put runs all that was posted, thread %d", i);
		ok(posters[i].in_order, "in order and on the loop thread, thread %d", i);
		free(posters[i].items);
	}
}

/* ---- calls ---- */

struct inside {
	struct symm_loop *loop;
	bool here, nested;
	int blocked;
};

static void nested(void *arg)
{
	((struct inside *)arg)->nested = true;
}

static void look(void *arg)
{
	struct inside *inside = arg;
	sigset_t now;

	inside->here = symm_loop_here(inside->loop);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	inside->blocked = sigismember(&now, SIGPIPE) && sigismember(&now, SIGTERM) && sigismember(&now, SIGCHLD);
	symm_loop_call(inside->loop, nested, inside);
}

static void test_call(void)
{
	struct symm_loop *loop, *same;
	struct inside inside = { 0 };
	sigset_t now;

	symm_loop_get(&loop);
	symm_loop_get(&same);
	ok(loop == same, "one loop for the process");
	symm_loop_put(same);
	inside.loop = loop;
	symm_loop_call(loop, look, &inside);
	ok(inside.here, "a call runs on the loop thread");
	ok(inside.nested, "a call within a call runs at once");
	ok(inside.blocked, "the loop thread has signals blocked");
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	ok(!sigismember(&now, SIGTERM), "the caller has not");
	symm_loop_put(loop);
}

static void test_again(void)
{
	struct inside inside;
	int good = 0;

	for (int i = 0; i < 50; i++) {
		inside = (struct inside){ 0 };
		if (symm_loop_get(&inside.loop) != SYMM_OK)
			continue;
		symm_loop_call(inside.loop, look, &inside);
		symm_loop_put(inside.loop);
		good += inside.here;
	}
	is_int(good, 50, "a get after the last put starts anew, 50 times");
}

static void *get_and_put(void *arg)
{
	int *bad = arg;

	for (int i = 0; i < 200; i++) {
		struct inside inside = { 0 };

		if (symm_loop_get(&inside.loop) != SYMM_OK) {
			++*bad;
			continue;
		}
		symm_loop_call(inside.loop, look, &inside);
		*bad += !inside.here;
		symm_loop_put(inside.loop);
	}
	return NULL;
}

static void test_race(void)
{
	pthread_t threads[THREADS];
	int bad[THREADS] = { 0 };

	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, get_and_put, &bad[i]);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		is_int(bad[i], 0, "first and last uses raced by %d threads, thread %d", THREADS, i);
	}
}

/* ---- done ---- */

static void *set_later(void *arg)
{
	symm_sleep(20 * SYMM_NS_PER_MS, INT64_MAX);
	symm_done_set(arg);
	return NULL;
}

static void test_done(void)
{
	struct symm_done done;
	pthread_t thread;
	int64_t start = symm_now();

	symm_done_init(&done);
	ok(!symm_done_wait(&done, start + 10 * SYMM_NS_PER_MS), "not done at the deadline");
	ok(symm_now() >= start + 10 * SYMM_NS_PER_MS, "and not before it");
	ok(!symm_done_wait(&done, 0), "a deadline long past returns at once");
	pthread_create(&thread, NULL, set_later, &done);
	ok(symm_done_wait(&done, INT64_MAX), "done without a deadline");
	ok(symm_done_wait(&done, 0), "done stays done");
	pthread_join(thread, NULL);
}

/* ---- exit with the loop running ---- */

static void repeat(void *arg)
{
	struct item *item = arg;

	symm_sleep(SYMM_NS_PER_MS / 10, INT64_MAX);
	symm_loop_post(item->poster->loop, &item->task);
}

static void test_exit(void)
{
	int bad = 0;

	for (int i = 0; i < 20; i++) {
		static struct poster poster;
		static struct item item;
		int status, pid = fork();

		if (pid == 0) {
			if (symm_loop_get(&poster.loop) != SYMM_OK)
				_exit(2);
			item = (struct item){ .task = { .fn = repeat, .arg = &item }, .poster = &poster };
			symm_loop_post(poster.loop, &item.task);
			symm_sleep(symm_jitter(SYMM_NS_PER_MS), INT64_MAX);
			exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			bad++;
	}
	is_int(bad, 0, "exit() with the loop at work ends cleanly, 20 times");
}

int main(void)
{
	test_exit();
	test_order();
	test_call();
	test_again();
	test_race();
	test_done();
	return tap_done();
}
