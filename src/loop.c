#include "loop.h"

#include "base.h"
#include "error.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct symm_loop {
	int users; /* under current_lock */
	pthread_t thread;
	struct event_base *base;
	struct event *wake; /* made active when the queue turns non-empty */
	pthread_mutex_t lock;
	struct symm_task *first, **last; /* under lock */
	bool stop;                       /* on the loop thread */
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct symm_loop *current;
static _Thread_local const struct symm_loop *here;
static int64_t hurry_until; /* atomic */

/* ---- the thread ---- */

static struct symm_task *take_all(struct symm_loop *loop)
{
	struct symm_task *first;

	pthread_mutex_lock(&loop->lock);
	first = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	return first;
}

/* Stops only when the queue is empty: what was posted before the last put is done. */
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct symm_loop *loop = arg;
	struct symm_task *task, *next;

	(void)fd;
	(void)what;
	while ((task = take_all(loop)) != NULL)
		for (; task != NULL; task = next) {
			next = task->next;
			task->fn(task->arg);
		}
}

bool symm_loop_hurried(void)
{
	int64_t until = __atomic_load_n(&hurry_until, __ATOMIC_RELAXED);

	return until != 0 && symm_now() < until;
}

/* A hurried loop does not sleep: it looks again and again. In between, and so does who waits for it, it leaves its core
 * to whom the kernel woke on the same one: else that one waits for a whole time slice. */
static void *run(void *arg)
{
	struct symm_loop *loop = arg;

	here = loop;
	while (!loop->stop) {
		bool hurried = symm_loop_hurried();

		event_base_loop(loop->base, hurried ? EVLOOP_NONBLOCK : EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
		if (hurried)
			sched_yield();
	}
	return NULL;
}

void symm_loop_hurry(struct symm_loop *loop, int64_t ns)
{
	bool asleep = !symm_loop_hurried();

	__atomic_store_n(&hurry_until, ns > 0 ? symm_now() + ns : 0, __ATOMIC_RELAXED);
	if (asleep && ns > 0)
		event_active(loop->wake, EV_TIMEOUT, 0);
}

/* With all signals blocked: handlers stay the user's threads', and libevent's writes cannot end us by SIGPIPE. */
static int start_thread(struct symm_loop *loop)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&loop->thread, NULL, run, loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err != 0)
		return symm_error_sys(SYMM_ESYS, err, "cannot start the loop thread: pthread_create");
	pthread_setname_np(loop->thread, "symm-loop");
	return SYMM_OK;
}

/* ---- first and last use ---- */

static struct event_base *base_new(void)
{
	static bool threads; /* under current_lock */
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (!threads)
		threads = evthread_use_pthreads() == 0;
	if (!threads || config == NULL) {
		event_config_free(config);
		return NULL;
	}
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

static void destroy(struct symm_loop *loop)
{
	if (loop->wake != NULL)
		event_free(loop->wake);
	if (loop->base != NULL)
		event_base_free(loop->base);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static int create(struct symm_loop **out)
{
	struct symm_loop *loop = calloc(1, sizeof(*loop));
	int rc = SYMM_ENOMEM;

	if (loop == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for the loop");
	pthread_mutex_init(&loop->lock, NULL);
	loop->last = &loop->first;
	loop->base = base_new();
	if (loop->base != NULL)
		loop->wake = event_new(loop->base, -1, EV_PERSIST, on_wake, loop);
	if (loop->wake == NULL) {
		symm_error(rc, "libevent cannot make an event base");
		goto fail;
	}
	rc = start_thread(loop);
	if (rc != SYMM_OK)
		goto fail;
	*out = loop;
	return SYMM_OK;
fail:
	destroy(loop);
	return rc;
}

int symm_loop_get(struct symm_loop **loop)
{
	int rc = SYMM_OK;

	pthread_mutex_lock(&current_lock);
	if (current == NULL)
		rc = create(&current);
	if (rc == SYMM_OK) {
		current->users++;
		*loop = current;
	}
	pthread_mutex_unlock(&current_lock);
	return rc;
}

static void stop(void *arg)
{
	struct symm_loop *loop = arg;

	loop->stop = true;
}

void symm_loop_put(struct symm_loop *loop)
{
	struct symm_task last = { .fn = stop, .arg = loop };
	int users;

	pthread_mutex_lock(&current_lock);
	users = --loop->users;
	if (users == 0)
		current = NULL;
	pthread_mutex_unlock(&current_lock);
	if (users > 0)
		return;
	symm_loop_post(loop, &last);
	pthread_join(loop->thread, NULL);
	destroy(loop);
}

/* ---- work ---- */

struct event_base *symm_loop_base(struct symm_loop *loop)
{
	return loop->base;
}

bool symm_loop_here(const struct symm_loop *loop)
{
	return here == loop;
}

void symm_loop_post(struct symm_loop *loop, struct symm_task *task)
{
	bool was_empty;

	task->next = NULL;
	pthread_mutex_lock(&loop->lock);
	was_empty = loop->first == NULL;
	*loop->last = task;
	loop->last = &task->next;
	/* Under the lock: once the task has run, the loop may be gone. */
	if (was_empty)
		event_active(loop->wake, EV_TIMEOUT, 0);
	pthread_mutex_unlock(&loop->lock);
}

struct call {
	void (*fn)(void *arg);
	void *arg;
	struct symm_done done;
	struct symm_task task;
};

static void run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	symm_done_set(&call->done);
}

void symm_loop_call(struct symm_loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = { .fn = fn, .arg = arg };

	if (symm_loop_here(loop)) {
		fn(arg);
		return;
	}
	call.task = (struct symm_task){ .fn = run_call, .arg = &call };
	symm_done_init(&call.done);
	symm_loop_post(loop, &call.task);
	symm_done_wait(&call.done, INT64_MAX);
}

/* ---- done ---- */

void symm_done_init(struct symm_done *done)
{
	__atomic_store_n(&done->set, 0, __ATOMIC_RELAXED);
}

/* Once the word is set the waiter may end the life of done: the wake after it is of an address only, which nothing
 * reads. */
void symm_done_set(struct symm_done *done)
{
	uint32_t *word = &done->set;

	__atomic_store_n(word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

bool symm_done_is_set(const struct symm_done *done)
{
	return __atomic_load_n(&done->set, __ATOMIC_ACQUIRE) != 0;
}

bool symm_done_wait(struct symm_done *done, int64_t deadline)
{
	struct timespec until = { .tv_sec = deadline / INT64_C(1000000000), .tv_nsec = deadline % INT64_C(1000000000) };

	while (symm_loop_hurried() && symm_now() < deadline && !symm_done_is_set(done))
		sched_yield();
	while (!symm_done_is_set(done)) {
		long rc = syscall(SYS_futex, &done->set, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL,
				  FUTEX_BITSET_MATCH_ANY);

		if (rc < 0 && errno == ETIMEDOUT)
			return symm_done_is_set(done);
	}
	return true;
}
