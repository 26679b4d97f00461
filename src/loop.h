/* loop.h: the one libevent thread of the process, shared by all contexts, counted.
 *
 * The thread has all signals blocked, makes no device call and no blocking name look-up, and runs no user code. It owns
 * every socket and timer: the events of other files are made, changed and freed on it only.
 */
#ifndef SYMM_LOOP_H
#define SYMM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct symm_loop;

/* Work for the loop thread. The caller owns it until fn has been entered; fn may free it. */
struct symm_task {
	void (*fn)(void *arg);
	void *arg;
	struct symm_task *next;
};

/* One use more of the loop; the first starts the thread. */
int symm_loop_get(struct symm_loop **loop);
/* One use less; the last stops and joins the thread. Never from the loop thread. */
void symm_loop_put(struct symm_loop *loop);
struct event_base *symm_loop_base(struct symm_loop *loop);
/* True on the loop thread. */
bool symm_loop_here(const struct symm_loop *loop);
/* Runs the task on the loop thread, soon, in the order of posting. */
void symm_loop_post(struct symm_loop *loop, struct symm_task *task);
/* Runs fn on the loop thread and returns when it has returned; on the loop thread itself, at once. */
void symm_loop_call(struct symm_loop *loop, void (*fn)(void *arg), void *arg);

/* For so long (0: no longer) the loop thread, and who waits for a symm_done, look again and again instead of sleeping:
 * to be woken takes a core of an idle machine as long as Redis needs for an answer. For those who have cores to
 * spare. */
#define SYMM_LOOP_HURRY 2000000 /* most ranks that come together have done each step of a collective by then */
void symm_loop_hurry(struct symm_loop *loop, int64_t ns);
bool symm_loop_hurried(void);

/* What a thread does while it waits in a hurry, called between two looks: true if it took some time. */
struct symm_meanwhile {
	bool (*fn)(void *arg);
	void *arg;
};

/* A thing that a thread waits for and the loop completes. */
struct symm_done {
	uint32_t set; /* a futex */
};
void symm_done_init(struct symm_done *done);
void symm_done_set(struct symm_done *done);
bool symm_done_is_set(const struct symm_done *done);
/* True if done before the deadline. INT64_MAX: no deadline. */
bool symm_done_wait(struct symm_done *done, int64_t deadline);

#endif
