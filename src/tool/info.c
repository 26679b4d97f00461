#include "base.h"
#include "connect.h"
#include "device.h"
#include "cuda_info.h"
#include "json.h"
#include "keyspace.h"
#include "launch.h"
#include "nvtx.h"
#include "tool.h"
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char help[] = "usage: symm info [--device DEVICE] [--json]\n"
			   "Tells what symm finds here: version, device, limits, the rank that the\n"
			   "environment gives, and the store that SYMM_URL names, without its secrets.\n\n"
			   "  --device D     host, cuda or cuda:INDEX, in full (default: host, and whether\n"
			   "                 there is a CUDA driver)\n"
			   "  --json         one JSON object\n"
			   "  --help, -h     this text\n\n"
			   "Exit status 1: the store or the device cannot be reached, or the environment is wrong.\n";

struct info {
	const char *device; /* asked for; NULL: none */
	struct symm_cuda_info cuda;

	/* the host device */
	int cpus;
	size_t page, memory, available; /* bytes; 0: not known */
	int memfd_errno;                /* 0: sealed memory files work */
	const char *link_dir;           /* NULL: none */
	struct rlimit nofile, memlock;

	struct symm_launch launch;
	char launch_error[SYMM_ERROR_TEXT]; /* "": none */
	char wrong[5][SYMM_ERROR_TEXT];     /* other variables that symm_open would reject */
	int n_wrong;

	/* the store */
	bool store_named;                  /* SYMM_URL is set */
	char store_error[SYMM_ERROR_TEXT]; /* "": it answers */
	char store_name[512];
	char software[64]; /* "redis 7.0.15"; "": it does not say */
};

/* ---- finding out ---- */

size_t symm_tool_meminfo(const char *field)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t length = strlen(field), kib = 0;
	char line[128];

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, field, length) == 0 && line[length] == ':')
			kib = strtoull(line + length + 1, NULL, 10);
	fclose(file);
	return kib << 10;
}

int symm_tool_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* What every allocation needs: an anonymous file that can be sealed. No /dev/shm is asked for. */
static int try_memfd(void)
{
	int fd = memfd_create("symm-info", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void find_host(struct info *info)
{
	info->cpus = symm_tool_cpus();
	info->page = (size_t)sysconf(_SC_PAGESIZE);
	info->memory = symm_tool_meminfo("MemTotal");
	info->available = symm_tool_meminfo("MemAvailable");
	info->memfd_errno = try_memfd();
	info->link_dir = symm_tool_env("SYMM_LINK_DIR");
	getrlimit(RLIMIT_NOFILE, &info->nofile);
	getrlimit(RLIMIT_MEMLOCK, &info->memlock);
}

static void find_launch(struct info *info)
{
	struct symm_launch *launch = &info->launch;
	int rc = symm_launch_read(launch);

	if (rc == 0 && launch->world_size != SYMM_AUTO && launch->rank >= launch->world_size)
		rc = symm_error(SYMM_EINVAL, "rank %d is not in the world of size %d (from %s)", launch->rank,
				launch->world_size, launch->source);
	if (rc == 0)
		rc = symm_name_check("job", launch->job);
	if (rc != 0)
		snprintf(info->launch_error, sizeof(info->launch_error), "%s", symm_last_error());
}

static void note_wrong(struct info *info, int rc)
{
	if (rc != 0)
		snprintf(info->wrong[info->n_wrong++], sizeof(info->wrong[0]), "%s", symm_last_error());
}

static void find_wrong(struct info *info)
{
	const char *name = symm_tool_env("SYMM_DEVICE");
	struct symm_device_wish wish = { .text = name, .local_rank = info->launch.local_rank };
	struct symm_device *device;
	int64_t ms;
	int rc;

	note_wrong(info, symm_launch_flag("SYMM_SHARE_DEVICE", &wish.share));
	if (name != NULL) {
		rc = symm_device_open(&wish, &device);
		if (rc == 0)
			symm_device_close(device);
		note_wrong(info, symm_error_prefix(rc, "SYMM_DEVICE"));
	}
	note_wrong(info, symm_launch_ms("SYMM_TIMEOUT_MS", 1, &ms));
	note_wrong(info, symm_launch_ms("SYMM_LEASE_MS", 1, &ms));
	note_wrong(info, symm_launch_check());
}

/* A server whose rules forbid INFO may still answer everything that symm needs. */
static void ask_software(struct symm_tool_store *connection, struct info *info)
{
	struct symm_command command;
	struct symm_reply *reply;
	char version[32];
	const char *text;
	size_t length;

	symm_command_init(&command, NULL);
	symm_command_text(&command, "INFO");
	symm_command_text(&command, "server");
	if (symm_store_call(connection->store, &command, connection->deadline, &reply) != 0)
		return;
	text = symm_reply_text(reply, &length);
	if (text != NULL && symm_tool_field(text, "valkey_version", version, sizeof(version)))
		snprintf(info->software, sizeof(info->software), "valkey %s", version);
	else if (text != NULL && symm_tool_field(text, "redis_version", version, sizeof(version)))
		snprintf(info->software, sizeof(info->software), "redis %s", version);
	symm_reply_free(reply);
}

static void find_store(struct info *info)
{
	struct symm_tool_store connection;
	const char *url = symm_tool_env("SYMM_URL");

	info->store_named = url != NULL;
	if (!info->store_named)
		return;
	if (symm_tool_connect(&connection, url) != 0) {
		snprintf(info->store_error, sizeof(info->store_error), "%s", symm_last_error());
		return;
	}
	snprintf(info->store_name, sizeof(info->store_name), "%s", symm_store_name(connection.store));
	ask_software(&connection, info);
	symm_tool_disconnect(&connection);
}

/* ---- telling ---- */

static const char *limit_text(rlim_t limit, char out[24])
{
	if (limit == RLIM_INFINITY)
		return "unlimited";
	snprintf(out, 24, "%ju", (uintmax_t)limit);
	return out;
}

static void print_limit(const char *what, const struct rlimit *limit)
{
	char soft[24], hard[24];

	printf("%-12s soft %s, hard %s\n", what, limit_text(limit->rlim_cur, soft), limit_text(limit->rlim_max, hard));
}

static void print_launch(const struct info *info)
{
	const struct symm_launch *launch = &info->launch;

	if (info->launch_error[0] != '\0')
		printf("rank         wrong: %s\n", info->launch_error);
	else if (launch->rank == SYMM_AUTO || launch->world_size == SYMM_AUTO)
		printf("rank         nobody says; job %s\n", launch->job);
	else
		printf("rank         %d of %d (from %s); job %s\n", launch->rank, launch->world_size, launch->source,
		       launch->job);
}

static void print_store(const struct info *info)
{
	if (!info->store_named)
		puts("store        none: SYMM_URL is not set");
	else if (info->store_error[0] != '\0')
		printf("store        %s\n", info->store_error);
	else
		printf("store        %s (%s)\n", info->store_name,
		       info->software[0] != '\0' ? info->software : "does not say what it is");
}

static bool wants_cuda(const struct info *info)
{
	return info->device != NULL && strcmp(info->device, "host") != 0;
}

static void print_host(const struct info *info)
{
	printf("device host  %d cpus, %zu MiB of memory, %zu MiB available, pages of %zu bytes\n", info->cpus,
	       info->memory >> 20, info->available >> 20, info->page);
	printf("memfd        %s\n", info->memfd_errno == 0 ? "works (needs no /dev/shm)" : strerror(info->memfd_errno));
}

static const char *nvtx_text(void)
{
	if (!symm_nvtx_built)
		return "not built in: configure found no nvtx3/nvToolsExt.h";
	return symm_nvtx_start()
		       ? "ranges in domain symm, for the tool that is loaded"
		       : "ranges in domain symm, for a tool that NVTX_INJECTION64_PATH names: there is none now";
}

static void print_text(const struct info *info)
{
	printf("symm         %s, ABI %d\n", symm_version(), SYMM_ABI);
	if (!wants_cuda(info))
		print_host(info);
	if (wants_cuda(info) || (info->device == NULL && info->cuda.error[0] == '\0'))
		symm_cuda_info_print(&info->cuda);
	printf("links        abstract sockets%s%s\n",
	       info->link_dir != NULL ? ", and paths in " : "; SYMM_LINK_DIR is not set",
	       info->link_dir != NULL ? info->link_dir : "");
	printf("nvtx         %s\n", nvtx_text());
	print_limit("open files", &info->nofile);
	print_limit("locked bytes", &info->memlock);
	print_launch(info);
	for (int i = 0; i < info->n_wrong; i++)
		printf("setting      wrong: %s\n", info->wrong[i]);
	print_store(info);
}

static void json_limit(struct symm_json *json, const char *key, const struct rlimit *limit)
{
	symm_json_open(json, key, '{');
	symm_json_int(json, "soft", limit->rlim_cur == RLIM_INFINITY ? -1 : (int64_t)limit->rlim_cur);
	symm_json_int(json, "hard", limit->rlim_max == RLIM_INFINITY ? -1 : (int64_t)limit->rlim_max);
	symm_json_close(json, '}');
}

static void json_rank(struct symm_json *json, const char *key, int rank)
{
	if (rank == SYMM_AUTO)
		symm_json_text(json, key, NULL);
	else
		symm_json_int(json, key, rank);
}

static void json_host(struct symm_json *json, const struct info *info)
{
	symm_json_open(json, NULL, '{');
	symm_json_text(json, "device", "host");
	symm_json_int(json, "cpus", info->cpus);
	symm_json_int(json, "memory_bytes", (int64_t)info->memory);
	symm_json_int(json, "available_bytes", (int64_t)info->available);
	symm_json_int(json, "page_bytes", (int64_t)info->page);
	symm_json_bool(json, "memfd", info->memfd_errno == 0);
	symm_json_text(json, "link_dir", info->link_dir);
	symm_json_close(json, '}');
}

static void json_devices(struct symm_json *json, const struct info *info)
{
	symm_json_open(json, "devices", '[');
	if (wants_cuda(info))
		symm_cuda_info_json(&info->cuda, json);
	else
		json_host(json, info);
	symm_json_close(json, ']');
	if (info->device == NULL || wants_cuda(info))
		symm_cuda_info_json_driver(&info->cuda, json, "cuda");
}

static void json_launch(struct symm_json *json, const struct info *info)
{
	symm_json_open(json, "launch", '{');
	symm_json_text(json, "error", info->launch_error[0] != '\0' ? info->launch_error : NULL);
	if (info->launch_error[0] == '\0') {
		symm_json_text(json, "source", info->launch.source);
		json_rank(json, "rank", info->launch.rank);
		json_rank(json, "world_size", info->launch.world_size);
		json_rank(json, "local_rank", info->launch.local_rank);
		symm_json_text(json, "job", info->launch.job);
	}
	symm_json_close(json, '}');
}

static void json_store(struct symm_json *json, const struct info *info)
{
	if (!info->store_named) {
		symm_json_text(json, "store", NULL);
		return;
	}
	symm_json_open(json, "store", '{');
	symm_json_text(json, "error", info->store_error[0] != '\0' ? info->store_error : NULL);
	if (info->store_error[0] == '\0') {
		symm_json_text(json, "name", info->store_name);
		symm_json_text(json, "software", info->software[0] != '\0' ? info->software : NULL);
	}
	symm_json_close(json, '}');
}

static void print_json(const struct info *info)
{
	struct symm_json json = { stdout, false };

	symm_json_open(&json, NULL, '{');
	symm_json_text(&json, "version", symm_version());
	symm_json_int(&json, "abi", SYMM_ABI);
	json_devices(&json, info);
	symm_json_open(&json, "limits", '{');
	json_limit(&json, "nofile", &info->nofile);
	json_limit(&json, "memlock", &info->memlock);
	symm_json_close(&json, '}');
	symm_json_text(&json, "nvtx", !symm_nvtx_built ? "absent" : symm_nvtx_start() ? "attached" : "idle");
	json_launch(&json, info);
	symm_json_open(&json, "wrong", '[');
	for (int i = 0; i < info->n_wrong; i++)
		symm_json_text(&json, NULL, info->wrong[i]);
	symm_json_close(&json, ']');
	json_store(&json, info);
	symm_json_close(&json, '}');
	symm_json_end(&json);
}

static int parse(int argc, char **argv, struct info *info, bool *json)
{
	static const struct option known[] = { { "json", no_argument, NULL, 'j' },
					       { "device", required_argument, NULL, 'd' },
					       { NULL, 0, NULL, 0 } };
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == '?')
			return symm_tool_misuse(&symm_tool_info, NULL);
		if (option == 'j')
			*json = true;
		else
			info->device = optarg;
	}
	if (optind < argc)
		return symm_tool_misuse(&symm_tool_info, "info: what is '%s'?", argv[optind]);
	if (info->device != NULL && !symm_tool_is_device(info->device))
		return symm_tool_misuse(&symm_tool_info, "info: --device wants host, cuda or cuda:INDEX, not '%s'",
					info->device);
	return SYMM_TOOL_OK;
}

static bool is_well(const struct info *info)
{
	return info->launch_error[0] == '\0' && info->n_wrong == 0 && info->store_error[0] == '\0' &&
	       (!wants_cuda(info) || info->cuda.error[0] == '\0');
}

static int info_run(int argc, char **argv)
{
	struct info info = { 0 };
	bool json = false;
	int status = parse(argc, argv, &info, &json);

	if (status != SYMM_TOOL_OK)
		return status;
	find_host(&info);
	symm_cuda_info_find(wants_cuda(&info) ? info.device : NULL, &info.cuda);
	find_launch(&info);
	find_wrong(&info);
	find_store(&info);
	(json ? print_json : print_text)(&info);
	symm_cuda_info_free(&info.cuda);
	return is_well(&info) ? SYMM_TOOL_OK : SYMM_TOOL_FAILED;
}

const struct symm_tool_command symm_tool_info = { "info", "tells what symm finds on this host", help, info_run };
