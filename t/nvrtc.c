/* nvrtc.c: compiles a file for a GPU by NVRTC, the compiler as a library. Built and run by t/device_header.sh.
 *
 * usage: nvrtc FILE OPTION...     77: there is no libnvrtc here */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROOM = 1 << 20, NOT_HERE = 77 };

struct program;

static void *find_library(void)
{
	static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
					     "/usr/local/cuda/lib64/libnvrtc.so" };
	void *library = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && library == NULL; i++)
		library = dlopen(names[i], RTLD_NOW);
	return library;
}

static void *find(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (function == NULL) {
		fprintf(stderr, "libnvrtc has no %s\n", name);
		exit(1);
	}
	return function;
}

static int compile(void *library, const char *text, const char *name, int n, const char **options)
{
	int (*create)(struct program **, const char *, const char *, int, const char *const *, const char *const *);
	int (*run)(struct program *, int, const char *const *);
	int (*log_size)(struct program *, size_t *);
	int (*get_log)(struct program *, char *);
	static char log[ROOM];
	struct program *program;
	size_t bytes;
	int rc;

	*(void **)&create = find(library, "nvrtcCreateProgram");
	*(void **)&run = find(library, "nvrtcCompileProgram");
	*(void **)&log_size = find(library, "nvrtcGetProgramLogSize");
	*(void **)&get_log = find(library, "nvrtcGetProgramLog");
	if (create(&program, text, name, 0, NULL, NULL) != 0)
		return 1;
	rc = run(program, n, options);
	if (log_size(program, &bytes) == 0 && bytes <= sizeof(log) && get_log(program, log) == 0)
		fputs(log, stderr);
	return rc != 0 || log[0] != '\0';
}

int main(int argc, char **argv)
{
	static char text[ROOM];
	void *library = find_library();
	FILE *file = argc > 1 ? fopen(argv[1], "re") : NULL;

	if (library == NULL)
		return NOT_HERE;
	if (file == NULL || fread(text, 1, sizeof(text) - 1, file) == 0)
		return 1;
	fclose(file);
	return compile(library, text, argv[1], argc - 2, (const char **)(argv + 2));
}
