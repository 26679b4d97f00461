/* symm_open where the CUDA driver or the device is absent or of no use: the error tells what to do, and the host device
 * works on in the same process. */
#include "cuda_help.h"

#include <sys/wait.h>

static struct tap_redis redis;

static int open_on(const char *device, struct symm_context **context)
{
	struct symm_options options = SYMM_OPTIONS_INIT;

	options.url = redis.url;
	options.job = "test";
	options.device = device;
	options.rank = 0;
	options.local_rank = 0;
	options.world_size = 1;
	options.timeout_ms = 20000;
	return symm_open(&options, context);
}

struct opening {
	const char *name;
	const char *variable, *value;
	const char *device;
	int code;
	const char *text; /* NULL: what is said of kernels that the driver does not take */
};

static const struct opening openings[] = {
	{ "no library", "SYMM_LIBCUDA", "/nonexistent", "cuda", SYMM_EDEVICE, "SYMM_LIBCUDA names this file" },
	{ "another library", "SYMM_LIBCUDA", "libm.so.6", "cuda", SYMM_EDEVICE, "is no CUDA driver" },
	{ "the toolkit's stub", "SYMM_FAKE_STUB", "1", "cuda", SYMM_EDEVICE, "take its folder out of LD_LIBRARY_PATH" },
	{ "a driver that is too old", "SYMM_FAKE_DRIVER_VERSION", "11030", "cuda", SYMM_EDEVICE, "11.4 or later" },
	{ "the oldest driver", "SYMM_FAKE_DRIVER_VERSION", "11040", "cuda", 0, NULL },
	{ "a driver without cuFuncLoad", "SYMM_FAKE_DRIVER_VERSION", "12030", "cuda", 0, NULL },
	{ "a newer driver", "SYMM_FAKE_DRIVER_VERSION", "14000", "cuda", 0, NULL },
	{ "no device", "SYMM_FAKE_DEVICES", "0", "cuda", SYMM_EDEVICE, "look at CUDA_VISIBLE_DEVICES" },
	{ "no visible device", "CUDA_VISIBLE_DEVICES", "", "cuda", SYMM_EDEVICE, "look at CUDA_VISIBLE_DEVICES" },
	{ "no such device", NULL, NULL, "cuda:9", SYMM_EDEVICE, "2 GPUs are visible" },
	{ "no such text", NULL, NULL, "cuda:x", SYMM_EINVAL, "\"cuda:N\"" },
	{ "no such text either", NULL, NULL, "cuda:-1", SYMM_EINVAL, "\"cuda:N\"" },
	{ "an old GPU", "SYMM_FAKE_CC", "7.0", "cuda", SYMM_EDEVICE,
	  "compute capability 7.0: symm needs 8.0 or later" },
	{ "a fabric that is not one", "SYMM_FAKE_FABRIC", "lies", "cuda", 0, NULL },
	{ "another process has the GPU", "SYMM_FAKE_FAIL", "cuDevicePrimaryCtxRetain:*=46", "cuda", SYMM_EDEVICE,
	  "exclusive mode" },
	{ "no fabric manager", "SYMM_FAKE_FAIL", "cuInit:*=802", "cuda", SYMM_EDEVICE, "nvidia-fabricmanager" },
	{ "a library of another driver", "SYMM_FAKE_FAIL", "cuInit:*=803", "cuda", SYMM_EDEVICE,
	  "load the new driver, or restart" },
	{ "kernels of a newer toolkit", "SYMM_FAKE_FAIL", "cuModuleLoadData:*=222", "cuda", SYMM_EDEVICE, NULL },
	{ "kernels for other GPUs", "SYMM_FAKE_FAIL", "cuModuleLoadData:*=209", "cuda", SYMM_EDEVICE, NULL },
	{ "kernels that are none", "SYMM_FAKE_FAIL", "cuModuleLoadData:*=200", "cuda", SYMM_EDEVICE, NULL },
	{ "a libcuda too new for the GPU", "SYMM_FAKE_FAIL", "cuInit:*=804", "cuda", SYMM_EDEVICE,
	  "take the compat folder out of LD_LIBRARY_PATH" },
	{ "no more files", "SYMM_FAKE_FAIL", "cuMemHostAlloc:*=304", "cuda", SYMM_EDEVICE,
	  "too many open files? (ulimit -n)" },
	{ "no virtual memory management", "SYMM_FAKE_ATTRIBUTES", "102=0", "cuda", SYMM_EDEVICE,
	  "cannot share memory between processes" },
	{ "no file descriptors", "SYMM_FAKE_ATTRIBUTES", "103=0", "cuda", SYMM_EDEVICE,
	  "cannot share memory between processes" },
	{ "no pinned memory", "SYMM_FAKE_FAIL", "cuMemHostAlloc:*=2", "cuda", SYMM_ENOMEM, "bytes are free" },
};

/* One context on the host, before and after. */
static int host_works(void)
{
	struct symm_context *context;
	struct symm_group *group;
	struct symm_mem *mem;
	void *ptr;

	GOOD(open_on("host", &context));
	GOOD(symm_group_join(context, "g", 0, 1, 0, &group));
	GOOD(symm_alloc(group, 64, NULL, &ptr));
	GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_close(context));
	return 0;
}

static const char *text_of(const struct opening *o)
{
	if (o->text != NULL)
		return o->text;
	return memcmp(symm_cuda_fatbin, "NOKERNEL", 8) == 0
		       ? "this build of symm has no CUDA kernels: build it where nvcc is"
		       : "kernels by nvcc 13 need a driver of 580 or later";
}

static int open_as_told(int rank, void *arg)
{
	const struct opening *o = arg;
	struct symm_context *context = NULL, *untouched;

	(void)rank;
	if (o->variable != NULL)
		setenv(o->variable, o->value, 1);
	DO(host_works());
	for (int again = 0; again < 2; again++) {
		untouched = context;
		if (o->code != 0) {
			BAD(open_on(o->device, &context), o->code, text_of(o));
			CHECK(context == untouched, "outputs are written on success only");
		} else {
			GOOD(open_on(o->device, &context));
			GOOD(symm_close(context));
			context = NULL;
		}
		DO(host_works());
	}
	return 0;
}

/* A driver without what multicast needs can do all else. */
static int without_multicast(int rank, void *arg)
{
	(void)rank;
	(void)arg;
	setenv("SYMM_FAKE_DRIVER_VERSION", "12000", 1);
	GOOD(symm_cuda_load(&cu));
	CHECK(cu->cuMulticastCreate == NULL && cu->cuFuncLoad == NULL && cu->cuMemMap != NULL);
	CHECK(cu->version == 12000, "%d", cu->version);
	return 0;
}

/* Each function by the version in which we declare it, as the newest may have other parameters; and no stream of ours
 * waits for the caller's default stream, or makes it wait. */
static int manners(int rank, void *arg)
{
	void (*look)(struct symm_fake_manners * manners);
	struct rig rig = { .url = redis.url, .world = 1 };
	struct symm_fake_manners m;
	struct symm_mem *mem;
	void *ptr, *stream;

	(void)arg;
	*(void **)&look = fake("symm_fake_manners");
	GOOD(rig_join(&rig, rank));
	GOOD(rig_memory(&rig, 4096, &ptr, &mem));
	GOOD(symm_barrier(mem, 0, 0));
	GOOD(symm_stream_create(rig.context, &stream));
	GOOD(symm_barrier_on_stream(mem, 0, 0, stream));
	GOOD(symm_stream_destroy(stream));
	GOOD(symm_close(rig.context));
	look(&m);
	CHECK(fake_calls("cuGetProcAddress") > 50 && m.other_versions == 0, "%d functions by another version",
	      m.other_versions);
	CHECK(fake_calls("cuStreamCreate") >= 2 && m.blocking_streams == 0, "%d streams that block",
	      m.blocking_streams);
	return 0;
}

/* No library that is called so, and none named. */
enum { THERE_IS_ONE = 2 };

static int without_driver(int rank, void *arg)
{
	(void)rank;
	(void)arg;
	unsetenv("SYMM_LIBCUDA");
	if (dlopen("libcuda.so.1", RTLD_LAZY) != NULL)
		return THERE_IS_ONE;
	BAD(symm_cuda_load(&cu), SYMM_EDEVICE, "install the NVIDIA driver, or start the container with GPUs");
	return 0;
}

/* A GPU asked for beside a GPU that is open. */
static int beside(int rank, void *arg)
{
	struct symm_context *first, *second;

	(void)rank;
	(void)arg;
	GOOD(open_on("cuda:0", &first));
	BAD(open_on("cuda:999", &second), SYMM_EDEVICE, "cuda:999");
	GOOD(open_on("cuda", &second));
	GOOD(symm_close(first));
	GOOD(symm_close(second));
	return host_works();
}

int main(void)
{
	int pid, status;

	/* First: the fake driver, once it is loaded, is libcuda.so.1 for this process and those that it forks. */
	tap_ranks_start(1, without_driver, NULL, &pid);
	status = tap_wait(pid, 30);
	if (!driver_choose() || !need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
		struct opening o = openings[i];

		if (strcmp(o.variable != NULL ? o.variable : "", "SYMM_LIBCUDA") == 0 || fake_only(o.name, 1))
			tap_ranks(o.name, 1, open_as_told, &o, 30);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == THERE_IS_ONE)
		tap_skip(1, "no driver: there is one");
	else
		is_int(status, 0, "no driver");
	if (fake_only("manners", 1))
		tap_ranks("manners", 1, manners, NULL, 30);
	if (fake_only("a driver without multicast", 1))
		tap_ranks("a driver without multicast", 1, without_multicast, NULL, 30);
	tap_ranks("a device that is not there, beside one that is", 1, beside, NULL, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
