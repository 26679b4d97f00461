/* The host device's memory: sealed memfds, mapped into reserved addresses. symm_phys is the fd. */
#include "host.h"

/* How long this thread has waited in its present call. */
static _Thread_local uint64_t metered_ns __attribute__((tls_model("initial-exec")));
#define SYMM_WAIT_METER(ns) (metered_ns += (ns))

#include "error.h"
#include "kernels/payload.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
#define FIRST_FD 3 /* a block must not become the stdout of a process that closed its own */
#define FILL_STEP ((size_t)64 << 20)
#define LOCAL_ALIGN 64

_Static_assert((int)SYMM_OP_BARRIER == SYMM_SYNC_BARRIER && (int)SYMM_OP_PUT_SIGNAL == SYMM_SYNC_PUT_SIGNAL &&
		       (int)SYMM_OP_WAIT_SIGNAL == SYMM_SYNC_WAIT_SIGNAL,
	       "a record's op is a kind of symm_sync_op");
_Static_assert((int)SYMM_ETIMEDOUT == SYMM_SYNC_TIMEDOUT && (int)SYMM_EPEER == SYMM_SYNC_GONE &&
		       (int)SYMM_ESTALE == SYMM_SYNC_CLOSED && (int)SYMM_EBUSY == SYMM_SYNC_MISUSE,
	       "the algorithms return SYMM codes");

static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static struct host_device the_device = { .base.ops = &symm_device_host };

static int host_open(const struct symm_device_wish *wish, int index, struct symm_device **device)
{
	const char *strict = getenv("SYMM_HOST_STRICT");

	(void)wish;
	if (index > 0)
		return symm_error(SYMM_EINVAL, "there is no device \"host:%d\": there is one host device, \"host\"",
				  index);
	pthread_mutex_lock(&device_lock);
	if (the_device.base.users++ == 0) {
		the_device.page = (size_t)sysconf(_SC_PAGESIZE);
		the_device.strict = strict != NULL ? strtoull(strict, NULL, 10) : 0;
	}
	pthread_mutex_unlock(&device_lock);
	*device = &the_device.base;
	return 0;
}

static void host_close(struct symm_device *device)
{
	pthread_mutex_lock(&device_lock);
	device->users--;
	pthread_mutex_unlock(&device_lock);
}

static void host_identify(struct symm_device *device, struct symm_device_id *id)
{
	(void)device;
	*id = (struct symm_device_id){ "host", "-", "-" };
}

static int host_reach(struct symm_device *device, const struct symm_device_id *peer)
{
	(void)device;
	(void)peer;
	return 0;
}

static size_t host_granularity(struct symm_device *device)
{
	return host_device(device)->page;
}

/* ---- blocks ---- */

static int fd_error(int err, const char *what)
{
	if (err == EMFILE)
		return symm_error_sys(SYMM_ESYS, err, "%s (raise it with ulimit -n)", what);
	return symm_error_sys(SYMM_ESYS, err, "%s", what);
}

static int fd_duplicate(int fd, int *copy)
{
	int got = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);

	if (got < 0)
		return fd_error(errno, "cannot duplicate the fd of a block");
	*copy = got;
	return 0;
}

/* What the kernel thinks that it can give without swapping; SIZE_MAX if it does not say. */
static size_t memory_available(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	size_t kib, available = SIZE_MAX;
	char line[128];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
			available = kib * 1024;
	if (file != NULL)
		fclose(file);
	return available;
}

static int out_of_memory(size_t bytes)
{
	return symm_error(SYMM_ENOMEM, "no memory for a block of %zu bytes: %zu bytes are free", bytes,
			  memory_available());
}

/* Takes all pages now, so that a lack of memory is an error here and not a SIGBUS later. In steps, because a signal
 * makes the kernel give back the whole step. */
static int block_fill(int fd, size_t bytes)
{
	int err;

	/* A memfd may take the last page of the machine and wake the OOM killer: ask first. */
	if (bytes > memory_available())
		return out_of_memory(bytes);
	if (ftruncate(fd, (off_t)bytes) != 0)
		return symm_error_sys(SYMM_ESYS, errno, "cannot make a block of %zu bytes", bytes);
	for (size_t at = 0; at < bytes; at += FILL_STEP) {
		size_t step = bytes - at < FILL_STEP ? bytes - at : FILL_STEP;

		do {
			err = posix_fallocate(fd, (off_t)at, (off_t)step);
		} while (err == EINTR);
		if (err == ENOSPC || err == ENOMEM)
			return out_of_memory(bytes);
		if (err != 0)
			return symm_error_sys(SYMM_ESYS, err, "cannot allocate a block of %zu bytes", bytes);
	}
	return 0;
}

static int host_create(struct symm_device *device, size_t bytes, symm_phys *phys)
{
	int fd, low, rc;

	if (bytes == 0 || bytes % host_device(device)->page != 0)
		return symm_error(SYMM_EINVAL, "a block of %zu bytes is not a number of pages", bytes);
	fd = memfd_create("symm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd_error(errno, "cannot make a memfd");
	if (fd < FIRST_FD) {
		low = fd;
		rc = fd_duplicate(low, &fd);
		close(low);
		if (rc != 0)
			return rc;
	}
	rc = block_fill(fd, bytes);
	if (rc != 0)
		goto fail;
	if (fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0) {
		rc = symm_error_sys(SYMM_ESYS, errno, "cannot seal a memfd");
		goto fail;
	}
	*phys = (symm_phys)fd;
	return 0;
fail:
	close(fd);
	return rc;
}

static int host_export(struct symm_device *device, symm_phys phys, int *fd)
{
	(void)device;
	return fd_duplicate((int)phys, fd);
}

static int host_import(struct symm_device *device, int fd, size_t bytes, symm_phys *phys)
{
	struct stat st;
	int copy = -1, seals, rc;

	(void)device;
	if (fstat(fd, &st) != 0)
		return symm_error_sys(SYMM_EPROTO, errno, "a peer's block is not an open file");
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || (size_t)st.st_size != bytes)
		return symm_error(SYMM_EPROTO, "a peer's block has %jd bytes (file type %o), not %zu",
				  (intmax_t)st.st_size, st.st_mode & S_IFMT, bytes);
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return symm_error(SYMM_EPROTO, "a peer's block is not a memfd of sealed size");
	rc = fd_duplicate(fd, &copy);
	if (rc == 0)
		*phys = (symm_phys)copy;
	return rc;
}

static void host_release(struct symm_device *device, symm_phys phys)
{
	(void)device;
	close((int)phys);
}

/* ---- addresses ---- */

static int host_reserve(struct symm_device *device, size_t bytes, void **address)
{
	void *got = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)device;
	if (got == MAP_FAILED)
		return symm_error_sys(SYMM_ENOMEM, errno,
				      "cannot reserve %zu bytes of address space (ulimit -v, vm.max_map_count)", bytes);
	*address = got;
	return 0;
}

static void host_unreserve(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	munmap(address, bytes);
}

/* At vm.max_map_count the kernel refuses to replace a mapping; then to lose access must do until the addresses go. */
static void address_empty(const struct symm_mapping *mapping)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	if (mmap(mapping->address, mapping->bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED &&
	    mprotect(mapping->address, mapping->bytes, PROT_NONE) != 0)
		symm_log(SYMM_LOG_ERROR, "cannot unmap %zu bytes at %p: %s", mapping->bytes, mapping->address,
			 strerror(errno));
}

static int address_fill(const struct symm_mapping *mapping)
{
	if (mmap(mapping->address, mapping->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, (int)mapping->phys,
		 0) != MAP_FAILED)
		return 0;
	if (errno == ENOMEM)
		return symm_error_sys(SYMM_ENOMEM, ENOMEM,
				      "cannot map a block of %zu bytes (too many mappings? vm.max_map_count)",
				      mapping->bytes);
	return symm_error_sys(SYMM_ESYS, errno, "cannot map a block of %zu bytes at %p", mapping->bytes,
			      mapping->address);
}

static int host_map(struct symm_device *device, const struct symm_mapping *mappings, size_t n)
{
	size_t done;
	int rc = 0;

	symm_host_drain(host_device(device));
	for (done = 0; done < n && rc == 0; done++)
		rc = address_fill(&mappings[done]);
	/* The one that failed too: a fixed mmap may fail after it has removed what was there. */
	while (rc != 0 && done-- > 0)
		address_empty(&mappings[done]);
	return rc;
}

static void host_unmap(struct symm_device *device, void *address, size_t bytes)
{
	struct symm_mapping mapping = { address, bytes, 0 };

	symm_host_drain(host_device(device));
	address_empty(&mapping);
}

static int host_grant(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	(void)address;
	(void)bytes;
	return 0;
}

/* The pages of a new memfd are zeros. */
static int host_clear(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	(void)address;
	(void)bytes;
	return 0;
}

/* ---- local and common memory ---- */

/* By calloc, so that pages nobody touches cost nothing; what calloc returned stands before the aligned address. */
static int host_local_alloc(struct symm_device *device, size_t bytes, void **address)
{
	size_t extra = sizeof(void *) + LOCAL_ALIGN - 1;
	char *raw = bytes <= SIZE_MAX - extra ? calloc(1, bytes + extra) : NULL;
	void **aligned;

	(void)device;
	if (raw == NULL)
		return symm_error(SYMM_ENOMEM, "no memory for %zu bytes", bytes);
	aligned = (void **)symm_round_up((uintptr_t)(raw + sizeof(void *)), LOCAL_ALIGN);
	aligned[-1] = raw;
	*address = aligned;
	return 0;
}

static void host_local_free(struct symm_device *device, void *address)
{
	if (address == NULL)
		return;
	symm_host_drain(host_device(device));
	free(((void **)address)[-1]);
}

static int host_common_alloc(struct symm_device *device, size_t bytes, void **host, void **kernel)
{
	int rc = host_local_alloc(device, bytes, host);

	if (rc == 0)
		*kernel = *host;
	return rc;
}

static bool is_word(const void *address, size_t bytes)
{
	return bytes == sizeof(uint64_t) && (uintptr_t)address % sizeof(uint64_t) == 0;
}

static int host_write(struct symm_device *device, void *dst, const void *src, size_t bytes)
{
	uint64_t word;

	(void)device;
	if (is_word(dst, bytes)) {
		memcpy(&word, src, sizeof(word));
		__atomic_store_n((uint64_t *)dst, word, __ATOMIC_RELEASE);
	} else {
		memcpy(dst, src, bytes);
	}
	return 0;
}

static int host_read(struct symm_device *device, void *dst, const void *src, size_t bytes)
{
	const bool words = (uintptr_t)src % sizeof(uint64_t) == 0 && bytes % sizeof(uint64_t) == 0;

	(void)device;
	for (size_t at = 0; words && at < bytes; at += sizeof(uint64_t)) {
		uint64_t word =
			__atomic_load_n((const uint64_t *)(const void *)((const char *)src + at), __ATOMIC_ACQUIRE);

		memcpy((char *)dst + at, &word, sizeof(word));
	}
	if (!words)
		memcpy(dst, src, bytes);
	return 0;
}

static void host_wake(struct symm_device *device, char *slot, uint32_t world_size)
{
	(void)device;
	symm_sync_wake_slot(slot, world_size);
}

/* ---- work ---- */

static int synchronise(const struct symm_sync_op *op, uint32_t *peer)
{
	const struct symm_sync_place at = { op->sync, op->group, op->own, op->world_size };

	if (op->kind == SYMM_OP_BARRIER)
		return symm_sync_barrier(&at, SYMM_WAIT_LANES, op->channel, op->timeout_ns, peer);
	if (op->kind == SYMM_OP_PUT_SIGNAL)
		return symm_sync_put_signal(&at, op->peer, op->channel, op->timeout_ns, peer);
	if (op->kind == SYMM_OP_WAIT_SIGNAL)
		return symm_sync_wait_signal(&at, op->peer, op->channel, op->timeout_ns, peer);
	return symm_payload_put(&at, &(struct symm_sync_payload){ op->dst, op->src, op->bytes, 0 }, op->peer,
				op->channel, op->timeout_ns, peer);
}

static void fill(uint32_t *words, uint32_t value, size_t count)
{
	for (size_t i = 0; i < count; i++)
		words[i] = value;
}

int symm_host_run(struct symm_device *device, const struct symm_sync_op *op, int *code, uint32_t *peer)
{
	(void)device;
	*code = 0;
	if (op->kind == SYMM_OP_FILL)
		fill(op->dst, (uint32_t)op->value, op->bytes / sizeof(uint32_t));
	else if (op->kind == SYMM_OP_WRITE_VALUE)
		*code = symm_payload_publish(op->group, op->dst, op->value, op->bytes);
	else if (op->kind != SYMM_OP_COPY)
		*code = synchronise(op, peer);
	else if (op->bytes > 0)
		memmove(op->dst, op->src, op->bytes); /* a block may be copied onto itself */
	return 0;
}

/* Nothing is under way when it returns. */
static int host_run(struct symm_device *device, const struct symm_sync_op *op, int *code, uint32_t *peer,
		    uint64_t *count, uint64_t *waited_ns)
{
	int rc;

	*count = 0;
	metered_ns = 0;
	rc = symm_host_run(device, op, code, peer);
	*waited_ns = metered_ns;
	return rc;
}

const struct symm_device_ops symm_device_host = {
	.name = "host",
	.dlpack = kDLCPU,
	.open = host_open,
	.close = host_close,
	.identify = host_identify,
	.reach = host_reach,
	.granularity = host_granularity,
	.create = host_create,
	.export = host_export,
	.import = host_import,
	.release = host_release,
	.reserve = host_reserve,
	.unreserve = host_unreserve,
	.map = host_map,
	.unmap = host_unmap,
	.grant = host_grant,
	.clear = host_clear,
	.local_alloc = host_local_alloc,
	.local_free = host_local_free,
	.common_alloc = host_common_alloc,
	.common_free = host_local_free,
	.write = host_write,
	.read = host_read,
	.wake = host_wake,
	.stream_create = symm_host_stream_create,
	.stream_destroy = symm_host_stream_destroy,
	.stream_wait = symm_host_stream_wait,
	.launch = symm_host_launch,
	.run = host_run,
};
