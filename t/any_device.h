/* any_device.h: what lets one test run on every device. SYMM_DEVICE names the device (unset: host); host code reaches
 * memory of others by the device's table only. t/README tells of the variables. */
#ifndef ANY_DEVICE_H
#define ANY_DEVICE_H

#include "context.h"
#include "handle.h"
#include "tap.h"
#include "view.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- which device, and how much of it ---- */

static inline const char *device_text(void)
{
	const char *text = getenv("SYMM_DEVICE");

	return text != NULL && *text != '\0' ? text : "host";
}

static inline bool on_host(void)
{
	return strncmp(device_text(), "host", 4) == 0;
}

static inline int env_number(const char *name, int otherwise)
{
	const char *text = getenv(name);

	return text != NULL && atoi(text) > 0 ? atoi(text) : otherwise;
}

/* The most ranks that a test may have; on the host there is no limit. */
static inline int most_ranks(void)
{
	return on_host() ? INT16_MAX : env_number("SYMM_TEST_WORLD", INT16_MAX);
}

/* False, and a test is skipped, if there are to be fewer ranks. */
static inline bool world_fits(const char *name, int world)
{
	if (world <= most_ranks())
		return true;
	tap_skip(1, "%s: %d ranks, and SYMM_TEST_WORLD=%d", name, world, most_ranks());
	return false;
}

/* How often to do what is done n times on the host. */
static inline int rounds(int n)
{
	int fewer = on_host() ? n : n / env_number("SYMM_TEST_DIVISOR", 1);

	return fewer > 1 ? fewer : 1;
}

/* Seconds to add to a time limit within which a device is opened or closed. */
static inline double opening(void)
{
	const char *factor = getenv("TAP_TIMEOUT_FACTOR");

	return on_host() ? 0 : 5 * (factor != NULL ? atof(factor) : 1);
}

static inline int try_device(int rank, void *why)
{
	const struct symm_device_wish wish = { .text = device_text(), .local_rank = rank, .share = true };
	struct symm_device *device;

	if (symm_device_open(&wish, &device) == 0)
		_exit(0);
	snprintf(why, SYMM_ERROR_TEXT, "%s", symm_last_error());
	_exit(1);
}

/* Before the process's first use of a device, where streams of its wait for each other: those that share a hardware
 * queue cannot. Each queue makes a context dearer, so others have few: on an H200 a context with 32 of them takes 0.8 s
 * to come and go, with 8 it takes 0.2. */
static inline void many_queues(void)
{
	setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
}

/* First in main: false if the tests are all skipped, because there is no such device, or because there are to be fewer
 * ranks. A child looks: no process may fork ranks once it has opened a GPU. */
static inline bool need_device(int ranks)
{
	const char *needed = getenv("SYMM_REQUIRE_GPU");
	char *why;
	int pid;

	if (on_host())
		return true;
	if (ranks > most_ranks()) {
		tap_skip_all("%d ranks, and SYMM_TEST_WORLD=%d", ranks, most_ranks());
		return false;
	}
	setenv("CUDA_DEVICE_MAX_CONNECTIONS", "4", 0);
	why = tap_shared(SYMM_ERROR_TEXT);
	tap_ranks_start(1, try_device, why, &pid);
	if (tap_wait(pid, 60) == 0)
		return true;
	if (needed != NULL && strcmp(needed, "0") != 0)
		tap_bail("SYMM_REQUIRE_GPU is set, and there is no device %s: %s", device_text(), why);
	tap_skip_all("no device %s: %s", device_text(), why);
	return false;
}

/* ---- a device's memory ---- */

static inline struct symm_device *device_of_context(struct symm_context *handle)
{
	int rc;
	struct context *context = symm_handle_get(handle, SYMM_HANDLE_CONTEXT, &rc);
	struct symm_device *device = context != NULL ? context->device : NULL;

	if (context != NULL)
		symm_handle_put(handle);
	return device;
}

static inline struct symm_device *device_of(struct symm_mem *mem)
{
	int rc;
	struct view *view = symm_view_get(mem, &rc);
	struct symm_device *device = view != NULL ? view->alloc->block->device : NULL;

	if (view != NULL)
		symm_view_put(view);
	return device;
}

/* On the host plain accesses: it is they that barriers and signals must order. */
static inline bool device_read(struct symm_device *device, void *to, const void *from, size_t bytes)
{
	if (on_host())
		return memcpy(to, from, bytes) != NULL;
	return device != NULL && device->ops->read(device, to, from, bytes) == 0;
}

static inline bool device_write(struct symm_device *device, void *to, const void *from, size_t bytes)
{
	if (on_host())
		return memcpy(to, from, bytes) != NULL;
	return device != NULL && device->ops->write(device, to, from, bytes) == 0;
}

/* True if all bytes there have that value. */
static inline bool device_holds(struct symm_device *device, const void *at, size_t bytes, int value)
{
	unsigned char *copy = malloc(bytes);
	bool holds = copy != NULL && device_read(device, copy, at, bytes);

	for (size_t i = 0; holds && i < bytes; i++)
		holds = copy[i] == (unsigned char)value;
	free(copy);
	return holds;
}

/* ---- the blocks of ranks, and 64-bit words of them by number ---- */

static inline bool block_read(struct symm_mem *mem, int rank, size_t offset, void *to, size_t bytes)
{
	return device_read(device_of(mem), to, (char *)symm_mem_buffer(mem, rank) + offset, bytes);
}

static inline bool block_write(struct symm_mem *mem, int rank, size_t offset, const void *from, size_t bytes)
{
	return device_write(device_of(mem), (char *)symm_mem_buffer(mem, rank) + offset, from, bytes);
}

static inline bool block_fill(struct symm_mem *mem, int rank, int value, size_t bytes)
{
	void *copy = malloc(bytes);
	bool filled = copy != NULL && block_write(mem, rank, 0, memset(copy, value, bytes), bytes);

	free(copy);
	return filled;
}

static inline bool block_holds(struct symm_mem *mem, int rank, int value, size_t bytes)
{
	return device_holds(device_of(mem), symm_mem_buffer(mem, rank), bytes, value);
}

static inline bool pad_is_zero(struct symm_mem *mem, int rank)
{
	return device_holds(device_of(mem), symm_mem_signal_pad(mem, rank), symm_mem_signal_pad_size(mem), 0);
}

static inline bool word_set(struct symm_mem *mem, int rank, size_t number, uint64_t value)
{
	return block_write(mem, rank, number * sizeof(value), &value, sizeof(value));
}

/* UINT64_MAX if it cannot be read. */
static inline uint64_t word_get(struct symm_mem *mem, int rank, size_t number)
{
	uint64_t value;

	return block_read(mem, rank, number * sizeof(value), &value, sizeof(value)) ? value : UINT64_MAX;
}

/* ---- memory of the test's own ---- */

/* Zero-filled, for what is enqueued: a copy on a stream would wait for the host on memory that a GPU cannot reach. */
static inline void *own_memory(struct symm_context *context, size_t bytes)
{
	struct symm_device *device = device_of_context(context);
	void *host = NULL, *kernel;

	if (device != NULL && device->ops->common_alloc(device, bytes, &host, &kernel) != 0)
		tap_diag("%s", symm_last_error());
	return host;
}

static inline void own_memory_free(struct symm_context *context, void *memory)
{
	struct symm_device *device = device_of_context(context);

	if (device != NULL)
		device->ops->common_free(device, memory);
}

#endif
