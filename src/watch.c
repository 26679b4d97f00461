#include "watch.h"

#include "base.h"
#include "group.h"

#include <signal.h>
#include <time.h>

#define LOOK_NS (5 * SYMM_NS_PER_MS)

/* One starts or ends the thread at a time. Taken before the other lock, never by the thread. */
static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t look;  /* there is something to do now */
	pthread_cond_t left;  /* the thread has left a group */
	struct group *first;  /* all that are watched */
	struct group *next;   /* at which the thread looks next */
	struct group *inside; /* into which it has called */
	bool hurry;
	pthread_t thread;
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER };

static bool needs_a_look(const struct group *group)
{
	return !symm_group_is_sound(group) && !group->poisoned;
}

/* Called and returns with the lock, which it lets go of while it is in a group. */
static void look_at_all(void)
{
	struct group *group;

	for (watch.next = watch.first; watch.next != NULL;) {
		group = watch.next;
		watch.next = group->next_watched;
		if (!needs_a_look(group))
			continue;
		watch.inside = group;
		pthread_mutex_unlock(&watch.lock);
		symm_group_look(group);
		pthread_mutex_lock(&watch.lock);
		watch.inside = NULL;
		pthread_cond_broadcast(&watch.left);
	}
}

static void *work(void *arg)
{
	struct timespec at;
	int64_t next;

	(void)arg;
	pthread_mutex_lock(&watch.lock);
	while (watch.first != NULL) {
		watch.hurry = false;
		look_at_all();
		next = symm_now() + LOOK_NS;
		at = (struct timespec){ next / 1000000000, next % 1000000000 };
		while (!watch.hurry && watch.first != NULL)
			if (pthread_cond_timedwait(&watch.look, &watch.lock, &at) != 0)
				break;
	}
	pthread_mutex_unlock(&watch.lock);
	return NULL;
}

static void init_condition(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watch.look, &attr);
	pthread_condattr_destroy(&attr);
}

/* Signals are for the threads of the program. */
static int start(void)
{
	sigset_t every, old;
	int err;

	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &old);
	err = pthread_create(&watch.thread, NULL, work, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		return symm_error_sys(SYMM_ESYS, err, "cannot start the thread that watches groups (ulimit -u)");
	pthread_setname_np(watch.thread, "symm-watch");
	return 0;
}

/* The thread ends when the list is empty, so the group comes before the thread. */
int symm_watch_add(struct group *group)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	bool alone;
	int rc = 0;

	pthread_once(&once, init_condition);
	pthread_mutex_lock(&life);
	pthread_mutex_lock(&watch.lock);
	alone = watch.first == NULL;
	group->next_watched = watch.first;
	watch.first = group;
	pthread_mutex_unlock(&watch.lock);
	if (alone)
		rc = start();
	if (rc != 0) {
		pthread_mutex_lock(&watch.lock);
		watch.first = NULL;
		pthread_mutex_unlock(&watch.lock);
	}
	pthread_mutex_unlock(&life);
	return rc;
}

void symm_watch_remove(struct group *group)
{
	struct group **at = &watch.first;
	bool last;

	pthread_mutex_lock(&life);
	pthread_mutex_lock(&watch.lock);
	while (*at != group)
		at = &(*at)->next_watched;
	*at = group->next_watched;
	if (watch.next == group)
		watch.next = group->next_watched;
	while (watch.inside == group)
		pthread_cond_wait(&watch.left, &watch.lock);
	last = watch.first == NULL;
	if (last)
		pthread_cond_signal(&watch.look);
	pthread_mutex_unlock(&watch.lock);
	if (last)
		pthread_join(watch.thread, NULL);
	pthread_mutex_unlock(&life);
}

void symm_watch_hurry(void)
{
	pthread_mutex_lock(&watch.lock);
	watch.hurry = true;
	if (watch.first != NULL)
		pthread_cond_signal(&watch.look);
	pthread_mutex_unlock(&watch.lock);
}
