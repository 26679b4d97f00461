#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "error", "warn", "info", "debug" };

static enum symm_log_level level_from_environment(void)
{
	const char *want = getenv("SYMM_LOG");

	for (int i = 0; want != NULL && i <= SYMM_LOG_DEBUG; i++)
		if (strcmp(want, names[i]) == 0)
			return (enum symm_log_level)i;
	return SYMM_LOG_WARN;
}

bool symm_log_on(enum symm_log_level level)
{
	static int known = -1;
	int limit = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (limit < 0) {
		limit = (int)level_from_environment();
		__atomic_store_n(&known, limit, __ATOMIC_RELAXED);
	}
	return (int)level <= limit;
}

/* One write a line, so that the lines of many ranks on one stderr stay whole. */
void symm_log_write(enum symm_log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;
	int used = snprintf(line, sizeof(line), "symm[%d] %s: ", (int)getpid(), names[level]);
	int n;

	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	used += n;
	if (used > (int)sizeof(line) - 2)
		used = (int)sizeof(line) - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		return;
}
