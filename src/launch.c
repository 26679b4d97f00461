#include "launch.h"

#include "error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of precedence: the first whose rank and size are both there is believed, and no mixture. */
static const struct source {
	const char *name, *rank, *size, *local;
} sources[] = {
	{ "SYMM_*", "SYMM_RANK", "SYMM_WORLD_SIZE", "SYMM_LOCAL_RANK" },
	{ "Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID" },
	{ "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK" },
	{ "PMIx", "PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK" },
	{ "PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID" },
	{ "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK" },
};

static int number(const char *variable, long low, long high, long otherwise, long *value)
{
	const char *text = getenv(variable);
	char *end;

	*value = otherwise;
	if (text == NULL || *text == '\0')
		return 0;
	errno = 0;
	*value = strtol(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
	if (errno != 0 || *end != '\0' || *value < low || *value > high)
		return symm_error(SYMM_EINVAL, "%s=%s in the environment is not a number from %ld to %ld", variable,
				  text, low, high);
	return 0;
}

int symm_launch_ms(const char *variable, int64_t otherwise, int64_t *ms)
{
	long value;
	int rc = number(variable, 1, SYMM_LAUNCH_MS_MAX, (long)otherwise, &value);

	if (rc == 0)
		*ms = value;
	return rc;
}

int symm_launch_flag(const char *variable, bool *on)
{
	long value;
	int rc = number(variable, 0, 1, 0, &value);

	if (rc == 0)
		*on = value != 0;
	return rc;
}

static int word(const char *variable, const char *const *words)
{
	const char *text = getenv(variable);
	char allowed[64] = "";

	if (text == NULL || *text == '\0')
		return 0;
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0)
			return 0;
		strcat(strcat(allowed, i > 0 ? ", " : ""), words[i]);
	}
	return symm_error(SYMM_EINVAL, "%s=%.80s in the environment is none of %s", variable, text, allowed);
}

int symm_launch_check(void)
{
	static const char *const levels[] = { "error", "warn", "info", "debug", NULL };
	long ignored;
	bool flag;
	int rc;

	if ((rc = word("SYMM_LOG", levels)) != 0 || (rc = symm_launch_flag("SYMM_MULTICAST", &flag)) != 0 ||
	    (rc = symm_launch_flag("SYMM_EARLY_LAUNCH", &flag)) != 0 ||
	    (rc = number("SYMM_HOST_STRICT", 0, LONG_MAX, 0, &ignored)) != 0 ||
	    (rc = number("SYMM_EPOCH0", 0, UINT32_MAX, 0, &ignored)) != 0)
		return rc;
	return 0;
}

static int read_source(const struct source *source, struct symm_launch *launch)
{
	long rank, size, local;
	int rc;

	if ((rc = number(source->rank, 0, INT32_MAX, SYMM_AUTO, &rank)) != 0 ||
	    (rc = number(source->size, 1, INT32_MAX, SYMM_AUTO, &size)) != 0 ||
	    (rc = number(source->local, 0, INT32_MAX, SYMM_AUTO, &local)) != 0)
		return rc;
	launch->source = source->name;
	launch->rank = (int)rank;
	launch->world_size = (int)size;
	launch->local_rank = (int)local;
	return 0;
}

/* Appends text to the job name, with what a name may not hold made '.'. */
static void job_add(char job[SYMM_NAME_MAX + 1], const char *text)
{
	size_t used = strlen(job);

	for (; *text != '\0' && used < SYMM_NAME_MAX; text++)
		job[used++] =
			strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:-") ? *text : '.';
	job[used] = '\0';
}

/* One run of one step is one job: a requeued job must not meet what its earlier life left. */
static void job_from_scheduler(char job[SYMM_NAME_MAX + 1])
{
	static const char *const variables[][3] = {
		{ "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT" },
		{ "PMIX_NAMESPACE", NULL, NULL },
		{ "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", NULL },
	};

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		if (getenv(variables[i][0]) == NULL)
			continue;
		for (int part = 0; part < 3 && variables[i][part] != NULL; part++) {
			const char *text = getenv(variables[i][part]);

			if (part > 0)
				job_add(job, "-");
			job_add(job, text != NULL ? text : "0");
		}
		return;
	}
	strcpy(job, "-");
}

int symm_launch_read(struct symm_launch *launch)
{
	struct symm_launch found = { "none", SYMM_AUTO, SYMM_AUTO, SYMM_AUTO, "" };
	const char *job = getenv("SYMM_JOB");

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		if (getenv(sources[i].rank) != NULL && getenv(sources[i].size) != NULL) {
			int rc = read_source(&sources[i], &found);

			if (rc != 0)
				return rc;
			break;
		}
	}
	if (job != NULL && strlen(job) > SYMM_NAME_MAX)
		return symm_error(SYMM_EINVAL, "SYMM_JOB is longer than %d characters", SYMM_NAME_MAX);
	if (job != NULL && *job != '\0')
		strcpy(found.job, job);
	else
		job_from_scheduler(found.job);
	*launch = found;
	return 0;
}
