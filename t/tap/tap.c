#include "tap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int planned = -1;
static int run;
static int failed;

static void print_line(const char *before, const char *format, va_list args)
{
	fputs(before, stdout);
	vprintf(format, args);
	putchar('\n');
	fflush(stdout);
}

void tap_plan(int tests)
{
	planned = tests;
	printf("1..%d\n", tests);
	fflush(stdout);
}

int tap_done(void)
{
	if (planned < 0)
		tap_plan(run);
	if (planned != run)
		tap_diag("planned %d tests but ran %d", planned, run);
	if (failed > 0)
		tap_diag("failed %d of %d tests", failed, run);
	return failed > 0 || planned != run;
}

static bool report(const char *file, int line, bool passed, const char *name, va_list args)
{
	char before[32];

	run++;
	failed += !passed;
	snprintf(before, sizeof(before), "%sok %d - ", passed ? "" : "not ", run);
	print_line(before, name, args);
	if (!passed)
		tap_diag("at %s:%d", file, line);
	return passed;
}

bool tap_ok_at(const char *file, int line, bool cond, const char *name, ...)
{
	va_list args;

	va_start(args, name);
	report(file, line, cond, name, args);
	va_end(args);
	return cond;
}

bool tap_is_int_at(const char *file, int line, int64_t got, int64_t expected, const char *name, ...)
{
	va_list args;

	va_start(args, name);
	report(file, line, got == expected, name, args);
	va_end(args);
	if (got != expected)
		tap_diag("got %" PRId64 ", expected %" PRId64, got, expected);
	return got == expected;
}

bool tap_is_str_at(const char *file, int line, const char *got, const char *expected, const char *name, ...)
{
	bool same = got == expected || (got && expected && strcmp(got, expected) == 0);
	va_list args;

	va_start(args, name);
	report(file, line, same, name, args);
	va_end(args);
	if (!same) {
		tap_diag("got      %s", got ? got : "NULL");
		tap_diag("expected %s", expected ? expected : "NULL");
	}
	return same;
}

bool tap_has_str_at(const char *file, int line, const char *text, const char *part, const char *name, ...)
{
	bool has = text && part && strstr(text, part);
	va_list args;

	va_start(args, name);
	report(file, line, has, name, args);
	va_end(args);
	if (!has) {
		tap_diag("text    %s", text ? text : "NULL");
		tap_diag("lacks   %s", part ? part : "NULL");
	}
	return has;
}

void tap_diag(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_line("# ", format, args);
	va_end(args);
}

void tap_skip(int tests, const char *why, ...)
{
	while (tests-- > 0) {
		char before[32];
		va_list args;

		snprintf(before, sizeof(before), "ok %d # SKIP ", ++run);
		va_start(args, why);
		print_line(before, why, args);
		va_end(args);
	}
}

void tap_skip_all(const char *why, ...)
{
	va_list args;

	va_start(args, why);
	print_line("1..0 # SKIP ", why, args);
	va_end(args);
}

void tap_bail(const char *why, ...)
{
	va_list args;

	va_start(args, why);
	print_line("Bail out! ", why, args);
	va_end(args);
	exit(99);
}
