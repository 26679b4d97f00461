#include "tool.h"

#include "error.h"
#include "symm/symm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct symm_tool_command *const commands[] = { &symm_tool_info, &symm_tool_doctor, &symm_tool_bench,
							    &symm_tool_group };
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* One write, so that the lines of many ranks on one stderr stay whole. */
static void complain(const char *format, va_list args)
{
	char text[2 * SYMM_ERROR_TEXT];

	vsnprintf(text, sizeof(text), format, args);
	fprintf(stderr, "symm: %s\n", text);
}

int symm_tool_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	return SYMM_TOOL_FAILED;
}

int symm_tool_misuse(const struct symm_tool_command *command, const char *format, ...)
{
	va_list args;

	if (format != NULL) {
		va_start(args, format);
		complain(format, args);
		va_end(args);
	}
	fprintf(stderr, "symm: 'symm%s%s --help' shows what is possible\n", command != NULL ? " " : "",
		command != NULL ? command->name : "");
	return SYMM_TOOL_USAGE;
}

const char *symm_tool_env(const char *name)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? text : NULL;
}

bool symm_tool_is_device(const char *text)
{
	size_t digits = strspn(strncmp(text, "cuda:", 5) == 0 ? text + 5 : "", "0123456789");

	return strcmp(text, "host") == 0 || strcmp(text, "cuda") == 0 ||
	       (digits > 0 && digits < 4 && text[5 + digits] == '\0');
}

static int help(void)
{
	puts("usage: symm COMMAND [OPTION ...]\n"
	     "Looks at, measures and tidies what symm programs use.\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
	puts("\n  --help, -h     this text; 'symm COMMAND --help' tells of one command\n"
	     "  --version, -V  the version\n\n"
	     "Exit status: 0 all is well, 1 failure, 2 wrong usage. The whole story is in symm(1).");
	return SYMM_TOOL_OK;
}

static int run(int argc, char **argv)
{
	static char name[32] = "symm";

	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strcmp(argv[0], commands[i]->name) != 0)
			continue;
		for (int a = 1; a < argc && strcmp(argv[a], "--") != 0; a++) {
			if (strcmp(argv[a], "--help") == 0 || strcmp(argv[a], "-h") == 0) {
				fputs(commands[i]->help, stdout);
				return SYMM_TOOL_OK;
			}
		}
		/* getopt puts this before its complaints. */
		argv[0] = name;
		return commands[i]->run(argc, argv);
	}
	return symm_tool_misuse(NULL, "there is no command '%s'", argv[0]);
}

static int start(int argc, char **argv)
{
	if (argc < 2)
		return symm_tool_misuse(NULL, "which command?");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help();
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("symm %s\n", symm_version());
		return SYMM_TOOL_OK;
	}
	if (argv[1][0] == '-')
		return symm_tool_misuse(NULL, "there is no option '%s'", argv[1]);
	return run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status;

	/* A reader that went away is a failed write, not a death that leaves a group behind. */
	signal(SIGPIPE, SIG_IGN);
	status = start(argc, argv);
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == SYMM_TOOL_OK)
		status = symm_tool_fail("cannot write to standard output: %s", strerror(errno));
	return status;
}
