/* base.h: time, ids and small things that every other file may use. Depends on nothing of symm. */
#ifndef SYMM_BASE_H
#define SYMM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYMM_NS_PER_MS INT64_C(1000000)
#define SYMM_ID_HEX 33 /* 32 hex digits and the end */

#define symm_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A random 128-bit id: of a process, or of one life of one rank (an incarnation). All zero: none. */
struct symm_id {
	uint8_t bytes[16];
};

/* CLOCK_MONOTONIC in nanoseconds. A deadline is such a time. */
int64_t symm_now(void);
/* Sleeps ns, or until the deadline if that is earlier. */
void symm_sleep(int64_t ns, int64_t deadline);
/* Bytes from the kernel's random source. */
void symm_random(void *bytes, size_t n);
/* ns with +-25 % of jitter. */
int64_t symm_jitter(int64_t ns);
/* How many cores this process may use. */
uint32_t symm_cores(void);

/* 2 n lower-case hex digits and the end. */
void symm_hex_format(const uint8_t *bytes, size_t n, char *out);
/* Reads the first 2 n characters of text; false at one that is no such digit: bytes are spoilt then. */
bool symm_hex_parse(const char *text, uint8_t *bytes, size_t n);

struct symm_id symm_id_new(void);
bool symm_id_equal(const struct symm_id *a, const struct symm_id *b);
bool symm_id_is_none(const struct symm_id *id);
void symm_id_format(const struct symm_id *id, char out[SYMM_ID_HEX]);
/* Reads 32 hex digits; false if text is anything else. */
bool symm_id_parse(const char *text, struct symm_id *id);

static inline size_t symm_round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

#endif
