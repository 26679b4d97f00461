/* A device's table, whatever the device (SYMM_DEVICE): blocks, addresses, local and common memory, streams, work. */
#include "device_help.h"

#include <fcntl.h>
#include <sys/socket.h>

static int open_named(const char *text, struct symm_device **opened)
{
	const struct symm_device_wish wish = { .text = text, .local_rank = -1, .share = true };

	return symm_device_open(&wish, opened);
}

static void test_names(void)
{
	static const char *const wrong[] = {
		"",    "hos", "hosty", "host:", "host:x", "host:1", "host:0x", "host:99999999999",
		"gpu", "cud", "cudas", "cuda:", "cuda:x", "cuda:-1"
	};
	struct symm_device *again = NULL, *same = NULL;

	is_int(open_named("host:0", &again), 0, "host:0");
	is_int(open_named("host", &same), 0, "host");
	ok(again == same, "are one device");
	is_int(symm_device_hold(same), 0, "which can be held");
	for (int i = 0; i < 3; i++)
		symm_device_close(same);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		again = NULL;
		is_int(open_named(wrong[i], &again), SYMM_EINVAL, "no device \"%s\"", wrong[i]);
		has_str(symm_last_error(), wrong[i], "its name is in the detail");
	}
	is_int(open_named(NULL, &again), SYMM_EINVAL, "no device NULL");
	ok(again == NULL, "outputs are written on success only");
	symm_device_close(NULL);
}

static bool is_word(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	return n > 0 && n < size &&
	       strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") == n;
}

static void test_identity(void)
{
	struct symm_device_id id;

	memset(&id, 0xff, sizeof(id));
	ops->identify(device, &id);
	is_str(id.kind, ops->name, "it tells its kind");
	ok(is_word(id.uuid, sizeof(id.uuid)) && is_word(id.fabric, sizeof(id.fabric)), "uuid %s, fabric %s", id.uuid,
	   id.fabric);
	is_int(ops->reach(device, &id), 0, "it reaches itself");
	ok(page >= 4096 && (page & (page - 1)) == 0, "its granularity is %zu", page);
}

/* ---- memory ---- */

/* True if the block holds the value in all words, as far as three looks can tell. */
static bool holds(const char *at, size_t bytes, uint64_t value)
{
	return number_at(at) == value && number_at(at + bytes / 16 * 8) == value && number_at(at + bytes - 8) == value;
}

static void test_block(void)
{
	size_t bytes = 5 * page;
	symm_phys phys = block(bytes), none = 77;
	char *at = reserved(bytes), *copy = calloc(1, bytes);

	is_int(map_one(at, bytes, phys), 0, "a block is mapped");
	is_int(ops->clear(device, at, bytes), 0, "and cleared");
	memset(copy, 1, bytes);
	is_int(ops->read(device, copy, at, bytes), 0, "it is read");
	ok(copy[0] == 0 && memcmp(copy, copy + 1, bytes - 1) == 0, "it is zero-filled");
	memset(copy, 3, bytes);
	is_int(ops->write(device, at, copy, bytes), 0, "it is written");
	is_int(ops->grant(device, at, bytes), 0, "the device may use its own block");
	ops->release(device, phys);
	ok(holds(at, bytes, UINT64_C(0x0303030303030303)), "a mapping outlives the release");
	is_int(ops->write(device, at + 3, "abc", 3), 0, "three bytes at an odd place");
	is_int((int64_t)number_at(at), INT64_C(0x0303636261030303), "are written, and nothing else");
	ops->unmap(device, at, bytes);
	ops->unreserve(device, at, bytes);
	free(copy);
	is_int(ops->create(device, 0, &none), SYMM_EINVAL, "no block of no bytes");
	is_int(ops->create(device, page + 1, &none), SYMM_EINVAL, "nor of half a page");
	is_int(ops->create(device, (size_t)1 << 46, &none), SYMM_ENOMEM, "nor of 64 TiB");
	is_int((int64_t)none, 77, "outputs are written on success only");
}

static void test_map(void)
{
	symm_phys one = block(page), two = block(page);
	char *at = reserved(4 * page);
	struct symm_mapping both[] = { { at + page, page, one }, { at + 2 * page, page, two } };

	is_int(ops->map(device, both, 2), 0, "two blocks are mapped");
	ok(set_number(at + page, 1) && set_number(at + 2 * page, 2), "and written");
	ops->unmap(device, at + page, page);
	is_int((int64_t)number_at(at + 2 * page), 2, "one is unmapped, the other stays");
	is_int(map_one(at + page, page, one), 0, "it is mapped again");
	is_int((int64_t)number_at(at + page), 1, "and has kept what it held");
	ops->unmap(device, at + page, page);
	is_int(map_one(at, page, one), 0, "and at another address");
	is_int((int64_t)number_at(at), 1, "too");
	ops->unmap(device, at, page);
	ops->unmap(device, at + 2 * page, page);
	ops->release(device, one);
	ops->release(device, two);
	ops->unreserve(device, at, 4 * page);
}

static void test_local(void)
{
	struct pair pair = { { NULL }, { NULL }, { NULL }, { NULL } };
	void *at = local(1000), *host, *kernel, *none;
	char bytes[1000];

	memset(bytes, 1, sizeof(bytes));
	is_int((int64_t)((uintptr_t)at % 64), 0, "local memory is aligned to 64 bytes");
	is_int(ops->read(device, bytes, at, sizeof(bytes)), 0, "it is read");
	ok(bytes[0] == 0 && memcmp(bytes, bytes + 1, sizeof(bytes) - 1) == 0, "as it was written");
	is_int(ops->local_alloc(device, SIZE_MAX, &none), SYMM_ENOMEM, "there is not so much of it");
	is_int(ops->common_alloc(device, 100, &host, &kernel), 0, "common memory");
	ok((uintptr_t)host % 64 == 0 && (uintptr_t)kernel % 64 == 0, "is aligned too");
	ok(*(char *)host == 0 && memcmp(host, (char *)host + 1, 99) == 0, "and zero-filled");
	pair_make(&pair);
	*(uint64_t *)host = 4711;
	struct symm_sync_op copy = copy_of(&pair, at, kernel, 8);

	is_int(ran(&copy), 0, "the device copies from it");
	is_int((int64_t)number_at(at), 4711, "what the host has stored");
	pair_free(&pair);
	ops->common_free(device, host);
	ops->common_free(device, NULL);
	ops->local_free(device, at);
	ops->local_free(device, NULL);
}

/* Allocated in any order, freed in any other, in sizes that do and do not fit together. */
static void test_local_many(void)
{
	enum { N = 300 };
	void *at[N];
	int wrong = 0;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			at[i] = local(64 + (size_t)(i * 97 + round * 31) % 5000);
			wrong += number_at(at[i]) != 0 || !set_number(at[i], (uint64_t)i);
		}
		for (int i = 0; i < N; i++)
			wrong += number_at(at[i * 7 % N]) != (uint64_t)(i * 7 % N);
		for (int i = 0; i < N; i++)
			ops->local_free(device, at[i * 11 % N]);
	}
	is_int(wrong, 0, "%d pieces of local memory at a time do not overlap, and are zero-filled each time", N);
}

/* ---- export and import, between processes ---- */

static int send_fd(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = "" };
	char nothing = 0;
	struct iovec byte = { &nothing, 1 };
	struct msghdr message = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};

	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
					   .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -1;
}

static int receive_fd(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char got;
	struct iovec byte = { &got, 1 };
	struct msghdr message = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	int fd = -1;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

static int meet(int socket)
{
	char byte = 0;

	return write(socket, &byte, 1) == 1 && read(socket, &byte, 1) == 1 ? 0 : -1;
}

/* Rank 0 exports, rank 1 imports; each then sees what the other writes. */
static int hand_over(int rank, void *arg)
{
	int socket = ((const int *)arg)[rank], fd = -1;
	symm_phys phys;
	char *at;

	device_open(device_text());
	at = reserved(3 * page);
	if (rank == 0) {
		phys = block(3 * page);
		CHECK(map_one(at, 3 * page, phys) == 0 && ops->clear(device, at, 3 * page) == 0);
		CHECK(set_number(at, 4711));
		CHECK(ops->export(device, phys, &fd) == 0, "%s", symm_last_error());
		CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && send_fd(socket, fd) == 0);
	} else {
		fd = receive_fd(socket);
		CHECK(ops->import(device, fd, 3 * page, &phys) == 0, "%s", symm_last_error());
		CHECK(map_one(at, 3 * page, phys) == 0 && number_at(at) == 4711);
		CHECK(set_number(at + 3 * page - 8, 4712));
	}
	close(fd);
	ops->release(device, phys);
	CHECK(meet(socket) == 0);
	CHECK(number_at(at) == 4711 && number_at(at + 3 * page - 8) == 4712);
	CHECK(meet(socket) == 0);
	ops->unmap(device, at, 3 * page);
	ops->unreserve(device, at, 3 * page);
	symm_device_close(device);
	return 0;
}

static void test_hand_over(void)
{
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
		tap_bail("socketpair");
	tap_ranks("a block is handed over", 2, hand_over, sockets, 30);
	close(sockets[0]);
	close(sockets[1]);
}

static void test_import_refuses(void)
{
	symm_phys phys = 77;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	is_int(ops->import(device, fd, page, &phys), SYMM_EPROTO, "no import of /dev/null");
	is_int((int64_t)phys, 77, "outputs are written on success only");
	close(fd);
}

/* ---- streams ---- */

#define STREAMS 20
#define PIECES 50

/* Each piece of work hands the number on to the next: only in order does it arrive. */
static void test_fifo(void)
{
	uint64_t *cells = local(STREAMS * (PIECES + 1) * sizeof(*cells));
	void *streams[STREAMS];
	struct pair pair;
	int bad = 0;

	pair_make(&pair);
	for (int s = 0; s < STREAMS; s++) {
		streams[s] = stream_new();
		bad += !set_number(cells + s * (PIECES + 1), (uint64_t)s + 1);
	}
	for (int p = 0; p < PIECES; p++)
		for (int s = 0; s < STREAMS; s++) {
			uint64_t *at = cells + s * (PIECES + 1) + p;
			struct symm_sync_op copy = copy_of(&pair, at + 1, at, sizeof(*at));

			bad += launched(streams[s], &copy) != 1;
		}
	is_int(bad, 0, "%d launches on each of %d streams count one each", PIECES, STREAMS);
	for (int s = 0; s < STREAMS; s++) {
		bad += ops->stream_wait(device, streams[s], soon(60000)) != 0;
		bad += number_at(cells + s * (PIECES + 1) + PIECES) != (uint64_t)s + 1;
	}
	is_int(bad, 0, "run in order, and have ended after the wait");
	is_int((int64_t)pair_ended(&pair, 0), PIECES * STREAMS, "as many as were counted");
	for (int s = 0; s < STREAMS; s++)
		bad += ops->stream_destroy(device, streams[s]) != 0;
	is_int(bad, 0, "and the streams are destroyed");
	pair_free(&pair);
	ops->local_free(device, cells);
}

static void test_wait(void)
{
	void *stream = stream_new(), *other = stream_new();
	struct pair pair;
	int64_t start;

	pair_make(&pair);
	is_int(ops->stream_wait(device, stream, 0), 0, "an idle stream needs no wait");
	is_int(gate_launch(&pair, stream, 3), 1, "work that does not end");
	start = symm_now();
	is_int(ops->stream_wait(device, stream, soon(30)), SYMM_ETIMEDOUT, "a wait ends at its deadline");
	ok(symm_now() - start >= 30 * SYMM_NS_PER_MS, "not before");
	is_int(gate_launch(&pair, stream, 4), 1, "work behind it");
	is_int(ops->stream_wait(device, stream, 0), SYMM_ETIMEDOUT, "still running");
	is_int((int64_t)pair_ended(&pair, 0), 0, "nothing has ended, which can be read meanwhile");
	is_int(ops->stream_wait(device, other, soon(1000)), 0, "another stream is not concerned");
	is_int(gate_open(&pair, 3), 0, "a signal");
	is_int(ops->stream_wait(device, stream, soon(500)), SYMM_ETIMEDOUT, "ends the first");
	is_int((int64_t)pair_ended(&pair, 0), 1, "which is counted");
	is_int(gate_open(&pair, 4), 0, "another");
	is_int(ops->stream_wait(device, stream, soon(10000)), 0, "ends all");
	is_int((int64_t)pair_ended(&pair, 0), 2, "counted");
	is_int(ops->stream_destroy(device, stream), 0, "destroy");
	is_int(ops->stream_destroy(device, other), 0, "of both");
	pair_free(&pair);
}

/* ---- work: rank 0's on a stream, rank 1's at once ---- */

static void test_sync(void)
{
	void *stream = stream_new();
	uint64_t *cell = local(2 * sizeof(*cell));
	struct pair pair;
	struct symm_sync_op barrier;

	pair_make(&pair);
	set_number(cell, 4711);
	struct symm_sync_op copy = copy_of(&pair, cell + 1, cell, sizeof(*cell));

	gate_launch(&pair, stream, 3);
	launched(stream, &copy);
	barrier = work_of(&pair, 0, SYMM_OP_BARRIER, 31);
	launched(stream, &barrier);
	is_int(ops->stream_wait(device, stream, soon(20)), SYMM_ETIMEDOUT, "a stream waits for a signal");
	is_int((int64_t)number_at(cell + 1), 0, "what stands behind it waits too");
	is_int(gate_open(&pair, 3), 0, "which is put");
	barrier = work_of(&pair, 1, SYMM_OP_BARRIER, 31);
	is_int(ran(&barrier), 0, "a barrier with the stream");
	is_int((int64_t)number_at(cell + 1), 4711, "what stood before the barrier is done");
	is_int(ops->stream_wait(device, stream, soon(10000)), 0, "the stream is through");
	is_int(ops->stream_destroy(device, stream), 0, "and destroyed");
	pair_free(&pair);
	ops->local_free(device, cell);
}

static void test_failure(void)
{
	struct symm_sync_op barrier, put;
	void *stream = stream_new();
	const struct symm_sync_record *record;
	struct pair pair;
	uint64_t ended;

	pair_make(&pair);
	record = &pair.mirror[1]->record;
	barrier = work_of(&pair, 1, SYMM_OP_BARRIER, 5);
	barrier.timeout_ns = 1000000;
	is_int(ran(&barrier), SYMM_ETIMEDOUT, "run returns the algorithm's code");
	is_int(pair.mirror[1]->written, 1, "which is recorded");
	ok(record->op == SYMM_SYNC_BARRIER && record->channel == 5 && record->peer == 0 && record->missing == 1 &&
		   record->code == SYMM_ETIMEDOUT,
	   "with who was missing at what");
	put = work_of(&pair, 1, SYMM_OP_PUT_SIGNAL, 0);
	is_int(ran(&put), SYMM_ETIMEDOUT, "what follows fails likewise");
	ended = pair_ended(&pair, 1);
	is_int(launched(stream, &put), 1, "a launch does not");
	is_int(ops->stream_wait(device, stream, soon(10000)), 0, "nor does the stream");
	is_int((int64_t)(pair_ended(&pair, 1) - ended), 1, "but its end is counted");
	is_int(gate_launch(&pair, stream, 1), 1, "rank 0 waits for rank 1");
	is_int(ops->stream_wait(device, stream, soon(10000)), 0, "and hears of the failure");
	ok(pair.mirror[0]->written == 1 && pair.mirror[0]->record.heard == 1 &&
		   pair.mirror[0]->record.code == SYMM_EPEER,
	   "as hearsay");
	is_int(ops->stream_destroy(device, stream), 0, "the stream is destroyed");
	pair_free(&pair);
}

/* The host's words end a wait that runs: abort in the mirror, a peer that is gone, a state of a peer. */
static void test_host_ends(void)
{
	void *stream = stream_new();
	struct symm_sync_op wait;
	struct pair pair;
	uint64_t closed = symm_sync_word_of(1, SYMM_STATE_CLOSED);

	for (int what = 0; what < 3; what++) {
		pair_make(&pair);
		is_int(gate_launch(&pair, stream, 1), 1, "a wait");
		is_int(ops->stream_wait(device, stream, soon(20)), SYMM_ETIMEDOUT, "runs");
		if (what == 0)
			__atomic_store_n(&pair.mirror[0]->abort, (uint32_t)-SYMM_ESTORE, __ATOMIC_RELEASE);
		else if (what == 1)
			__atomic_store_n(symm_sync_gone_at(pair.mirror[0], 1), SYMM_GONE_DIED, __ATOMIC_RELEASE);
		else
			ops->write(device, symm_sync_state_word(pair.slot[0], 2, 1), &closed, sizeof(closed));
		if (what < 2)
			symm_flag_bump(&pair.mirror[0]->news);
		ops->wake(device, pair.slot[0], 2);
		is_int(ops->stream_wait(device, stream, soon(10000)), 0, "and ends when %s",
		       what == 0   ? "the group is failed"
		       : what == 1 ? "the peer is gone"
				   : "the peer has freed the allocation");
		is_int((int64_t)pair_ended(&pair, 0), 1, "counted");
		wait = work_of(&pair, 0, SYMM_OP_WAIT_SIGNAL, 2);
		is_int(ran(&wait), what == 0 ? SYMM_ESTORE : what == 1 ? SYMM_EPEER : SYMM_ESTALE, "with that code");
		is_int(pair.mirror[0]->written, what == 1, "%s", what == 1 ? "recorded" : "without a record");
		pair_free(&pair);
	}
	ops->stream_destroy(device, stream);
}

int main(void)
{
	if (!need_device(2))
		return 0;
	test_names();
	test_hand_over();
	device_open(device_text());
	test_identity();
	test_block();
	test_map();
	test_import_refuses();
	test_local();
	test_local_many();
	test_fifo();
	test_wait();
	test_sync();
	test_failure();
	test_host_ends();
	symm_device_close(device);
	return tap_done();
}
