#include "doctor.h"

#include "error.h"
#include "tool.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>

static const char help[] = "usage: symm doctor [--json] [--url URL] [--device DEVICE]\n"
			   "Tries what symm needs of this host, its GPUs and its store, and says how to mend\n"
			   "what is not right.\n\n"
			   "  --url URL      the store (default: SYMM_URL, else none is looked at)\n"
			   "  --device D     host, cuda or cuda:INDEX: what has to work (default: SYMM_DEVICE)\n"
			   "  --json         one JSON object\n"
			   "  --help, -h     this text\n\n"
			   "Exit status 1: something is bad. Warnings alone are 0.\n";

static const char *const health_name[] = { "ok", "warn", "bad" };

void symm_doctor_tell(struct symm_doctor *doctor, enum symm_health health, const char *check, const char *mend,
		      const char *format, ...)
{
	char text[2 * SYMM_ERROR_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	doctor->count[health]++;
	if (doctor->json == NULL) {
		printf("%-4s  %-16s  %s\n", health_name[health], check, text);
		if (mend != NULL)
			printf("      %-16s  %s\n", "  to mend it:", mend);
		return;
	}
	symm_json_open(doctor->json, NULL, '{');
	symm_json_text(doctor->json, "check", check);
	symm_json_text(doctor->json, "health", health_name[health]);
	symm_json_text(doctor->json, "text", text);
	symm_json_text(doctor->json, "mend", mend);
	symm_json_close(doctor->json, '}');
}

/* The ranks that share this host, if its launcher says: symmrun, Open MPI or torchrun. */
static int count_ranks(void)
{
	static const char *const names[] = { "SYMM_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *text = symm_tool_env(names[i]);
		int ranks = text != NULL ? atoi(text) : 0;

		if (ranks > 0)
			return ranks;
	}
	return 0;
}

static void look(struct symm_doctor *doctor, const char *url)
{
	symm_doctor_host(doctor);
	symm_doctor_cuda(doctor);
	symm_doctor_store(doctor, url);
}

static void look_json(struct symm_doctor *doctor, const char *url)
{
	struct symm_json *json = doctor->json;

	symm_json_open(json, NULL, '{');
	symm_json_text(json, "version", symm_version());
	symm_json_open(json, "findings", '[');
	look(doctor, url);
	symm_json_close(json, ']');
	for (int health = 0; health < 3; health++)
		symm_json_int(json, health_name[health], doctor->count[health]);
	symm_json_close(json, '}');
	symm_json_end(json);
}

static void look_text(struct symm_doctor *doctor, const char *url)
{
	const int *count = doctor->count;

	look(doctor, url);
	printf("\n%d ok, %d warning%s, %d bad\n", count[SYMM_HEALTH_OK], count[SYMM_HEALTH_WARN],
	       count[SYMM_HEALTH_WARN] == 1 ? "" : "s", count[SYMM_HEALTH_BAD]);
}

static int doctor_run(int argc, char **argv)
{
	static const struct option known[] = { { "json", no_argument, NULL, 'j' },
					       { "url", required_argument, NULL, 'u' },
					       { "device", required_argument, NULL, 'd' },
					       { NULL, 0, NULL, 0 } };
	struct symm_doctor doctor = { .device = symm_tool_env("SYMM_DEVICE"), .ranks = count_ranks() };
	struct symm_json json = { stdout, false };
	const char *url = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == '?')
			return symm_tool_misuse(&symm_tool_doctor, NULL);
		if (option == 'u')
			url = optarg;
		else if (option == 'd')
			doctor.device = optarg;
		else
			doctor.json = &json;
	}
	if (optind < argc)
		return symm_tool_misuse(&symm_tool_doctor, "doctor: what is '%s'?", argv[optind]);
	if (doctor.device != NULL && !symm_tool_is_device(doctor.device))
		return symm_tool_misuse(&symm_tool_doctor, "doctor: the device is host, cuda or cuda:INDEX, not '%s'",
					doctor.device);
	(doctor.json != NULL ? look_json : look_text)(&doctor, url);
	return doctor.count[SYMM_HEALTH_BAD] > 0 ? SYMM_TOOL_FAILED : SYMM_TOOL_OK;
}

const struct symm_tool_command symm_tool_doctor = { "doctor", "tries what symm needs, says how to mend it", help,
						    doctor_run };
