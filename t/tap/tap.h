/* tap.h: our small TAP library. One result a line on stdout; see t/README for how tests are laid out. */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* tap_plan(n) first, tap_done() last: it returns the exit status for main, 0 if all passed. Without a plan, tap_done
 * makes one of what was run. */
void tap_plan(int tests);
int tap_done(void);

/* Each prints one result and returns whether it passed; a failure says file, line and what was got and expected. */
#define ok(cond, ...) tap_ok_at(__FILE__, __LINE__, (cond), __VA_ARGS__)
#define is_int(got, expected, ...) tap_is_int_at(__FILE__, __LINE__, (got), (expected), __VA_ARGS__)
#define is_str(got, expected, ...) tap_is_str_at(__FILE__, __LINE__, (got), (expected), __VA_ARGS__)
/* The text holds the part. */
#define has_str(text, part, ...) tap_has_str_at(__FILE__, __LINE__, (text), (part), __VA_ARGS__)
bool tap_ok_at(const char *file, int line, bool cond, const char *name, ...) __attribute__((format(printf, 4, 5)));
bool tap_is_int_at(const char *file, int line, int64_t got, int64_t expected, const char *name, ...)
	__attribute__((format(printf, 5, 6)));
bool tap_is_str_at(const char *file, int line, const char *got, const char *expected, const char *name, ...)
	__attribute__((format(printf, 5, 6)));
bool tap_has_str_at(const char *file, int line, const char *text, const char *part, const char *name, ...)
	__attribute__((format(printf, 5, 6)));
void tap_diag(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tap_skip(int tests, const char *why, ...) __attribute__((format(printf, 2, 3)));
/* The whole file is skipped: call first, then return 0 from main. */
void tap_skip_all(const char *why, ...) __attribute__((format(printf, 1, 2)));
void tap_bail(const char *why, ...) __attribute__((format(printf, 1, 2), noreturn));

/* In a rank's function: ends it (returns from it) when cond is false; the message is optional. */
#define CHECK(cond, ...)                                                                                               \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			return tap_rank_failed(__FILE__, __LINE__, #cond, " " __VA_ARGS__);                            \
	} while (0)
int tap_rank_failed(const char *file, int line, const char *cond, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Forks n ranks, each runs fn(rank, arg) and exits with what it returns (0: passed); stragglers are killed after
 * timeout_s, scaled by TAP_TIMEOUT_FACTOR. The children's stdout is sent to stderr. One result a rank, named
 * "name: rank R". Returns whether all passed. */
bool tap_ranks(const char *name, int n, int (*fn)(int rank, void *arg), void *arg, int timeout_s);

/* The same, but the caller looks after them: pid[] is filled, nothing is reported. The caller waits. Ranks die with
 * the thread that started them. */
void tap_ranks_start(int n, int (*fn)(int rank, void *arg), void *arg, int *pid);
/* Waits up to timeout_s, scaled as above, for a child: its wait status, or -1 after killing it. */
int tap_wait(int pid, int timeout_s);

/* Memory shared by the ranks of a test (before they are forked), zero-filled; and a plain barrier in it for n ranks,
 * to be used any number of times with the same n. */
void *tap_shared(size_t bytes);
void tap_rally(void *shared_int, int n);

/* A real redis-server of this test's own, in a temporary folder under TMPDIR; ended and removed when the process (the
 * thread) that started it ends, whatever the end. Bails out if there is no redis-server. */
struct tap_redis {
	int pid;
	int keeper;                            /* private: the process that removes dir */
	char dir[128];                         /* also its working folder: redis.conf, redis.log */
	char socket[160];                      /* path of its Unix socket; every kind has one */
	int port;                              /* TCP or TLS, on 127.0.0.1 and, where there is IPv6, ::1; 0: none */
	char url[512];                         /* ready for symm_open */
	char cacert[192], cert[192], key[192]; /* TLS: a CA made on the spot, and a client certificate */
};
enum tap_redis_kind {
	TAP_REDIS_UNIX,     /* no port, url unix:// */
	TAP_REDIS_TCP,      /* url redis://127.0.0.1:port */
	TAP_REDIS_PASSWORD, /* requirepass "se%cret@:/", an ACL user "ann" / "pass word", who may do all; url has ann */
	TAP_REDIS_TLS       /* server certificate for "localhost"; clients may, not must, show theirs;
			     * url rediss://localhost:port?cacert=... */
};
void tap_redis_start(struct tap_redis *redis, enum tap_redis_kind kind);
void tap_redis_stop(struct tap_redis *redis);
/* The same server again, same socket and port, empty unless it saved. It may have been killed before. */
void tap_redis_restart(struct tap_redis *redis);

#endif
