/* watch.h: the thread that looks after groups on devices whose work fails without a word (symm_device_ops.watched). It
 * looks at their mirrors every few milliseconds, learns of failures that kernels recorded and spreads them, and makes
 * the calls of the device that a failure asks for: the loop thread, which hears of most failures, may not.
 *
 * There is one in the process while there are such groups. It runs no user code and has all signals blocked.
 */
#ifndef SYMM_WATCH_H
#define SYMM_WATCH_H

struct group;

/* From now on the thread may call symm_group_look for the group. */
int symm_watch_add(struct group *group);
/* The thread is not in a call for the group any more, and makes none. Not from the loop thread. */
void symm_watch_remove(struct group *group);
/* It looks now rather than soon. Any thread. */
void symm_watch_hurry(void);

#endif
