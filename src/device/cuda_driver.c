/* Finds the driver and its functions, each in the version that we declare: a later one may have other parameters. */
#include "device/cuda_api.h"

#include "error.h"
#include "log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	const char *name;
	int since;
	bool needed;
	size_t at; /* of the pointer in struct symm_cuda_api */
};

static const struct entry entries[] = {
#define ENTRY(name, since, needed, parameters) { #name, since, needed, offsetof(struct symm_cuda_api, name) },
	SYMM_CUDA_FUNCTIONS(ENTRY)
#undef ENTRY
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct symm_cuda_api driver; /* path is set once the library is open */
static void *library;
static bool ready;

/* ---- errors ---- */

static const struct {
	enum symm_cuda_result result;
	int code;
	const char *remedy;
} known[] = {
	{ SYMM_CUDA_OUT_OF_MEMORY, SYMM_ENOMEM, NULL },
	{ SYMM_CUDA_NOT_INITIALIZED, SYMM_EDEVICE,
	  "is this a child of fork of a process that has used CUDA? It can only after exec" },
	{ SYMM_CUDA_STUB_LIBRARY, SYMM_EDEVICE,
	  "this is the toolkit's stub, not a driver: take its folder out of LD_LIBRARY_PATH" },
	{ SYMM_CUDA_DEVICE_UNAVAILABLE, SYMM_EDEVICE,
	  "the GPU is in exclusive mode and another process has it, or it needs a reset" },
	{ SYMM_CUDA_NO_DEVICE, SYMM_EDEVICE,
	  "no GPU is visible: look at CUDA_VISIBLE_DEVICES, and in a container at its GPU option" },
	{ SYMM_CUDA_SYSTEM_NOT_READY, SYMM_EDEVICE, "is nvidia-fabricmanager running?" },
	{ SYMM_CUDA_SYSTEM_DRIVER_MISMATCH, SYMM_EDEVICE,
	  "libcuda and the kernel's driver differ: load the new driver, or restart" },
	{ SYMM_CUDA_COMPAT_NOT_SUPPORTED_ON_DEVICE, SYMM_EDEVICE,
	  "this GPU needs a driver as new as libcuda: take the compat folder out of LD_LIBRARY_PATH" },
	{ SYMM_CUDA_OPERATING_SYSTEM, SYMM_EDEVICE, "too many open files? (ulimit -n)" },
	{ SYMM_CUDA_NOT_SUPPORTED, SYMM_ENOTSUP, NULL },
	{ SYMM_CUDA_PEER_ACCESS_UNSUPPORTED, SYMM_EUNREACH, NULL },
	{ SYMM_CUDA_ILLEGAL_ADDRESS, SYMM_EDEVICE, "a kernel of this process failed: its CUDA context is lost" },
	{ SYMM_CUDA_LAUNCH_FAILED, SYMM_EDEVICE, "a kernel of this process failed: its CUDA context is lost" },
	{ SYMM_CUDA_STREAM_CAPTURE_UNSUPPORTED, SYMM_EINVAL, NULL },
	{ SYMM_CUDA_STREAM_CAPTURE_INVALIDATED, SYMM_EINVAL, NULL },
	{ SYMM_CUDA_STREAM_CAPTURE_IMPLICIT, SYMM_EINVAL,
	  "the default stream cannot be used while another stream is captured" },
};

static void describe(enum symm_cuda_result result, char text[192])
{
	const char *name = NULL, *meaning = NULL;

	if (driver.cuGetErrorName != NULL && driver.cuGetErrorString != NULL) {
		driver.cuGetErrorName(result, &name);
		driver.cuGetErrorString(result, &meaning);
	}
	if (name != NULL && meaning != NULL)
		snprintf(text, 192, "%s %d (%s)", name, (int)result, meaning);
	else
		snprintf(text, 192, "CUDA error %d", (int)result);
}

int symm_cuda_error(enum symm_cuda_result result, const char *format, ...)
{
	char what[256], more[192] = "", text[192];
	int code = SYMM_EDEVICE;
	size_t free, total;
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].result != result)
			continue;
		code = known[i].code;
		if (known[i].remedy != NULL)
			snprintf(more, sizeof(more), ": %s", known[i].remedy);
	}
	if (result == SYMM_CUDA_OUT_OF_MEMORY && driver.cuMemGetInfo != NULL &&
	    driver.cuMemGetInfo(&free, &total) == SYMM_CUDA_SUCCESS)
		snprintf(more, sizeof(more), ": %zu of %zu bytes are free", free, total);
	describe(result, text);
	return symm_error(code, "%s: %s%s", what, text, more);
}

void symm_cuda_uuid_format(const struct symm_cuda_uuid *uuid, char text[48])
{
	size_t used = (size_t)snprintf(text, 48, "GPU");

	for (size_t i = 0; i < sizeof(uuid->bytes); i++)
		used += (size_t)snprintf(text + used, 48 - used,
					 i == 0 || (i >= 4 && i <= 10 && i % 2 == 0) ? "-%02x" : "%02x",
					 (unsigned char)uuid->bytes[i]);
}

/* ---- loading ---- */

/* cuGetProcAddress grew a parameter in CUDA 12. */
struct finder {
	enum symm_cuda_result (*find5)(const char *name, void **address, int version, uint64_t flags, int *found);
	enum symm_cuda_result (*find4)(const char *name, void **address, int version, uint64_t flags);
};

static void *find(const struct finder *finder, const struct entry *entry)
{
	enum symm_cuda_result result;
	void *address = NULL;
	int found;

	if (finder->find5 != NULL)
		result = finder->find5(entry->name, &address, entry->since, SYMM_CUDA_GET_PROC_ADDRESS_LEGACY_STREAM,
				       &found);
	else
		result = finder->find4(entry->name, &address, entry->since, SYMM_CUDA_GET_PROC_ADDRESS_LEGACY_STREAM);
	return result == SYMM_CUDA_SUCCESS ? address : NULL;
}

/* A function by the name that it always had; function: the address of a pointer to it. */
static void look_up(const char *name, void *function)
{
	void *address = dlsym(library, name);

	memcpy(function, &address, sizeof(address));
}

static int too_old(const char *missing)
{
	enum symm_cuda_result (*get_version)(int *version);
	int version = 0;

	look_up("cuDriverGetVersion", &get_version);
	if (get_version != NULL)
		get_version(&version);
	return symm_error(SYMM_EDEVICE, "the CUDA driver (%s, for CUDA %d.%d) has no %s: install one for 11.4 or later",
			  driver.path, version / 1000, version % 1000 / 10, missing);
}

static int find_functions(void)
{
	struct finder finder;

	look_up("cuGetProcAddress_v2", &finder.find5);
	look_up("cuGetProcAddress", &finder.find4);
	if (finder.find5 == NULL && finder.find4 == NULL)
		return too_old("cuGetProcAddress");
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		void *address = find(&finder, &entries[i]);

		if (address == NULL && entries[i].needed)
			return too_old(entries[i].name);
		memcpy((char *)&driver + entries[i].at, &address, sizeof(address));
	}
	return 0;
}

/* Opened once and never closed: a driver that was initialised cannot be unloaded. */
static int open_library(void)
{
	const char *path = getenv("SYMM_LIBCUDA");
	bool named = path != NULL && *path != '\0';

	if (library != NULL)
		return 0;
	if (!named)
		path = "libcuda.so.1";
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		return symm_error(SYMM_EDEVICE, "no CUDA driver: %s: %s", dlerror(),
				  named ? "SYMM_LIBCUDA names this file: unset it, or name the driver's library"
					: "install the NVIDIA driver, or start the container with GPUs");
	driver.path = strdup(path);
	if (driver.path == NULL)
		driver.path = "libcuda";
	return 0;
}

static int initialise(void)
{
	enum symm_cuda_result (*init)(unsigned int flags), result;
	int rc;

	look_up("cuInit", &init);
	if (init == NULL)
		return symm_error(SYMM_EDEVICE, "%s is no CUDA driver: it has no cuInit", driver.path);
	result = init(0);
	/* A stub has no other function to be found. */
	if (result != SYMM_CUDA_STUB_LIBRARY && (rc = find_functions()) != 0)
		return rc;
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "the CUDA driver (%s) does not start", driver.path);
	driver.cuDriverGetVersion(&driver.version);
	symm_log(SYMM_LOG_DEBUG, "cuda: driver %s for CUDA %d.%d", driver.path, driver.version / 1000,
		 driver.version % 1000 / 10);
	return 0;
}

int symm_cuda_load(const struct symm_cuda_api **api)
{
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (!ready && (rc = open_library()) == 0 && (rc = initialise()) == 0)
		ready = true;
	pthread_mutex_unlock(&lock);
	if (rc == 0)
		*api = &driver;
	return rc;
}
