/* The host device: blocks, addresses, streams, each also when it is strict. */
#include "base.h"
#include "device.h"
#include "error.h"
#include "kernels/sync.h"
#include "tap/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static struct symm_device *device;
static const struct symm_device_ops *ops;
static size_t page;

static void device_open(void)
{
	if (symm_device_open("host", &device) != 0)
		tap_bail("no host device: %s", symm_last_error());
	ops = device->ops;
	page = ops->granularity(device);
}

static void test_names(void)
{
	static const char *const wrong[] = {
		"", "hos", "hosty", "host:", "host:x", "host:1", "host:0x", "host:99999999999", "gpu"
	};
	struct symm_device *again = NULL;

	is_int(symm_device_open("host:0", &again), 0, "host:0");
	ok(again == device, "is host");
	symm_device_close(again);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		again = NULL;
		is_int(symm_device_open(wrong[i], &again), SYMM_EINVAL, "no device \"%s\"", wrong[i]);
		has_str(symm_last_error(), wrong[i], "its name is in the detail");
	}
	is_int(symm_device_open(NULL, &again), SYMM_EINVAL, "no device NULL");
	ok(again == NULL, "outputs are written on success only");
	symm_device_close(NULL);
}

/* ---- blocks ---- */

static symm_phys block(size_t bytes)
{
	symm_phys phys = 0;

	if (ops->create(device, bytes, &phys) != 0)
		tap_bail("no block: %s", symm_last_error());
	return phys;
}

static void *reserved(size_t bytes)
{
	void *address = NULL;

	if (ops->reserve(device, bytes, &address) != 0)
		tap_bail("no addresses: %s", symm_last_error());
	return address;
}

static int map_one(void *address, size_t bytes, symm_phys phys)
{
	const struct symm_mapping mapping = { address, bytes, phys };

	return ops->map(device, &mapping, 1);
}

/* True if a byte can be read there; asked of the kernel, so that a wrong answer is no crash. */
static bool readable(const void *address)
{
	int fd[2];
	bool can;

	if (pipe2(fd, O_CLOEXEC) != 0)
		tap_bail("pipe: %s", strerror(errno));
	can = write(fd[1], address, 1) == 1;
	close(fd[0]);
	close(fd[1]);
	return can;
}

/* True if nobody else can be given the page: it is mapped, be it without access. */
static bool taken(void *address)
{
	void *got = mmap(address, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (got != MAP_FAILED)
		munmap(got, page);
	return got == MAP_FAILED && errno == EEXIST;
}

static void test_block(void)
{
	size_t bytes = 5 * page, sum = 0, huge = (size_t)1 << 46;
	symm_phys phys = block(bytes), none = 77;
	unsigned char *at = reserved(bytes);
	char text[40];

	is_int(map_one(at, bytes, phys), 0, "a block is mapped");
	for (size_t i = 0; i < bytes; i++)
		sum += at[i];
	is_int((int64_t)sum, 0, "it is zero-filled");
	memset(at, 1, bytes);
	ok((fcntl((int)phys, F_GETFD) & FD_CLOEXEC) != 0, "its fd is close-on-exec");
	ok(ftruncate((int)phys, 0) != 0 && ftruncate((int)phys, (off_t)bytes * 2) != 0, "its size is sealed");
	ok(fcntl((int)phys, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0, "so are its seals");
	ops->release(device, phys);
	is_int(at[bytes - 1], 1, "a mapping outlives the release");
	ops->unreserve(device, at, bytes);

	is_int(ops->create(device, 0, &none), SYMM_EINVAL, "no block of no bytes");
	is_int(ops->create(device, page + 1, &none), SYMM_EINVAL, "nor of half a page");
	is_int(ops->create(device, huge, &none), SYMM_ENOMEM, "nor of 64 TiB");
	snprintf(text, sizeof(text), "%zu bytes", huge);
	has_str(symm_last_error(), text, "the detail tells how much was asked for");
	has_str(symm_last_error(), "are free", "and what was free");
	is_int((int64_t)none, 77, "outputs are written on success only");
}

struct handover {
	int fd;
	size_t bytes;
};

static int importer(int rank, void *arg)
{
	const struct handover *handover = arg;
	symm_phys phys;
	char *at = reserved(handover->bytes);

	CHECK(ops->import(device, handover->fd, handover->bytes, &phys) == 0);
	CHECK((fcntl((int)phys, F_GETFD) & FD_CLOEXEC) != 0);
	close(handover->fd);
	CHECK(map_one(at, handover->bytes, phys) == 0);
	ops->release(device, phys);
	CHECK(at[0] == 'e');
	at[handover->bytes - 1 - (size_t)rank] = 'i';
	ops->unmap(device, at, handover->bytes);
	ops->unreserve(device, at, handover->bytes);
	return 0;
}

static void test_export(void)
{
	struct handover handover = { -1, 3 * page };
	symm_phys phys = block(handover.bytes);
	char *at = reserved(handover.bytes);

	is_int(map_one(at, handover.bytes, phys), 0, "the exporter maps");
	at[0] = 'e';
	is_int(ops->export(device, phys, &handover.fd), 0, "exports");
	ok(handover.fd != (int)phys && (fcntl(handover.fd, F_GETFD) & FD_CLOEXEC) != 0,
	   "an fd of the caller's, close-on-exec");
	tap_ranks("importers", 2, importer, &handover, 10);
	ok(at[handover.bytes - 1] == 'i' && at[handover.bytes - 2] == 'i', "and sees what importers write");
	close(handover.fd);
	ops->release(device, phys);
	ops->unreserve(device, at, handover.bytes);
}

static int memfd_of(size_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0)
		tap_bail("memfd: %s", strerror(errno));
	return fd;
}

static void test_import_refuses(void)
{
	struct {
		const char *name;
		int fd;
	} wrong[] = {
		{ "a memfd too large", memfd_of(2 * page, F_SEAL_SHRINK | F_SEAL_GROW) },
		{ "a memfd too small", memfd_of(page - 1, F_SEAL_SHRINK | F_SEAL_GROW) },
		{ "a memfd without seals", memfd_of(page, 0) },
		{ "a memfd that can shrink", memfd_of(page, F_SEAL_GROW) },
		{ "a memfd that can grow", memfd_of(page, F_SEAL_SHRINK) },
		{ "a file", open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) },
		{ "a folder", open("/", O_RDONLY | O_CLOEXEC) },
		{ "a device", open("/dev/zero", O_RDWR | O_CLOEXEC) },
		{ "a closed fd", -1 },
	};
	symm_phys phys = 77;

	if (wrong[5].fd >= 0 && ftruncate(wrong[5].fd, (off_t)page) != 0)
		tap_bail("file: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		is_int(ops->import(device, wrong[i].fd, page, &phys), SYMM_EPROTO, "no import of %s", wrong[i].name);
		if (wrong[i].fd >= 0)
			close(wrong[i].fd);
	}
	is_int((int64_t)phys, 77, "outputs are written on success only");
}

/* ---- addresses ---- */

static void test_map(void)
{
	symm_phys one = block(page), two = block(page);
	char *at = reserved(4 * page);
	struct symm_mapping both[] = { { at + page, page, one }, { at + 2 * page, page, two } };

	is_int(ops->map(device, both, 2), 0, "two blocks are mapped");
	at[page] = 1;
	at[2 * page] = 2;
	ok(!readable(at + page - 1) && readable(at + page) && readable(at + 3 * page - 1) && !readable(at + 3 * page),
	   "there and nowhere else");
	ops->unmap(device, at + page, page);
	ok(!readable(at + page) && at[2 * page] == 2, "one is unmapped, the other stays");
	ok(taken(at + page), "the addresses stay reserved");
	is_int(map_one(at + page, page, one), 0, "and can be mapped again");
	is_int(at[page], 1, "the block has kept what it held");

	ops->unmap(device, at + page, 2 * page);
	both[1].phys = 1000000;
	is_int(ops->map(device, both, 2), SYMM_ESYS, "where one block cannot be mapped");
	ok(!readable(at + page) && taken(at + page) && taken(at + 2 * page), "none is");
	ops->release(device, one);
	ops->release(device, two);
	ops->unreserve(device, at, 4 * page);
	ok(!taken(at), "unreserve gives the addresses back");
}

#ifndef SYMM_ATOMIC_TSAN
/* Every other page of a reservation is mapped, two at a time, until the kernel allows no more mappings. */
static int map_until_full(int rank, void *arg)
{
	const size_t most = 100000;
	symm_phys phys = block(page);
	char *start = reserved(4 * most * page), *at = start;
	int rc;

	(void)rank;
	(void)arg;
	for (rc = 0; rc == 0 && at < start + 4 * most * page; at += 4 * page) {
		struct symm_mapping two[] = { { at, page, phys }, { at + 2 * page, page, phys } };

		rc = ops->map(device, two, 2);
	}
	at -= 4 * page;
	/* Makes room for what the checks map. */
	ops->unreserve(device, start, 100 * page);
	CHECK(rc == SYMM_ENOMEM, " (%d)", rc);
	CHECK(strstr(symm_last_error(), "vm.max_map_count") != NULL);
	CHECK(!readable(at) && !readable(at + 2 * page) && readable(at - 2 * page));
	CHECK(taken(at) && taken(at + 2 * page));
	ops->unreserve(device, start + 100 * page, (4 * most - 100) * page);
	return 0;
}
#endif

static int limited(int rank, void *arg)
{
	struct rlimit few = { 3, 3 }, small = { 1, 1 };
	symm_phys phys = block(page), none;
	void *address;
	int fd;

	(void)rank;
	(void)arg;
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK(ops->create(device, page, &none) == SYMM_ESYS && strstr(symm_last_error(), "ulimit -n") != NULL);
	CHECK(ops->export(device, phys, &fd) != 0);
	CHECK(setrlimit(RLIMIT_AS, &small) == 0);
	CHECK(ops->reserve(device, page, &address) == SYMM_ENOMEM && strstr(symm_last_error(), "ulimit -v") != NULL);
	_exit(0);
}

static void test_local(void)
{
	char *at = NULL;
	void *address;
	size_t sum = 0;

	is_int(ops->local_alloc(device, 1000, &address), 0, "local memory");
	at = address;
	ok((uintptr_t)at % 64 == 0, "is aligned to 64 bytes");
	for (size_t i = 0; i < 1000; i++)
		sum += (unsigned char)at[i];
	is_int((int64_t)sum, 0, "and zero-filled");
	is_int(ops->local_alloc(device, SIZE_MAX, &address), SYMM_ENOMEM, "there is not so much of it");
	ops->local_free(device, at);
	ops->local_free(device, NULL);
}

/* ---- streams ---- */

static const struct symm_sync_op nothing = { .kind = SYMM_OP_COPY };

static void *stream_new(void)
{
	void *stream = NULL;

	if (ops->stream_create(device, &stream) != 0)
		tap_bail("no stream: %s", symm_last_error());
	return stream;
}

/* With a worker. */
static void *stream_busy(void)
{
	void *stream = stream_new();

	if (ops->launch(device, stream, &nothing, NULL, NULL) != 0)
		tap_bail("no launch: %s", symm_last_error());
	return stream;
}

static int64_t soon(int ms)
{
	return symm_now() + ms * SYMM_NS_PER_MS;
}

/* Work's end, as its callback sees it. */
struct track {
	int next; /* number of the piece that should end now */
	bool out_of_order;
};
struct piece {
	struct track *track;
	int number;
};

static void piece_end(void *arg)
{
	struct piece *piece = arg;

	piece->track->out_of_order |= piece->track->next++ != piece->number;
}

#define STREAMS 100
#define PIECES 50

static void test_fifo(void)
{
	static struct piece pieces[STREAMS][PIECES];
	static struct track tracks[STREAMS];
	void *streams[STREAMS];
	int bad = 0;

	memset(tracks, 0, sizeof(tracks));
	for (int s = 0; s < STREAMS; s++)
		streams[s] = stream_new();
	for (int p = 0; p < PIECES; p++)
		for (int s = 0; s < STREAMS; s++) {
			pieces[s][p] = (struct piece){ &tracks[s], p };
			bad += ops->launch(device, streams[s], &nothing, piece_end, &pieces[s][p]) != 0;
		}
	is_int(bad, 0, "%d launches on each of %d streams", PIECES, STREAMS);
	for (int s = 0; s < STREAMS; s++) {
		bad += ops->stream_wait(device, streams[s], soon(60000)) != 0;
		bad += tracks[s].out_of_order || tracks[s].next != PIECES;
	}
	is_int(bad, 0, "run in order, and have ended after the wait");
	for (int s = 0; s < STREAMS; s++)
		bad += ops->stream_destroy(device, streams[s]) != 0;
	is_int(bad, 0, "and the streams are destroyed");
}

static void gate_end(void *arg)
{
	while (sem_wait(arg) != 0)
		;
}

struct opener {
	sem_t *gate;
	int after_ms;
};

static void *open_later(void *arg)
{
	struct opener *opener = arg;

	usleep((useconds_t)opener->after_ms * 1000);
	sem_post(opener->gate);
	return NULL;
}

static void test_wait(void)
{
	struct piece last = { &(struct track){ 0, false }, 0 };
	struct opener opener;
	void *stream = stream_new();
	pthread_t thread;
	int64_t start;
	sem_t gate;

	sem_init(&gate, 0, 0);
	is_int(ops->stream_wait(device, stream, 0), 0, "an idle stream needs no wait");
	is_int(ops->launch(device, stream, &nothing, gate_end, &gate), 0, "work that does not end");
	start = symm_now();
	is_int(ops->stream_wait(device, stream, soon(30)), SYMM_ETIMEDOUT, "a wait ends at its deadline");
	ok(symm_now() - start >= 30 * SYMM_NS_PER_MS, "not before");
	is_int(ops->launch(device, stream, &nothing, piece_end, &last), 0, "work behind it");
	is_int(ops->stream_wait(device, stream, 0), SYMM_ETIMEDOUT, "still running");
	opener = (struct opener){ &gate, 30 };
	pthread_create(&thread, NULL, open_later, &opener);
	is_int(ops->stream_destroy(device, stream), 0, "destroy");
	is_int(last.track->next, 1, "waits for the queued work");
	pthread_join(thread, NULL);
	is_int(ops->stream_wait(device, stream, 0), SYMM_EINVAL, "no wait for a destroyed stream");
	sem_destroy(&gate);
}

static void test_wrong_streams(void)
{
	int local = 0;

	is_int(ops->launch(device, NULL, &nothing, NULL, NULL), SYMM_EINVAL, "no launch on NULL");
	has_str(symm_last_error(), "stream is NULL", "says so");
	is_int(ops->launch(device, &local, &nothing, NULL, NULL), SYMM_EINVAL, "no launch on another pointer");
	is_int(ops->stream_wait(device, &local, 0), SYMM_EINVAL, "no wait for it");
	is_int(ops->stream_destroy(device, &local), SYMM_EINVAL, "and it cannot be destroyed");
	is_int(ops->stream_destroy(device, NULL), SYMM_EINVAL, "nor can NULL");
}

struct inside {
	void *stream;
	int waited, destroyed;
	bool signals;
};

static void look_inside(void *arg)
{
	struct inside *inside = arg;
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	inside->signals = !sigismember(&mask, SIGINT) || !sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGPIPE);
	inside->waited = ops->stream_wait(device, inside->stream, soon(1000));
	inside->destroyed = ops->stream_destroy(device, inside->stream);
}

static void test_callback(void)
{
	struct inside inside = { stream_new(), 0, 0, true };

	ops->launch(device, inside.stream, &nothing, look_inside, &inside);
	is_int(ops->stream_wait(device, inside.stream, soon(10000)), 0, "a callback");
	is_int(inside.waited, SYMM_EDEADLK, "cannot wait for its stream");
	is_int(inside.destroyed, SYMM_EDEADLK, "nor destroy it");
	ok(!inside.signals, "and gets no signals");
	ops->stream_destroy(device, inside.stream);
}

/* Two ranks in this process: rank 0's work on a stream, rank 1's at once. */
static void test_sync(void)
{
	struct symm_sync_layout layout = symm_sync_layout(2);
	struct symm_sync_group group[2];
	struct symm_sync sync[2];
	uint32_t gone[2] = { 0, 0 };
	void *memory, *local, *stream = stream_new();
	char *slot[2], text[8] = "";

	ops->local_alloc(device, 2 * layout.bytes, &memory);
	ops->local_alloc(device, 2 * symm_sync_local_bytes(2), &local);
	for (uint32_t rank = 0; rank < 2; rank++) {
		slot[rank] = (char *)memory + rank * layout.bytes;
		group[rank] = (struct symm_sync_group){ .generation = 1, .rank = rank, .world_size = 2, .gone = gone };
		sync[rank] = (struct symm_sync){ &group[rank], slot, (char *)local + rank * symm_sync_local_bytes(2) };
	}
	const struct symm_sync_op work[] = {
		{ .kind = SYMM_OP_WAIT_SIGNAL,
		  .sync = &sync[0],
		  .peer = 1,
		  .channel = 3,
		  .timeout_ns = SYMM_SYNC_FOREVER },
		{ .kind = SYMM_OP_COPY, .dst = text, .src = "copied", .bytes = 7 },
		{ .kind = SYMM_OP_BARRIER, .sync = &sync[0], .channel = 31, .timeout_ns = SYMM_SYNC_FOREVER },
	};
	const struct symm_sync_op put = { .kind = SYMM_OP_PUT_SIGNAL, .sync = &sync[1], .peer = 0, .channel = 3 };
	struct symm_sync_op barrier = work[2];

	for (int i = 0; i < 3; i++)
		ops->launch(device, stream, &work[i], NULL, NULL);
	is_int(ops->stream_wait(device, stream, soon(20)), SYMM_ETIMEDOUT, "a stream waits for a signal");
	is_int(ops->run(device, &put), 0, "which is put");
	barrier.sync = &sync[1];
	is_int(ops->run(device, &barrier), 0, "a barrier with the stream");
	is_int(ops->stream_wait(device, stream, soon(10000)), 0, "the stream is through");
	is_str(text, "copied", "what stood before the barrier is done");
	barrier.timeout_ns = 1000;
	is_int(ops->run(device, &barrier), SYMM_ETIMEDOUT, "run returns the algorithm's code");
	is_int(ops->launch(device, stream, &barrier, NULL, NULL), 0, "a launch does not");
	is_int(ops->stream_destroy(device, stream), 0, "nor does destroy");
	ops->local_free(device, local);
	ops->local_free(device, memory);
}

static int threads(void)
{
	char line[128];
	int n = 0;
	FILE *file = fopen("/proc/self/status", "re");

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		sscanf(line, "Threads: %d", &n);
	if (file != NULL)
		fclose(file);
	return n;
}

/* A thread that was joined may still be counted for a moment. */
static bool threads_become(int n)
{
	for (int i = 0; i < 1000 && threads() != n; i++)
		usleep(1000);
	return threads() == n;
}

static void run_streams(const char *mode)
{
	int before;

	tap_diag("streams, %s", mode);
	/* A sanitizer may start a thread with the first of ours. */
	ops->stream_destroy(device, stream_busy());
	before = threads();
	test_fifo();
	test_wait();
	test_wrong_streams();
	test_callback();
	test_sync();
	ok(threads_become(before), "no thread is left");
}

/* ---- strict ---- */

/* While another stream's work runs, what gives memory another meaning must wait. */
static void test_drains(void)
{
	void *stream = stream_new(), *at = reserved(page), *local;
	symm_phys phys = block(page);
	pthread_t thread;
	sem_t gate;

	sem_init(&gate, 0, 0);
	ops->local_alloc(device, 64, &local);
	for (int what = 0; what < 3; what++) {
		struct piece last = { &(struct track){ 0, false }, 0 };
		struct opener opener = { &gate, 20 };

		ops->launch(device, stream, &nothing, gate_end, &gate);
		ops->launch(device, stream, &nothing, piece_end, &last);
		pthread_create(&thread, NULL, open_later, &opener);
		if (what == 0)
			map_one(at, page, phys);
		else if (what == 1)
			ops->unmap(device, at, page);
		else
			ops->local_free(device, local);
		is_int(last.track->next, 1, "%s waits for all streams",
		       what == 0   ? "map"
		       : what == 1 ? "unmap"
				   : "free");
		pthread_join(thread, NULL);
	}
	ops->stream_destroy(device, stream);
	ops->release(device, phys);
	ops->unreserve(device, at, page);
	sem_destroy(&gate);
}

static void test_shared_workers(void)
{
	void *streams[20];
	int before = threads();

	for (int i = 0; i < 20; i++)
		streams[i] = stream_busy();
	ok(threads_become(before + 8), "20 streams share 8 workers");
	for (int i = 0; i < 20; i++)
		ops->stream_destroy(device, streams[i]);
}

int main(void)
{
	unsetenv("SYMM_HOST_STRICT");
	device_open();
	test_names();
	test_block();
	test_export();
	test_import_refuses();
	test_map();
#ifdef SYMM_ATOMIC_TSAN
	tap_skip(1, "ThreadSanitizer itself dies when there are too many mappings");
#else
	tap_ranks("too many mappings", 1, map_until_full, NULL, 60);
#endif
	tap_ranks("limits", 1, limited, NULL, 10);
	test_local();
	run_streams("one worker each");
	symm_device_close(device);

	setenv("SYMM_HOST_STRICT", "1", 1);
	device_open();
	run_streams("strict");
	test_shared_workers();
	test_drains();
	symm_device_close(device);
	return tap_done();
}
