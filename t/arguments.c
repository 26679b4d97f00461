/* What joining is told by launchers and by callers: right, wrong, and by handles that are none. */
#include "ask.h"
#include "rig.h"

static struct tap_redis redis;
static struct rig rig;

static struct rig rig_of(int world)
{
	struct rig r = rig;

	r.world = world;
	return r;
}

/* Runs a case and looks at what it left in Redis. */
static void run(const char *name, int n, int (*fn)(int rank, void *arg), void *arg)
{
	tap_ranks(name, n, fn, arg, 20);
	is_str(ask(&redis, "DBSIZE"), ":0\r\n", "%s: nothing is left in Redis", name);
}

/* One character more than a name may have. */
#define LONG "01234567890123456789012345678901234567890123456789012345678901234"

#define LATE(since, limit)                                                                                             \
	CHECK(seconds_now() - (since) <= patience(limit) + opening(), "it took %.3f s", seconds_now() - (since))

/* ---- what launchers say ---- */

struct launcher {
	const char *name;
	const char *env[6];
	int rank, size, local; /* what becomes of it, or ... */
	const char *error;     /* ... what symm_open says */
};

static const struct launcher launchers[] = {
	{ "symmrun", { "SYMM_RANK=1", "SYMM_WORLD_SIZE=3", "SYMM_LOCAL_RANK=0" }, 1, 3, 0, NULL },
	{ "Slurm", { "SLURM_PROCID=5", "SLURM_NTASKS=8", "SLURM_LOCALID=1", "SLURM_JOB_ID=7" }, 5, 8, 1, NULL },
	{ "Open MPI",
	  { "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_RANK=0" },
	  0,
	  2,
	  0,
	  NULL },
	{ "PMIx", { "PMIX_RANK=3", "PMIX_SIZE=4", "PMIX_NAMESPACE=a b/c" }, 3, 4, SYMM_ENOENT, NULL },
	{ "torchrun", { "RANK=2", "WORLD_SIZE=4", "LOCAL_RANK=2", "TORCHELASTIC_RUN_ID=none" }, 2, 4, 2, NULL },
	{ "symmrun under Slurm",
	  { "SLURM_PROCID=0", "SLURM_NTASKS=1", "SYMM_RANK=1", "SYMM_WORLD_SIZE=2" },
	  1,
	  2,
	  SYMM_ENOENT,
	  NULL },
	{ "a rank without a size is nobody's word",
	  { "SYMM_RANK=1", "RANK=0", "WORLD_SIZE=1" },
	  0,
	  1,
	  SYMM_ENOENT,
	  NULL },
	{ "no launcher", { NULL }, SYMM_ENOENT, SYMM_ENOENT, SYMM_ENOENT, NULL },
	{ "a rank that is no number", { "SYMM_RANK=one", "SYMM_WORLD_SIZE=3" }, 0, 0, 0, "SYMM_RANK=one" },
	{ "a negative rank", { "RANK=-1", "WORLD_SIZE=3" }, 0, 0, 0, "RANK=-1" },
	{ "a size of 0", { "SLURM_PROCID=0", "SLURM_NTASKS=0" }, 0, 0, 0, "SLURM_NTASKS=0" },
	{ "a size beyond any", { "PMIX_RANK=0", "PMIX_SIZE=99999999999999999999" }, 0, 0, 0, "PMIX_SIZE=9999" },
	{ "a local rank that is no number", { "RANK=0", "WORLD_SIZE=1", "LOCAL_RANK=0x" }, 0, 0, 0, "LOCAL_RANK=0x" },
	{ "a rank outside", { "OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=2" }, 0, 0, 0, "rank 2" },
	{ "a bad timeout", { "SYMM_TIMEOUT_MS=soon" }, 0, 0, 0, "SYMM_TIMEOUT_MS=soon" },
	{ "a bad lease", { "SYMM_LEASE_MS=0" }, 0, 0, 0, "SYMM_LEASE_MS=0" },
	{ "sharing neither allowed nor not", { "SYMM_SHARE_DEVICE=yes" }, 0, 0, 0, "SYMM_SHARE_DEVICE=yes" },
	{ "multicast neither asked for nor not", { "SYMM_MULTICAST=on" }, 0, 0, 0, "SYMM_MULTICAST=on" },
	{ "early launch neither on nor off", { "SYMM_EARLY_LAUNCH=no" }, 0, 0, 0, "SYMM_EARLY_LAUNCH=no" },
	{ "a log level that there is not", { "SYMM_LOG=loud" }, 0, 0, 0, "SYMM_LOG=loud" },
	{ "epochs that begin nowhere", { "SYMM_EPOCH0=0x100000000" }, 0, 0, 0, "SYMM_EPOCH0=0x1" },
	{ "empty is not set",
	  { "SYMM_MULTICAST=", "SYMM_EARLY_LAUNCH=", "SYMM_LOG=", "SYMM_TIMEOUT_MS=", "SYMM_SHARE_DEVICE=" },
	  SYMM_ENOENT,
	  SYMM_ENOENT,
	  SYMM_ENOENT,
	  NULL },
	{ "a job name that is too long", { "SYMM_JOB=" LONG }, 0, 0, 0, "SYMM_JOB" },
	{ "a job name with a brace", { "SYMM_JOB=a}b" }, 0, 0, 0, "job name \"a}b\"" },
};

/* Only what the case says: the test itself may run under a launcher. */
static void set_environment(const struct launcher *launcher)
{
	clearenv();
	setenv("SYMM_URL", redis.url, 1);
	for (int i = 0; i < 6 && launcher->env[i] != NULL; i++)
		putenv((char *)(uintptr_t)launcher->env[i]);
}

static int launched(int rank, void *arg)
{
	const struct launcher *launcher = arg;
	struct symm_context *context;
	struct symm_group *group;

	(void)rank;
	set_environment(launcher);
	if (launcher->error != NULL) {
		BAD(symm_open(NULL, &context), SYMM_EINVAL, launcher->error);
		return 0;
	}
	GOOD(symm_open(NULL, &context));
	CHECK(symm_context_rank(context) == launcher->rank, "%d", symm_context_rank(context));
	CHECK(symm_context_world_size(context) == launcher->size, "%d", symm_context_world_size(context));
	CHECK(symm_context_local_rank(context) == launcher->local, "%d", symm_context_local_rank(context));
	if (launcher->rank == SYMM_ENOENT)
		BAD(symm_group_join(context, "g", SYMM_AUTO, SYMM_AUTO, 100, &group), SYMM_EINVAL, "SYMM_RANK");
	GOOD(symm_close(context));
	return 0;
}

/* All of a job by its environment alone. */
static int launched_together(int rank, void *arg)
{
	struct symm_context *context;
	struct symm_group *group;
	char text[16];

	(void)arg;
	clearenv();
	setenv("SYMM_URL", redis.url, 1);
	snprintf(text, sizeof(text), "%d", rank);
	setenv("SLURM_PROCID", text, 1);
	setenv("SLURM_NTASKS", "3", 1);
	GOOD(symm_open(NULL, &context));
	GOOD(symm_group_join(context, "auto", SYMM_AUTO, SYMM_AUTO, 10000, &group));
	CHECK(symm_group_rank(group) == rank && symm_group_world_size(group) == 3);
	GOOD(symm_close(context));
	return 0;
}

static void test_launchers(void)
{
	for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++)
		run(launchers[i].name, 1, launched, (void *)(uintptr_t)&launchers[i]);
	run("3 by their environment", 3, launched_together, NULL);
}

/* ---- wrong arguments ---- */

struct refusal {
	const char *name;
	bool at_open; /* else at the join */
	const char *url, *job, *group;
	int rank, world;
	int code;
	const char *text;
};

static const struct refusal refusals[] = {
	{ "rank beyond the world", true, NULL, NULL, NULL, 3, 3, SYMM_EINVAL, "rank 3" },
	{ "negative rank", true, NULL, NULL, NULL, -2, 3, SYMM_EINVAL, "rank -2" },
	{ "world size 0", true, NULL, NULL, NULL, 0, 0, SYMM_EINVAL, "world size 0" },
	{ "negative world size", true, NULL, NULL, NULL, 0, -7, SYMM_EINVAL, "world size -7" },
	{ "blank in the job name", true, NULL, "a b", NULL, 0, 1, SYMM_EINVAL, "job name" },
	{ "empty job name", true, NULL, "", NULL, 0, 1, SYMM_EINVAL, "job name" },
	{ "long job name", true, NULL, LONG, NULL, 0, 1, SYMM_EINVAL, "job name" },
	{ "empty URL", true, "", NULL, NULL, 0, 1, SYMM_EINVAL, "SYMM_URL" },
	{ "URL of another scheme", true, "http://localhost", NULL, NULL, 0, 1, SYMM_EINVAL, "redis://" },
	{ "URL with a bad port", true, "redis://localhost:99999", NULL, NULL, 0, 1, SYMM_EINVAL, "port" },
	{ "no such socket", true, "unix:///nonexistent/socket", NULL, NULL, 0, 1, SYMM_ESTORE, "/nonexistent/socket" },
	{ "nobody at the port", true, "redis://127.0.0.1:1", NULL, NULL, 0, 1, SYMM_ESTORE, "127.0.0.1:1" },
	{ "rank beyond the group", false, NULL, NULL, "g", 3, 3, SYMM_EINVAL, "rank 3 is not in a group of 3" },
	{ "negative rank of a group", false, NULL, NULL, "g", -2, 3, SYMM_EINVAL, "rank -2 is not in a group of 3" },
	{ "group of 0", false, NULL, NULL, "g", 0, 0, SYMM_EINVAL, "group of 0" },
	{ "group of -7", false, NULL, NULL, "g", 0, -7, SYMM_EINVAL, "group of -7" },
	{ "nobody says which rank", false, NULL, NULL, "g", SYMM_AUTO, 1, SYMM_EINVAL, "SYMM_RANK" },
	{ "empty group name", false, NULL, NULL, "", 0, 1, SYMM_EINVAL, "group name" },
	{ "brace in the group name", false, NULL, NULL, "a}b", 0, 1, SYMM_EINVAL, "group name \"a}b\"" },
	{ "slash in the group name", false, NULL, NULL, "a/b", 0, 1, SYMM_EINVAL, "group name" },
	{ "long group name", false, NULL, NULL, LONG, 0, 1, SYMM_EINVAL, "group name" },
};

static int refused(int rank, void *arg)
{
	const struct refusal *c = arg;
	struct rig r = rig_of(c->at_open ? c->world : SYMM_AUTO);
	struct symm_group *group;
	double start = seconds_now();

	(void)rank;
	clearenv();
	r.timeout_ms = 400;
	r.url = c->url != NULL ? c->url : rig.url;
	r.job = c->job;
	if (c->at_open) {
		BAD(rig_open(&r, c->rank), c->code, c->text);
		LATE(start, 0.9);
		return 0;
	}
	GOOD(rig_open(&r, SYMM_AUTO));
	BAD(symm_group_join(r.context, c->group, c->rank, c->world, 0, &group), c->code, c->text);
	GOOD(symm_close(r.context));
	return 0;
}

static int odd_arguments(int rank, void *arg)
{
	struct rig r = rig_of(1);
	struct symm_options options = SYMM_OPTIONS_INIT;
	struct symm_context *context;
	struct symm_group *group;

	(void)arg;
	GOOD(rig_open(&r, rank));
	BAD(symm_group_join(r.context, NULL, 0, 1, 0, &group), SYMM_EINVAL, "NULL");
	BAD(symm_group_join(r.context, "g", 0, 1, 0, NULL), SYMM_EINVAL, "NULL");
	BAD(symm_group_join(r.context, "g", 0, 1, -1, &group), SYMM_EINVAL, "timeout_ms is -1");
	BAD(symm_group_find(r.context, NULL, &group), SYMM_EINVAL, "NULL");
	BAD(symm_group_find(r.context, "g", NULL), SYMM_EINVAL, "NULL");
	BAD(symm_open(&options, NULL), SYMM_EINVAL, "NULL");
	options.size = 3;
	BAD(symm_open(&options, &context), SYMM_EINVAL, "SYMM_OPTIONS_INIT");
	options = (struct symm_options)SYMM_OPTIONS_INIT;
	options.url = rig.url;
	options.timeout_ms = -5;
	BAD(symm_open(&options, &context), SYMM_EINVAL, "negative");
	options.timeout_ms = 0;
	options.device = "abacus";
	BAD(symm_open(&options, &context), SYMM_EINVAL, "abacus");
	GOOD(symm_close(NULL));
	GOOD(symm_group_leave(NULL));
	GOOD(symm_close(r.context));
	return 0;
}

/* ---- handles ---- */

static int handles(int rank, void *arg)
{
	struct rig r = rig_of(1);
	struct symm_group *group, *strange[] = { NULL, (void *)&r, (void *)1, (void *)&redis };
	struct symm_context *context;
	void *ptr;

	(void)arg;
	for (size_t i = 0; i < 4; i++)
		BAD(symm_group_status(strange[i]), SYMM_EINVAL, "not a symm_group");
	GOOD(rig_join(&r, rank));
	for (size_t i = 0; i < 4; i++) {
		BAD(symm_group_status(strange[i]), SYMM_EINVAL, "not a symm_group");
		CHECK(symm_group_name(strange[i]) == NULL && symm_group_store(strange[i]) == NULL);
		CHECK(symm_context_rank((void *)strange[i]) == SYMM_EINVAL);
		CHECK(symm_alloc(strange[i], 8, NULL, &ptr) == SYMM_EINVAL);
	}
	BAD(symm_group_status((void *)r.context), SYMM_ESTALE, "symm_group");
	BAD(symm_group_status((void *)((char *)r.group + 1)), SYMM_ESTALE, "symm_group");
	BAD(symm_close((void *)r.group), SYMM_ESTALE, "symm_context");
	group = r.group;
	GOOD(symm_group_leave(r.group));
	BAD(symm_group_leave(group), SYMM_ESTALE, "no more");
	BAD(symm_group_status(group), SYMM_ESTALE, "no more");
	CHECK(symm_group_rank(group) == SYMM_ESTALE && symm_group_generation(group) == SYMM_ESTALE);
	GOOD(symm_group_join(r.context, "world", 0, 1, 0, &r.group));
	BAD(symm_group_status(group), SYMM_ESTALE, "no more");
	GOOD(symm_close(r.context));
	BAD(symm_group_status(r.group), SYMM_ESTALE, "no more");
	BAD(symm_close(r.context), SYMM_ESTALE, "no more");
	BAD(symm_group_find(r.context, "world", &group), SYMM_ESTALE, "no more");
	GOOD(rig_open(&r, rank));
	context = r.context;
	GOOD(symm_close(context));
	return 0;
}

/* ---- passwords ---- */

static int wrong_password(int rank, void *arg)
{
	struct rig r = rig_of(1);
	double start = seconds_now();

	(void)rank;
	r.url = arg;
	BAD(rig_open(&r, 0), SYMM_EAUTH, "127.0.0.1");
	LATE(start, 0.5);
	CHECK(strstr(symm_last_error(), "open-sesame") == NULL, "%s", symm_last_error());
	return 0;
}

static void test_password(void)
{
	struct tap_redis locked;
	char url[128];

	tap_redis_start(&locked, TAP_REDIS_PASSWORD);
	snprintf(url, sizeof(url), "redis://ann:open-sesame@127.0.0.1:%d", locked.port);
	run("wrong password", 1, wrong_password, url);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%d", locked.port);
	run("no password", 1, wrong_password, url);
	tap_redis_stop(&locked);
}

int main(void)
{
	if (!need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	rig.url = redis.url;
	test_launchers();
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		run(refusals[i].name, 1, refused, (void *)(uintptr_t)&refusals[i]);
	run("odd arguments", 1, odd_arguments, NULL);
	run("handles", 1, handles, NULL);
	test_password();
	tap_redis_stop(&redis);
	return tap_done();
}
