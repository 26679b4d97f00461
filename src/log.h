/* log.h: lines for those who run symm: on stderr, or for a function of the program's. SYMM_LOG=error|warn|info|debug,
 * or symm_set_log, chooses how many (default: warn).
 *
 * What happens to a rank is one line at SYMM_LOG_INFO, a failure at SYMM_LOG_WARN: the event, then the fields job=,
 * group= and rank=, as far as there are such, then what else there is to tell.
 */
#ifndef SYMM_LOG_H
#define SYMM_LOG_H

#include "symm/symm.h"

#include <stdbool.h>

/* Any thread may log, with any lock. */
bool symm_log_on(enum symm_log_level level);
void symm_log_write(enum symm_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define symm_log(level, ...)                                                                                           \
	do {                                                                                                           \
		if (symm_log_on(level))                                                                                \
			symm_log_write(level, __VA_ARGS__);                                                            \
	} while (0)

/* One context more, or less: while there are any, the thread runs on which the program's function is called. Less:
 * returns when it has been given all lines. */
int symm_log_hold(void);
void symm_log_release(void);

/* True on that thread: a call that waits could be what the function's caller waits for. */
static inline bool symm_log_here(void)
{
	extern _Thread_local bool symm_log_thread __attribute__((tls_model("initial-exec")));

	return __builtin_expect(symm_log_thread, 0);
}
/* SYMM_EDEADLK, for a call that waits. */
int symm_log_refuse(const char *call);

#endif
