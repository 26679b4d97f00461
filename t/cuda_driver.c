/* symm_open where the CUDA driver or the device is absent or of no use: the error tells what to do, and the host device
 * works on in the same process. */
#include "cuda_help.h"

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
	const char *text;
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
	{ "kernels of a newer toolkit", "SYMM_FAKE_FAIL", "cuModuleLoadData:*=222", "cuda", SYMM_EDEVICE,
	  "" /* depends on whether this build has kernels */ },
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
			BAD(open_on(o->device, &context), o->code, o->text);
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
	if (!driver_choose() || !need_device(1))
		return 0;
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
		struct opening o = openings[i];

		if (strcmp(o.variable != NULL ? o.variable : "", "SYMM_LIBCUDA") == 0 || fake_only(o.name, 1))
			tap_ranks(o.name, 1, open_as_told, &o, 30);
	}
	if (fake_only("a driver without multicast", 1))
		tap_ranks("a driver without multicast", 1, without_multicast, NULL, 30);
	tap_ranks("a device that is not there, beside one that is", 1, beside, NULL, 60);
	tap_redis_stop(&redis);
	return tap_done();
}
