#include "base.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t symm_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void symm_sleep(int64_t ns, int64_t deadline)
{
	int64_t until = symm_now() + ns;
	struct timespec at;

	if (until > deadline)
		until = deadline;
	at.tv_sec = until / INT64_C(1000000000);
	at.tv_nsec = until % INT64_C(1000000000);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

void symm_random(void *bytes, size_t n)
{
	char *at = bytes;

	while (n > 0) {
		ssize_t got = getrandom(at, n, 0);

		if (got > 0) {
			at += got;
			n -= (size_t)got;
		}
	}
}

int64_t symm_jitter(int64_t ns)
{
	uint32_t r;

	symm_random(&r, sizeof(r));
	return ns * 3 / 4 + ns / 2 * (int64_t)(r % 1024) / 1024;
}

uint32_t symm_cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

struct symm_id symm_id_new(void)
{
	struct symm_id id;

	do {
		symm_random(&id, sizeof(id));
	} while (symm_id_is_none(&id));
	return id;
}

bool symm_id_equal(const struct symm_id *a, const struct symm_id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool symm_id_is_none(const struct symm_id *id)
{
	static const struct symm_id none;

	return symm_id_equal(id, &none);
}

void symm_hex_format(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool symm_hex_parse(const char *text, uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(text[2 * i]), low = high >= 0 ? hex_digit(text[2 * i + 1]) : -1;

		if (low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void symm_id_format(const struct symm_id *id, char out[SYMM_ID_HEX])
{
	symm_hex_format(id->bytes, sizeof(id->bytes), out);
}

bool symm_id_parse(const char *text, struct symm_id *id)
{
	struct symm_id read;

	if (strnlen(text, SYMM_ID_HEX) != SYMM_ID_HEX - 1 || !symm_hex_parse(text, read.bytes, sizeof(read.bytes)))
		return false;
	*id = read;
	return true;
}
