/* The entry of the fake driver: its functions by name and version, its settings, and the failures a test wants. */
#include "fake.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The only functions that are found without cuGetProcAddress. */
EXPORT enum symm_cuda_result cuInit(unsigned int flags);
EXPORT enum symm_cuda_result cuDriverGetVersion(int *version);
EXPORT enum symm_cuda_result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags);
EXPORT enum symm_cuda_result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
						 int *status);

struct entry {
	const char *name;
	int since;
	void (*function)(void);
	int calls;
};

#define ENTRY(name, since, needed, parameters) { #name, since, (void (*)(void))name, 0 },
static struct entry entries[] = {
	SYMM_CUDA_FUNCTIONS(ENTRY){ "cuGetProcAddress", 11030, (void (*)(void))cuGetProcAddress, 0 },
	{ "cuGetProcAddress", 12000, (void (*)(void))cuGetProcAddress_v2, 0 },
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

struct fake_config fake_config;
struct symm_fake_manners fake_manners;
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static char *failures;
static bool configured, initialised, child;

void fake_abort(const char *function, const char *format, ...)
{
	char text[512];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	fprintf(stderr, "fake CUDA: %s: %s\n", function, text);
	abort();
}

void *fake_new(size_t bytes)
{
	void *memory = calloc(1, bytes);

	FAKE_ASSERT(memory != NULL, "no memory");
	return memory;
}

/* ---- settings ---- */

static long number(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtol(text, NULL, 10) : otherwise;
}

/* As the real driver does, the list ends at the first that is none. */
static void choose_visible(int machine)
{
	const char *text = getenv("CUDA_VISIBLE_DEVICES");

	for (int i = 0; text == NULL && i < machine; i++)
		fake_config.physical[fake_config.devices++] = i;
	while (text != NULL && *text != '\0' && fake_config.devices < FAKE_DEVICES) {
		char *end;
		long index = strtol(text, &end, 10);

		if (end == text || index < 0 || index >= machine)
			return;
		fake_config.physical[fake_config.devices++] = (int)index;
		text = *end == ',' ? end + 1 : end;
	}
}

static void set_failures(const char *wanted)
{
	free(failures);
	failures = wanted != NULL ? strdup(wanted) : NULL;
}

/* Once, before anything else. */
static void configure(void)
{
	struct fake_config *c = &fake_config;
	const char *fabric = getenv("SYMM_FAKE_FABRIC"), *cc = getenv("SYMM_FAKE_CC");
	long machine = number("SYMM_FAKE_DEVICES", 2);

	if (configured)
		return;
	configured = true;
	c->driver_version = (int)number("SYMM_FAKE_DRIVER_VERSION", 13000);
	FAKE_ASSERT(machine >= 0 && machine <= FAKE_DEVICES, "SYMM_FAKE_DEVICES is more than %d", FAKE_DEVICES);
	choose_visible((int)machine);
	c->major = 9;
	if (cc != NULL)
		FAKE_ASSERT(sscanf(cc, "%d.%d", &c->major, &c->minor) == 2, "SYMM_FAKE_CC is \"%s\"", cc);
	c->memory = (size_t)number("SYMM_FAKE_MEMORY", 8L << 30);
	c->fabric = fabric != NULL && strcmp(fabric, "0") != 0;
	c->fabric_works = c->fabric && strcmp(fabric, "lies") != 0;
	c->multicast = number("SYMM_FAKE_MULTICAST", 0) != 0;
	c->leaks = number("SYMM_FAKE_LEAKS", 1) == 0;
	c->stub = number("SYMM_FAKE_STUB", 0) != 0;
	c->queues = (int)number("SYMM_FAKE_QUEUES", number("CUDA_DEVICE_MAX_CONNECTIONS", 8));
	FAKE_ASSERT(c->queues > 0 && c->queues <= 32, "%d queues: there are 1 to 32", c->queues);
	c->seed = (unsigned int)number("SYMM_FAKE_SEED", 0);
	c->attributes = getenv("SYMM_FAKE_ATTRIBUTES");
	c->no_peer = getenv("SYMM_FAKE_NO_PEER");
	set_failures(getenv("SYMM_FAKE_FAIL"));
}

/* The child of a fork has none of the workers, and perhaps a lock that nobody will open. */
static void forked(void)
{
	pthread_mutex_init(&fake_lock, NULL);
	child = initialised;
}

__attribute__((constructor)) static void loaded(void)
{
	pthread_atfork(NULL, NULL, forked);
}

__attribute__((destructor)) static void unloaded(void)
{
	const char *path = getenv("SYMM_FAKE_TRACE");
	FILE *file = path != NULL && initialised && !child ? fopen(path, "ae") : NULL;

	for (size_t i = 0; file != NULL && i < ENTRIES; i++)
		if (entries[i].calls > 0)
			fprintf(file, "%s %d\n", entries[i].name, entries[i].calls);
	if (file != NULL)
		fclose(file);
}

/* ---- failures ---- */

void symm_fake_fail(const char *wanted)
{
	pthread_mutex_lock(&fake_lock);
	configure();
	set_failures(wanted);
	pthread_mutex_unlock(&fake_lock);
}

/* The code that the list of failures, "name:3=2,name:*=800", has for a function's call number n, or 0. */
static int failure_of(const char *name, int n)
{
	size_t length = strlen(name);

	for (const char *at = failures; at != NULL; at = strchr(at, ',')) {
		int which = 0, code = 0;

		at += *at == ',';
		if (strncmp(at, name, length) != 0 || at[length] != ':')
			continue;
		if (sscanf(at + length, ":*=%d", &code) == 1)
			return code;
		FAKE_ASSERT(sscanf(at + length, ":%d=%d", &which, &code) == 2, "cannot read \"%s\"", at);
		if (which == n)
			return code;
	}
	return 0;
}

int symm_fake_calls(const char *name)
{
	int calls = 0;

	pthread_mutex_lock(&fake_lock);
	for (size_t i = 0; i < ENTRIES; i++)
		if (name == NULL || strcmp(entries[i].name, name) == 0)
			calls += entries[i].calls;
	pthread_mutex_unlock(&fake_lock);
	return calls;
}

void symm_fake_manners(struct symm_fake_manners *manners)
{
	pthread_mutex_lock(&fake_lock);
	*manners = fake_manners;
	pthread_mutex_unlock(&fake_lock);
}

/* ---- calls ---- */

static struct entry *find_entry(const char *name, int version)
{
	struct entry *found = NULL;

	for (size_t i = 0; i < ENTRIES; i++)
		if (strcmp(entries[i].name, name) == 0 && entries[i].since <= version)
			found = &entries[i];
	return found;
}

enum symm_cuda_result fake_enter(const char *name, unsigned int rules)
{
	struct entry *entry;
	int failure;

	pthread_mutex_lock(&fake_lock);
	configure();
	entry = find_entry(name, INT_MAX);
	failure = failure_of(name, ++entry->calls);
	if (failure != 0)
		return (enum symm_cuda_result)failure;
	if (rules == FAKE_ANY)
		return SYMM_CUDA_SUCCESS;
	if (!initialised || child)
		return SYMM_CUDA_NOT_INITIALIZED;
	if ((rules & FAKE_CONTEXT) == FAKE_CONTEXT && fake_context_check() != SYMM_CUDA_SUCCESS)
		return fake_context_check();
	return rules & FAKE_UNSAFE ? fake_capture_unsafe() : SYMM_CUDA_SUCCESS;
}

void fake_leave(const char *const *name)
{
	(void)name;
	pthread_mutex_unlock(&fake_lock);
}

enum symm_cuda_result cuInit(unsigned int flags)
{
	FAKE_ENTER(FAKE_ANY);
	if (flags != 0)
		return SYMM_CUDA_INVALID_VALUE;
	if (fake_config.stub)
		return SYMM_CUDA_STUB_LIBRARY;
	if (fake_config.devices == 0)
		return SYMM_CUDA_NO_DEVICE;
	if (child)
		return SYMM_CUDA_NOT_INITIALIZED;
	initialised = true;
	return SYMM_CUDA_SUCCESS;
}

enum symm_cuda_result cuDriverGetVersion(int *version)
{
	FAKE_ENTER(FAKE_ANY);
	if (fake_config.stub)
		return SYMM_CUDA_STUB_LIBRARY;
	*version = fake_config.driver_version;
	return SYMM_CUDA_SUCCESS;
}

static bool is_declared(const char *name, int version)
{
	const struct entry *entry = find_entry(name, version);

	return entry != NULL ? entry->since == version : find_entry(name, INT_MAX) == NULL;
}

/* 0: found; else the driver's status: 1 no such function, 2 not in that version. */
static int look_up(const char *name, void **function, int version)
{
	int newest = version < fake_config.driver_version ? version : fake_config.driver_version;
	struct entry *entry = find_entry(name, newest);

	fake_manners.other_versions += !is_declared(name, version);
	*function = entry != NULL ? (void *)entry->function : NULL;
	if (entry != NULL)
		return 0;
	return find_entry(name, INT_MAX) != NULL ? 2 : 1;
}

enum symm_cuda_result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
	FAKE_ENTER(FAKE_ANY);
	FAKE_ASSERT((flags & ~(uint64_t)3) == 0, "flags");
	return look_up(name, function, version) == 0 ? SYMM_CUDA_SUCCESS : SYMM_CUDA_NOT_FOUND;
}

enum symm_cuda_result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
	int found;

	/* Counted as cuGetProcAddress: that is its name. */
	const char *entered __attribute__((cleanup(fake_leave))) = "cuGetProcAddress";
	enum symm_cuda_result refused = fake_enter(entered, FAKE_ANY);

	if (refused != SYMM_CUDA_SUCCESS)
		return refused;
	FAKE_ASSERT((flags & ~(uint64_t)3) == 0, "flags");
	found = look_up(name, function, version);
	if (status != NULL)
		*status = found;
	return found == 0 || status != NULL ? SYMM_CUDA_SUCCESS : SYMM_CUDA_NOT_FOUND;
}

/* ---- errors ---- */

static const struct {
	int code;
	const char *name, *text;
} errors[] = {
	{ 0, "CUDA_SUCCESS", "no error" },
	{ 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ 2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ 3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
	{ 4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down" },
	{ 34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library" },
	{ 100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
	{ 101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
	{ 200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid" },
	{ 201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
	{ 209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device" },
	{ 222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain." },
	{ 304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS" },
	{ 400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
	{ 401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state" },
	{ 500, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
	{ 600, "CUDA_ERROR_NOT_READY", "device not ready" },
	{ 700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered" },
	{ 709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed" },
	{ 719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
	{ 800, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted" },
	{ 801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
	{ 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing" },
	{ 901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture" },
	{ 904, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work" },
	{ 905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream" },
	{ 906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capture" },
	{ 999, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static int find_error(enum symm_cuda_result result)
{
	for (int i = 0; i < (int)(sizeof(errors) / sizeof(errors[0])); i++)
		if (errors[i].code == (int)result)
			return i;
	return -1;
}

enum symm_cuda_result cuGetErrorName(enum symm_cuda_result result, const char **name)
{
	int i = find_error(result);

	FAKE_ENTER(FAKE_ANY);
	*name = i >= 0 ? errors[i].name : NULL;
	return i >= 0 ? SYMM_CUDA_SUCCESS : SYMM_CUDA_INVALID_VALUE;
}

enum symm_cuda_result cuGetErrorString(enum symm_cuda_result result, const char **text)
{
	int i = find_error(result);

	FAKE_ENTER(FAKE_ANY);
	*text = i >= 0 ? errors[i].text : NULL;
	return i >= 0 ? SYMM_CUDA_SUCCESS : SYMM_CUDA_INVALID_VALUE;
}
