/* tool.h: symm(1): its commands, and how they end. */
#ifndef SYMM_TOOL_H
#define SYMM_TOOL_H

#include <stdbool.h>
#include <stddef.h>

/* Exit statuses. */
enum { SYMM_TOOL_OK, SYMM_TOOL_FAILED, SYMM_TOOL_USAGE };

struct symm_tool_command {
	const char *name;
	const char *summary;
	const char *help;                  /* the whole text of --help */
	int (*run)(int argc, char **argv); /* argv[0] is "symm"; returns an exit status */
};
extern const struct symm_tool_command symm_tool_info, symm_tool_doctor, symm_tool_bench, symm_tool_group;

/* Says "symm: ..." on stderr; returns SYMM_TOOL_FAILED. */
int symm_tool_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says what is wrong with the command line, unless format is NULL (getopt has said it), and where help is;
 * returns SYMM_TOOL_USAGE. */
int symm_tool_misuse(const struct symm_tool_command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A field of /proc/meminfo in bytes; 0: not known. */
size_t symm_tool_meminfo(const char *field);
/* How many CPUs this process may use. */
int symm_tool_cpus(void);
/* A variable of the environment; NULL if it is not set, or empty. */
const char *symm_tool_env(const char *name);
/* "host", "cuda" or "cuda:INDEX". */
bool symm_tool_is_device(const char *text);

#endif
