#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[SYMM_ERROR_TEXT];
static _Thread_local unsigned errors;

static const char *const meanings[] = {
	"SYMM_OK: success",
	"SYMM_EINVAL: an argument is wrong",
	"SYMM_ENOMEM: no memory",
	"SYMM_ETIMEDOUT: the deadline passed",
	"SYMM_EPEER: a peer died, left or failed",
	"SYMM_ESTALE: what this stood for is gone",
	"SYMM_EBUSY: still in use",
	"SYMM_EEXIST: somebody else holds it",
	"SYMM_ENOENT: there is none",
	"SYMM_EMISMATCH: the ranks do not agree",
	"SYMM_ESTORE: the Redis server cannot be reached or answered with an error",
	"SYMM_EAUTH: the Redis server refused us, or we refused it",
	"SYMM_EDEVICE: the device is absent or failed",
	"SYMM_ENOTSUP: not supported here",
	"SYMM_EDEADLK: the call would wait for itself",
	"SYMM_EFORK: called in the child of a fork",
	"SYMM_EPROTO: a record or message was not understood",
	"SYMM_ESYS: a system call failed",
	"SYMM_EUNREACH: two ranks cannot map each other's memory",
};

/* Formats at the start of text and returns how much of it is used now. */
static size_t put(char text[SYMM_ERROR_TEXT], const char *format, va_list args)
{
	int n = vsnprintf(text, SYMM_ERROR_TEXT, format, args);

	if (n < 0)
		n = 0;
	return n < SYMM_ERROR_TEXT ? (size_t)n : SYMM_ERROR_TEXT - 1;
}

static void keep(const char text[SYMM_ERROR_TEXT])
{
	strcpy(detail, text);
	errors++;
}

int symm_error(int code, const char *format, ...)
{
	char text[SYMM_ERROR_TEXT];
	va_list args;

	va_start(args, format);
	put(text, format, args);
	va_end(args);
	keep(text);
	return code;
}

int symm_error_sys(int code, int err, const char *format, ...)
{
	char text[SYMM_ERROR_TEXT], why[128];
	size_t used;
	va_list args;

	va_start(args, format);
	used = put(text, format, args);
	va_end(args);
	snprintf(text + used, sizeof(text) - used, ": %s", strerror_r(err, why, sizeof(why)));
	keep(text);
	return code;
}

int symm_error_prefix(int code, const char *format, ...)
{
	char text[SYMM_ERROR_TEXT];
	size_t used;
	va_list args;

	va_start(args, format);
	used = put(text, format, args);
	va_end(args);
	snprintf(text + used, sizeof(text) - used, ": %.*s", (int)(sizeof(text) - used), detail);
	strcpy(detail, text);
	return code;
}

int symm_err_set(struct symm_err *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put(err->text, format, args);
	va_end(args);
	err->code = code;
	return code;
}

int symm_err_return(const struct symm_err *err)
{
	keep(err->text);
	return err->code;
}

int symm_err_take(struct symm_err *err, int code)
{
	strcpy(err->text, detail);
	err->code = code;
	return code;
}

unsigned symm_error_count(void)
{
	return errors;
}

bool symm_error_is_code(int code)
{
	return code <= 0 && code > -(int)(sizeof(meanings) / sizeof(meanings[0]));
}

const char *symm_last_error(void)
{
	return detail;
}

const char *symm_strerror(int code)
{
	return symm_error_is_code(code) ? meanings[-code] : "not a symm code";
}
