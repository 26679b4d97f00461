/* The host device: what stands behind its blocks and addresses, and its streams, each also when it is strict. */
#include "device_help.h"
#include "symm/kernel/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void test_open(void)
{
	const struct symm_device_wish second = { .text = "host:1", .local_rank = -1 };
	struct symm_device *none;

	is_int(symm_device_open(&second, &none), SYMM_EINVAL, "there is one host device");
	has_str(symm_last_error(), "\"host:1\"", "says so");
}

/* ---- blocks ---- */

static void test_block(void)
{
	size_t huge = (size_t)1 << 46;
	symm_phys phys = block(page), none;
	char text[40];

	ok((fcntl((int)phys, F_GETFD) & FD_CLOEXEC) != 0, "a block's fd is close-on-exec");
	ok(ftruncate((int)phys, 0) != 0 && ftruncate((int)phys, (off_t)page * 2) != 0, "its size is sealed");
	ok(fcntl((int)phys, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0, "so are its seals");
	ops->release(device, phys);
	is_int(ops->create(device, huge, &none), SYMM_ENOMEM, "64 TiB are too much");
	snprintf(text, sizeof(text), "%zu bytes", huge);
	has_str(symm_last_error(), text, "the detail tells how much was asked for");
	has_str(symm_last_error(), "are free", "and what was free");
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

static void test_map(void)
{
	symm_phys one = block(page), two = block(page);
	char *at = reserved(4 * page);
	struct symm_mapping both[] = { { at + page, page, one }, { at + 2 * page, page, two } };

	is_int(ops->map(device, both, 2), 0, "two blocks are mapped");
	ok(!readable(at + page - 1) && readable(at + page) && readable(at + 3 * page - 1) && !readable(at + 3 * page),
	   "there and nowhere else");
	ops->unmap(device, at + page, page);
	ok(!readable(at + page) && readable(at + 2 * page), "one is unmapped, the other stays");
	ok(taken(at + page), "the addresses stay reserved");
	ops->unmap(device, at + 2 * page, page);
	both[1].phys = 1000000;
	is_int(ops->map(device, both, 2), SYMM_ESYS, "where one block cannot be mapped");
	ok(!readable(at + page) && taken(at + page) && taken(at + 2 * page), "none is");
	ops->release(device, one);
	ops->release(device, two);
	ops->unreserve(device, at, 4 * page);
	ok(!taken(at), "unreserve gives the addresses back");
}

#ifndef SYMM_ATOMIC_TSAN
enum { MOST_MAPPINGS = 100000 };

static bool has_few_mappings(void)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	long most = 0;

	if (file != NULL && fscanf(file, "%ld", &most) != 1)
		most = 0;
	if (file != NULL)
		fclose(file);
	return most > 0 && most <= MOST_MAPPINGS;
}

/* Every other page of a reservation is mapped, two at a time, until the kernel allows no more mappings. */
static int map_until_full(int rank, void *arg)
{
	const size_t most = MOST_MAPPINGS;
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

/* ---- streams ---- */

static void test_wrong_streams(void)
{
	int none = 0;
	struct pair pair;

	pair_make(&pair);
	is_int(gate_launch(&pair, NULL, 0), SYMM_EINVAL, "no launch on NULL");
	has_str(symm_last_error(), "stream is NULL", "says so");
	is_int(gate_launch(&pair, &none, 0), SYMM_EINVAL, "no launch on another pointer");
	is_int(ops->stream_wait(device, &none, 0), SYMM_EINVAL, "no wait for it");
	is_int(ops->stream_destroy(device, &none), SYMM_EINVAL, "and it cannot be destroyed");
	is_int(ops->stream_destroy(device, NULL), SYMM_EINVAL, "nor can NULL");
	pair_free(&pair);
}

struct inside {
	const struct pair *pair;
	void *stream;
	int waited, destroyed, calls;
	uint64_t ended;
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
	inside->ended = pair_ended(inside->pair, 0);
	inside->calls++;
}

static void test_callback(void)
{
	struct pair pair;
	struct inside inside = { .pair = &pair, .stream = stream_new(), .signals = true };
	struct symm_sync_op work;
	uint64_t count = 0;

	pair_make(&pair);
	work = copy_of(&pair, NULL, NULL, 0);
	is_int(ops->launch(device, inside.stream, &work, look_inside, &inside, &count), 0, "work that succeeds");
	work = work_of(&pair, 0, SYMM_OP_BARRIER, 0);
	work.timeout_ns = 1000;
	is_int(ops->launch(device, inside.stream, &work, look_inside, &inside, &count), 0, "and work that fails");
	is_int(ops->stream_wait(device, inside.stream, soon(10000)), 0, "are done");
	is_int(inside.calls, 1, "the failure is told");
	is_int((int64_t)inside.ended, 1, "before it is counted");
	is_int(inside.waited, SYMM_EDEADLK, "who is told cannot wait for the stream");
	is_int(inside.destroyed, SYMM_EDEADLK, "nor destroy it");
	ok(!inside.signals, "and gets no signals");
	ops->stream_destroy(device, inside.stream);
	pair_free(&pair);
}

struct opener {
	const struct pair *pair;
	int after_ms;
};

static void *open_later(void *arg)
{
	const struct opener *opener = arg;

	usleep((useconds_t)opener->after_ms * 1000);
	gate_open(opener->pair, 0);
	return NULL;
}

static void test_destroy(void)
{
	struct opener opener;
	void *stream = stream_new();
	struct pair pair;
	pthread_t thread;

	pair_make(&pair);
	opener = (struct opener){ &pair, 30 };
	gate_launch(&pair, stream, 0);
	pthread_create(&thread, NULL, open_later, &opener);
	is_int(ops->stream_destroy(device, stream), 0, "destroy");
	is_int((int64_t)pair_ended(&pair, 0), 1, "waits for the queued work");
	pthread_join(thread, NULL);
	is_int(ops->stream_wait(device, stream, 0), SYMM_EINVAL, "no wait for a destroyed stream");
	pair_free(&pair);
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

/* With a worker. */
static void *stream_busy(const struct pair *pair)
{
	struct symm_sync_op nothing = copy_of(pair, NULL, NULL, 0);
	void *stream = stream_new();

	if (launched(stream, &nothing) != 1)
		tap_bail("no launch: %s", symm_last_error());
	return stream;
}

static void run_streams(const char *mode)
{
	struct pair pair;
	int before;

	tap_diag("streams, %s", mode);
	/* A sanitizer may start a thread with the first of ours. */
	pair_make(&pair);
	ops->stream_destroy(device, stream_busy(&pair));
	pair_free(&pair);
	before = threads();
	test_wrong_streams();
	test_callback();
	test_destroy();
	ok(threads_become(before), "no thread is left");
}

/* ---- strict ---- */

/* While another stream's work runs, what gives memory another meaning must wait. */
static void test_drains(void)
{
	static const char *const names[] = { "map", "unmap", "free" };
	void *stream = stream_new(), *at = reserved(page), *memory = local(64);
	symm_phys phys = block(page);
	pthread_t thread;

	for (uint64_t what = 0; what < 3; what++) {
		struct pair pair;
		struct opener opener = { &pair, 20 };

		pair_make(&pair);
		gate_launch(&pair, stream, 0);
		pthread_create(&thread, NULL, open_later, &opener);
		if (what == 0)
			map_one(at, page, phys);
		else if (what == 1)
			ops->unmap(device, at, page);
		else
			ops->local_free(device, memory);
		is_int((int64_t)pair_ended(&pair, 0), 1, "%s waits for all streams", names[what]);
		pthread_join(thread, NULL);
		pair_free(&pair);
	}
	ops->stream_destroy(device, stream);
	ops->release(device, phys);
	ops->unreserve(device, at, page);
}

static void test_shared_workers(void)
{
	void *streams[20];
	struct pair pair;
	int before = threads();

	pair_make(&pair);
	for (int i = 0; i < 20; i++)
		streams[i] = stream_busy(&pair);
	ok(threads_become(before + 8), "20 streams share 8 workers");
	for (int i = 0; i < 20; i++)
		ops->stream_destroy(device, streams[i]);
	pair_free(&pair);
}

int main(void)
{
	unsetenv("SYMM_HOST_STRICT");
	device_open("host");
	test_open();
	test_block();
	test_import_refuses();
	test_map();
#ifdef SYMM_ATOMIC_TSAN
	tap_skip(1, "ThreadSanitizer itself dies when there are too many mappings");
#else
	if (has_few_mappings())
		tap_ranks("too many mappings", 1, map_until_full, NULL, 60);
	else
		tap_skip(1, "too many mappings: vm.max_map_count is more than %d", MOST_MAPPINGS);
#endif
	tap_ranks("limits", 1, limited, NULL, 10);
	run_streams("one worker each");
	symm_device_close(device);

	setenv("SYMM_HOST_STRICT", "1", 1);
	device_open("host");
	run_streams("strict");
	test_shared_workers();
	test_drains();
	symm_device_close(device);
	return tap_done();
}
