/* ask.h: what tests of failures share: Redis asked behind the library's back, clocks, and how much a slow build may
 * take. */
#ifndef ASK_H
#define ASK_H

#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void nap_ms(int ms)
{
	struct timespec nap = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&nap, NULL);
}

/* A time limit, made longer for what makes everything slow. */
static inline double patience(double limit)
{
	const char *factor = getenv("TAP_TIMEOUT_FACTOR");

	if (factor != NULL)
		limit *= atof(factor);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	limit *= 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	limit *= 10;
#endif
#endif
	return limit;
}

/* Sends one inline command and returns the answer as it comes; "" if there is none. */
static inline const char *ask(const struct tap_redis *redis, const char *command)
{
	static char answer[65536];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval quiet = { .tv_sec = 5 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[256];
	int length = snprintf(line, sizeof(line), "%s\r\n", command);
	ssize_t n = -1;

	strcpy(address.sun_path, redis->socket);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof(quiet));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && write(fd, line, (size_t)length) == length)
		n = read(fd, answer, sizeof(answer) - 1);
	close(fd);
	answer[n > 0 ? n : 0] = '\0';
	return answer;
}

#endif
