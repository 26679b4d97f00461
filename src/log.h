/* log.h: lines on stderr for those who run symm. SYMM_LOG=error|warn|info|debug chooses how many (default: warn). */
#ifndef SYMM_LOG_H
#define SYMM_LOG_H

#include <stdbool.h>

enum symm_log_level { SYMM_LOG_ERROR, SYMM_LOG_WARN, SYMM_LOG_INFO, SYMM_LOG_DEBUG };

bool symm_log_on(enum symm_log_level level);
void symm_log_write(enum symm_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define symm_log(level, ...)                                                                                           \
	do {                                                                                                           \
		if (symm_log_on(level))                                                                                \
			symm_log_write(level, __VA_ARGS__);                                                            \
	} while (0)

#endif
