/* error.h: the thread's error detail, and the error that travels in a request. */
#ifndef SYMM_ERROR_H
#define SYMM_ERROR_H

#include "symm/symm.h"

#include <stdbool.h>

#define SYMM_ERROR_TEXT 512

/* An error on its way: code 0 means none. Used where the thread that sees the error is not the one that returns it. */
struct symm_err {
	int code;
	char text[SYMM_ERROR_TEXT];
};

/* Writes the detail of this thread and returns code, so that `return symm_error(SYMM_EINVAL, "...")` is one line. */
int symm_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, with ": " and the text of errno value err appended. */
int symm_error_sys(int code, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " before this thread's detail; returns code unchanged. */
int symm_error_prefix(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How many details this thread has written, prefixes aside. */
unsigned symm_error_count(void);
/* True for SYMM_OK and the SYMM_E... codes. */
bool symm_error_is_code(int code);

/* The same for an error that travels. */
int symm_err_set(struct symm_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Copies a travelled error into this thread's detail and returns its code. */
int symm_err_return(const struct symm_err *err);
/* Copies this thread's detail into err. */
int symm_err_take(struct symm_err *err, int code);

#endif
