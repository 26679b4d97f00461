/* device_header.cc: symm/device.cuh on the host device, in C++11, by the public interface alone: its calls meet the
 * library's on the same channels, in both directions, and fail as they do. Run by t/device_header.sh. */
#include <symm/device.cuh>

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "t/tap/tap.h"
}

namespace
{

const int last_channel = SYMM_CHANNELS - 1;
const uint64_t ms = 1000000, patience = 30000 * ms;

tap_redis redis;
int *meeting; /* ranks meet here without symm's help */

#define GOOD(call)                                                                                                     \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != SYMM_OK)                                                                                    \
			return tap_rank_failed(__FILE__, __LINE__, #call, ": %s: %s", symm_strerror(rc_),              \
					       symm_last_error());                                                     \
	} while (0)
#define GIVES(call, code)                                                                                              \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != (code))                                                                                     \
			return tap_rank_failed(__FILE__, __LINE__, #call, " gives %s, not %s", symm_strerror(rc_),     \
					       #code);                                                                 \
	} while (0)

struct rank_of_group {
	int rank, world;
	symm_context *context;
	symm_group *group;
	symm_mem *mem;
	void *block;
	symm::device_view view;

	int start(int rank_, int world_)
	{
		symm_options options = SYMM_OPTIONS_INIT;

		rank = rank_;
		world = world_;
		options.url = redis.url;
		options.job = "test";
		options.device = "host";
		options.rank = rank;
		options.world_size = world;
		options.timeout_ms = 30000;
		GOOD(symm_open(&options, &context));
		GOOD(symm_group_join(context, "world", SYMM_AUTO, SYMM_AUTO, 0, &group));
		GOOD(symm_alloc(group, 4096, NULL, &block));
		GOOD(symm_rendezvous(block, group, 0, &mem));
		GOOD(symm_mem_device_view(mem, &view));
		return 0;
	}

	int stop()
	{
		GOOD(symm_mem_release(mem));
		GOOD(symm_close(context));
		return 0;
	}

	int next() const
	{
		return (rank + 1) % world;
	}

	int before() const
	{
		return (rank + world - 1) % world;
	}
};

/* What a kernel and the library have in common. */
struct by_library {
	static int barrier(const rank_of_group &r, int channel)
	{
		return symm_barrier(r.mem, channel, 0);
	}

	static int put(const rank_of_group &r, int dst, int channel)
	{
		return symm_put_signal(r.mem, dst, channel, 0);
	}

	static int wait(const rank_of_group &r, int src, int channel)
	{
		return symm_wait_signal(r.mem, src, channel, 0);
	}
};

template <class Scope> struct by_kernel {
	static int barrier(const rank_of_group &r, int channel)
	{
		return symm::barrier(Scope(), r.view, channel, patience);
	}

	static int put(const rank_of_group &r, int dst, int channel)
	{
		return symm::put_signal(Scope(), r.view, dst, channel, patience);
	}

	static int wait(const rank_of_group &r, int src, int channel)
	{
		return symm::wait_signal(Scope(), r.view, src, channel, patience);
	}
};

/* All write into their block, meet, and read what the others wrote; then a signal goes around the ring, with a word. */
template <class By> int turn(const rank_of_group &r, int channel, uint64_t number)
{
	uint64_t *mine = symm::buffer<uint64_t>(r.view, r.rank);

	mine[number % 2] = number + static_cast<uint64_t>(r.rank);
	GOOD(By::barrier(r, channel));
	for (int peer = 0; peer < r.world; peer++)
		CHECK(symm::buffer<uint64_t>(r.view, peer)[number % 2] == number + static_cast<uint64_t>(peer), "%d",
		      peer);
	symm::buffer<uint64_t>(r.view, r.next())[2 + number % 4] = number;
	GOOD(By::put(r, r.next(), channel));
	GOOD(By::wait(r, r.before(), channel));
	CHECK(mine[2 + number % 4] == number, "of the ring");
	return 0;
}

/* Each turn some ranks are kernels of one scope or another, the others host calls. */
int meet(int rank, void *arg)
{
	rank_of_group r;

	if (r.start(rank, *static_cast<int *>(arg)) != 0)
		return 1;
	for (uint64_t i = 1; i <= 400; i++) {
		const int channel = i % 3 == 0 ? last_channel : 0;
		const uint64_t how = (i + static_cast<uint64_t>(rank)) % 4;
		const int failed = how == 0   ? turn<by_library>(r, channel, i)
				   : how == 1 ? turn<by_kernel<symm::thread_scope>>(r, channel, i)
				   : how == 2 ? turn<by_kernel<symm::warp_scope>>(r, channel, i)
					      : turn<by_kernel<symm::block_scope>>(r, channel, i);

		if (failed)
			return 1;
	}
	GOOD(symm::failed(r.view));
	GOOD(symm_group_status(r.group));
	return r.stop();
}

/* Work on a stream meets kernels. */
int streams(int rank, void *)
{
	rank_of_group r;
	void *stream;

	if (r.start(rank, 2) != 0)
		return 1;
	GOOD(symm_stream_create(r.context, &stream));
	for (int i = 0; i < 10; i++) {
		if (rank == 0) {
			GOOD(symm_wait_signal_on_stream(r.mem, 1, 7, 0, stream));
			GOOD(symm_put_signal_on_stream(r.mem, 1, 7, 0, stream));
			GOOD(symm_barrier_on_stream(r.mem, 7, 0, stream));
		} else {
			GOOD(symm::put_signal(symm::block_scope(), r.view, 0, 7));
			GOOD(symm::wait_signal(symm::warp_scope(), r.view, 0, 7));
			GOOD(symm::barrier(symm::thread_scope(), r.view, 7));
		}
	}
	GOOD(symm_stream_synchronize(stream, 0));
	GOOD(symm_stream_destroy(stream));
	return r.stop();
}

/* Nothing happens, and nothing fails. */
int misuse(int rank, void *)
{
	const symm::block_scope scope = symm::block_scope();
	rank_of_group r;
	symm::device_view old;

	if (r.start(rank, 2) != 0)
		return 1;
	GIVES(symm::barrier(scope, r.view, SYMM_CHANNELS), SYMM_EINVAL);
	GIVES(symm::barrier(scope, r.view, -1), SYMM_EINVAL);
	GIVES(symm::put_signal(scope, r.view, 2, 0), SYMM_EINVAL);
	GIVES(symm::put_signal(scope, r.view, -1, 0), SYMM_EINVAL);
	GIVES(symm::put_signal(scope, r.view, 1, SYMM_CHANNELS), SYMM_EINVAL);
	GIVES(symm::wait_signal(scope, r.view, 2, 0), SYMM_EINVAL);
	GIVES(symm::wait_signal(scope, r.view, 0, -1), SYMM_EINVAL);
	GIVES(symm::wait_until(scope, r.view, 2, [] { return true; }), SYMM_EINVAL);
	old = r.view;
	old.version = SYMM_DEVICE_VIEW_VERSION + 1;
	GIVES(symm::barrier(scope, old, 0), SYMM_ENOTSUP);
	GIVES(symm::put_signal(scope, old, 1, 0), SYMM_ENOTSUP);
	GIVES(symm::wait_until(scope, old, 1, [] { return true; }), SYMM_ENOTSUP);
	GOOD(symm::failed(r.view));
	GOOD(symm_barrier(r.mem, 0, 0));
	return r.stop();
}

/* A wait times out: the group fails with the same record as by a host call, here and on the peer. */
int times_out(int rank, void *)
{
	rank_of_group r;

	if (r.start(rank, 2) != 0)
		return 1;
	if (rank == 0) {
		GIVES(symm::barrier(symm::block_scope(), r.view, 3, 20 * ms), SYMM_ETIMEDOUT);
		GIVES(symm::failed(r.view), SYMM_ETIMEDOUT);
		GIVES(symm_group_status(r.group), SYMM_ETIMEDOUT);
		CHECK(strstr(symm_last_error(), "barrier on channel 3") != NULL, "%s", symm_last_error());
		CHECK(strstr(symm_last_error(), "rank 1") != NULL, "%s", symm_last_error());
	} else {
		GIVES(symm_wait_signal(r.mem, 0, 4, 0), SYMM_ETIMEDOUT);
		CHECK(strstr(symm_last_error(), "rank 0") != NULL, "%s", symm_last_error());
	}
	/* Every call after it has the code, and stores nothing. */
	GIVES(symm::put_signal(symm::warp_scope(), r.view, r.next(), 5), SYMM_ETIMEDOUT);
	GIVES(symm::wait_signal(symm::thread_scope(), r.view, r.next(), 5), SYMM_ETIMEDOUT);
	GIVES(symm::wait_until(symm::block_scope(), r.view, r.next(), [] { return false; }), SYMM_ETIMEDOUT);
	tap_rally(meeting, 2);
	return r.stop();
}

/* A wait without end ends when the group fails by another rank's host call. */
int aborted(int rank, void *)
{
	rank_of_group r;

	if (r.start(rank, 2) != 0)
		return 1;
	if (rank == 0) {
		const int code = symm::wait_signal(symm::block_scope(), r.view, 1, 0);

		CHECK(code == SYMM_EPEER || code == SYMM_ETIMEDOUT, "%d", code);
		GIVES(symm_group_status(r.group), SYMM_ETIMEDOUT);
		CHECK(symm::failed(r.view) != 0);
	} else {
		GIVES(symm_barrier(r.mem, 0, 20), SYMM_ETIMEDOUT);
	}
	tap_rally(meeting, 2);
	return r.stop();
}

/* Rank 1 dies; arg: rank 0 waits in a loop of its own, or for a signal. */
int outlives(int rank, void *arg)
{
	const bool own_loop = *static_cast<int *>(arg) != 0;
	rank_of_group r;

	if (r.start(rank, 2) != 0)
		return 1;
	tap_rally(meeting, 2);
	if (rank == 1) {
		raise(SIGKILL);
	} else if (own_loop) {
		const uint32_t *pad = symm::signal_pad<uint32_t>(r.view, 0);

		GIVES(symm::wait_until(symm::warp_scope(), r.view, 1, [=] { return symm::load_relaxed(pad) == 1; }),
		      SYMM_EPEER);
		GOOD(symm::failed(r.view));
		GOOD(symm_group_status(r.group));
	} else {
		GIVES(symm::wait_signal(symm::warp_scope(), r.view, 1, 0), SYMM_EPEER);
		GIVES(symm_group_status(r.group), SYMM_EPEER);
		CHECK(strstr(symm_last_error(), "rank 1") != NULL, "%s", symm_last_error());
	}
	return r.stop();
}

void death(const char *name, int own_loop)
{
	int pid[2], status;

	*meeting = 0;
	tap_ranks_start(2, outlives, &own_loop, pid);
	status = tap_wait(pid[1], 60);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: rank 1 dies", name);
	is_int(tap_wait(pid[0], 60), 0, "%s: rank 0 hears of it", name);
}

/* A loop of the user's own over the signal pad, which is at rest again after it; and a time-out that fails nothing. */
int own_loops(int rank, void *)
{
	rank_of_group r;
	uint32_t *here, *there;
	double *payload;

	if (r.start(rank, 2) != 0)
		return 1;
	here = symm::signal_pad<uint32_t>(r.view, rank) + 8;
	there = symm::signal_pad<uint32_t>(r.view, r.next()) + 8;
	payload = symm::buffer<double>(r.view, r.next());
	GIVES(symm::wait_until(
		      symm::thread_scope(), r.view, r.next(), [=] { return symm::load_relaxed(here) == 1; }, ms),
	      SYMM_ETIMEDOUT);
	GOOD(symm::failed(r.view));
	GOOD(symm_barrier(r.mem, 0, 0));
	for (int i = 1; i <= 100; i++) {
		*payload = i;
		symm::store_release(there, 1u);
		GOOD(symm::wait_until(
			symm::block_scope(), r.view, r.next(), [=] { return symm::load_relaxed(here) == 1; },
			patience));
		CHECK(*symm::buffer<double>(r.view, rank) == i, "turn %d", i);
		symm::store_relaxed(here, 0u);
		GOOD(symm::barrier(symm::block_scope(), r.view, 1, patience));
	}
	symm::fence();
	CHECK(symm::load_relaxed(here) == 0);
	/* The peer frees: nothing will come any more. */
	if (rank == 1) {
		GOOD(symm_mem_release(r.mem));
		GOOD(symm_free(r.block));
		tap_rally(meeting, 2);
		GOOD(symm_close(r.context));
		return 0;
	}
	GIVES(symm::wait_until(
		      symm::block_scope(), r.view, 1, [] { return false; }, patience),
	      SYMM_ESTALE);
	GIVES(symm::wait_signal(symm::block_scope(), r.view, 1, 2, patience), SYMM_ESTALE);
	tap_rally(meeting, 2);
	return r.stop();
}

/* One that failed in the last case may have left others without it. */
void ranks(const char *name, int n, int (*fn)(int rank, void *arg), void *arg)
{
	*meeting = 0;
	tap_ranks(name, n, fn, arg, 60);
}

} // namespace

int main()
{
	int two = 2, three = 3;

	tap_redis_start(&redis, TAP_REDIS_UNIX);
	meeting = static_cast<int *>(tap_shared(sizeof(*meeting)));
	ranks("2 ranks, kernels and host calls", 2, meet, &two);
	ranks("3 ranks, kernels and host calls", 3, meet, &three);
	ranks("streams and kernels", 2, streams, NULL);
	ranks("misuse", 2, misuse, NULL);
	ranks("a time-out", 2, times_out, NULL);
	ranks("an abort", 2, aborted, NULL);
	ranks("loops of users' own", 2, own_loops, NULL);
	death("a signal from the dead", 0);
	death("a loop for the dead", 1);
	return tap_done();
}
