#include "group.h"

#include "base.h"
#include "exports.h"
#include "handle.h"
#include "lease.h"
#include "log.h"
#include "watch.h"

#include "symm/kernel/atomic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SWEPT 200

/* How long a peer that has failed may take to tell why. */
#define HEARSAY_NS (1000 * SYMM_NS_PER_MS)

/* All groups of the process. Taken before a group's own lock, never after. */
static struct {
	pthread_mutex_t lock;
	struct group *first;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct group *symm_group_get(struct symm_group *handle, int *rc)
{
	return symm_handle_get(handle, SYMM_HANDLE_GROUP, rc);
}

void symm_group_put(struct group *group)
{
	symm_handle_put(group->handle);
}

struct symm_group *symm_group_of(const struct context *context, const char *name)
{
	struct symm_group *handle = NULL;
	struct group *group;

	pthread_mutex_lock(&all.lock);
	for (group = all.first; group != NULL; group = group->next)
		if (group->context == context && group->made && (name == NULL || strcmp(group->name, name) == 0))
			break;
	if (group != NULL)
		handle = group->handle;
	pthread_mutex_unlock(&all.lock);
	return handle;
}

bool symm_group_lives_here(const struct symm_id *incarnation)
{
	struct group *group;

	pthread_mutex_lock(&all.lock);
	for (group = all.first; group != NULL; group = group->next)
		if (symm_id_equal(&group->self.incarnation, incarnation))
			break;
	pthread_mutex_unlock(&all.lock);
	return group != NULL;
}

const struct symm_member *symm_group_local(const struct group *group, int rank)
{
	size_t low = 0, high = group->roster->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (group->roster->member[middle].rank < rank)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == group->roster->n || group->roster->member[low].rank != rank)
		return NULL;
	return &group->roster->member[low];
}

const char *symm_group_rank_name(const struct group *group, int rank, char *out, size_t size)
{
	const struct symm_member *member = symm_group_local(group, rank);

	if (member != NULL)
		snprintf(out, size, "rank %d (%s, pid %d)", rank, member->process.host, (int)member->process.pid);
	else
		snprintf(out, size, "rank %d", rank);
	return out;
}

/* ---- bells ---- */

void symm_group_add_bell(struct group *group, struct bell *bell)
{
	pthread_mutex_lock(&group->lock);
	bell->next = group->bells;
	group->bells = bell;
	pthread_mutex_unlock(&group->lock);
}

void symm_group_remove_bell(struct group *group, struct bell *bell)
{
	struct bell **at = &group->bells;

	pthread_mutex_lock(&group->lock);
	while (*at != bell)
		at = &(*at)->next;
	*at = bell->next;
	pthread_mutex_unlock(&group->lock);
}

static void ring(struct group *group)
{
	struct symm_device *device = group->context->device;

	pthread_mutex_lock(&group->lock);
	for (struct bell *bell = group->bells; bell != NULL; bell = bell->next)
		device->ops->wake(device, bell->slot, (uint32_t)group->world_size);
	pthread_mutex_unlock(&group->lock);
}

/* ---- who is gone ---- */

uint32_t symm_group_gone(const struct group *group, int rank)
{
	return __atomic_load_n(symm_sync_gone_at(group->mirror, (uint32_t)rank), __ATOMIC_ACQUIRE);
}

/* A rank that left is not reported dead later. */
static void mark_gone(struct group *group, int rank, uint32_t how)
{
	uint32_t not_gone = SYMM_GONE_NOT;
	enum symm_log_level level;
	char name[128];

	if (rank == group->rank || rank < 0 || rank >= group->world_size)
		return;
	if (!__atomic_compare_exchange_n(symm_sync_gone_at(group->mirror, (uint32_t)rank), &not_gone, how, 0,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	symm_flag_bump(&group->mirror->news);
	/* Deaths that follow a failure are no news. */
	level = how == SYMM_GONE_DIED && symm_group_is_sound(group) ? SYMM_LOG_WARN : SYMM_LOG_INFO;
	symm_log(level, "gone job=%s group=%s rank=%d peer=%d: %s %s", group->context->job, group->name, group->rank,
		 rank, symm_group_rank_name(group, rank, name, sizeof(name)), how == SYMM_GONE_DIED ? "died" : "left");
	ring(group);
}

void symm_group_set_stale(struct group *group)
{
	__atomic_store_n(&group->stale, true, __ATOMIC_RELEASE);
	symm_log(SYMM_LOG_WARN, "group %s: the store %s has lost this generation: no more rendezvous", group->name,
		 symm_store_name(group->ks.store));
}

void symm_group_expired(struct group *group, int rank)
{
	if (rank >= 0 && rank < group->world_size && symm_group_local(group, rank) == NULL)
		mark_gone(group, rank, SYMM_GONE_DIED);
}

/* ---- failure ---- */

/* Those who enter from now on see it before they store anything. The word beside poison is never used. */
static void poison(struct group *group, int code)
{
	struct symm_device *device = group->context->device;
	uint32_t word[2] = { (uint32_t)-code, 0 };

	if (device->ops->write(device, &group->sync->poison, word, sizeof(word)) != 0)
		symm_log(SYMM_LOG_INFO, "group %s: %s", group->name, symm_last_error());
}

/* Kernels that wait see the mirror, and later ones poison: who hears of the failure from us finds its code there too.
 * The loop thread makes no call of a device that may take its time: the watch does. False: it had failed before. */
static bool fail_here(struct group *group, const struct symm_err *why, bool tell)
{
	bool first, watched = group->context->device->ops->watched;

	pthread_mutex_lock(&group->lock);
	first = group->failure.code == 0;
	if (first) {
		group->failure = *why;
		group->telling = tell;
		symm_log(SYMM_LOG_WARN, "failure job=%s group=%s rank=%d: %s", group->context->job, group->name,
			 group->rank, why->text);
		__atomic_store_n(&group->mirror->abort, (uint32_t)-why->code, __ATOMIC_RELEASE);
		symm_flag_bump(&group->mirror->news);
		if (!watched)
			poison(group, why->code);
	}
	pthread_mutex_unlock(&group->lock);
	if (!first)
		return false;
	if (watched)
		symm_watch_hurry();
	ring(group);
	return true;
}

static void spread(struct group *group, int rank, const struct symm_err *why)
{
	struct symm_notice notice = { .type = SYMM_MESSAGE_FAIL, .nonce = group->ks.nonce, .rank = rank, .why = *why };

	for (size_t i = 0; i < group->roster->n; i++)
		if (group->link[i] != NULL)
			symm_link_notify(group->link[i], &notice);
	pthread_mutex_lock(&all.lock);
	for (struct group *other = all.first; other != NULL; other = other->next)
		if (other != group && other->ks.nonce == group->ks.nonce)
			fail_here(other, why, false);
	pthread_mutex_unlock(&all.lock);
	symm_keyspace_fail(&group->ks, rank, why);
}

static bool has_failed(struct group *group, struct symm_err *why)
{
	pthread_mutex_lock(&group->lock);
	*why = group->failure;
	pthread_mutex_unlock(&group->lock);
	return why->code != 0;
}

/* Another thread is at it. */
static bool is_telling(struct group *group)
{
	bool telling;

	pthread_mutex_lock(&group->lock);
	telling = group->telling;
	pthread_mutex_unlock(&group->lock);
	return telling;
}

static void nothing(void *arg)
{
	(void)arg;
}

void symm_group_fail(struct group *group, int rank, const struct symm_err *why, bool tell)
{
	if (!fail_here(group, why, tell) || !tell)
		return;
	spread(group, rank, why);
	/* What was posted goes out before a caller, who may exit next, hears of the failure himself. */
	symm_loop_call(group->context->loop, nothing, NULL);
	pthread_mutex_lock(&group->lock);
	group->telling = false;
	pthread_mutex_unlock(&group->lock);
}

/* What the algorithm recorded when it failed, in words. */
static void describe_record(const struct group *group, const struct symm_sync_record *record, struct symm_err *why)
{
	static const char *const ops[] = { "barrier", "put_signal", "wait_signal" };
	static const char *const ways[] = {
		[SYMM_GONE_NOT] = "failed", [SYMM_GONE_DIED] = "died", [SYMM_GONE_LEFT] = "left"
	};
	const char *op = record->op < 3 ? ops[record->op] : "work";
	char me[128], peer[128], more[60] = "";
	double seconds = (double)record->timeout_ns / 1e9;

	symm_group_rank_name(group, group->rank, me, sizeof(me));
	symm_group_rank_name(group, (int)record->peer, peer, sizeof(peer));
	if (record->missing > 1)
		snprintf(more, sizeof(more), "; %u other%s had not come either", record->missing - 1,
			 record->missing == 2 ? "" : "s");
	if (record->code == SYMM_EBUSY)
		symm_err_set(why, SYMM_EBUSY,
			     "%s: two barriers at once on channel %u: give each stream or thread a channel of its own",
			     me, record->channel);
	else if (record->heard)
		symm_err_set(why, record->code, "%s failed, and did not tell why", peer);
	else if (record->code == SYMM_EPEER && record->peer < (uint32_t)group->world_size)
		symm_err_set(why, record->code, "%s: %s on channel %u cannot meet %s, which %s%s", me, op,
			     record->channel, peer, ways[symm_group_gone(group, (int)record->peer)], more);
	else if (record->code == SYMM_ETIMEDOUT)
		symm_err_set(why, record->code, "%s: %s on channel %u timed out waiting for %s, after %.3g s%s", me, op,
			     record->channel, peer, seconds, more);
	else
		symm_err_set(why, record->code, "%s: %s on channel %u failed with %s%s", me, op, record->channel, peer,
			     more);
}

/* Why the group failed, from the record if nobody has told better; false: not known yet. A record that only says that a
 * peer failed is the last resort, because the peer is there to tell why. So is code, where there is no record. */
static bool learn_failure(struct group *group, bool patient, int code)
{
	const struct symm_sync_mirror *mirror = group->mirror;
	bool written = __atomic_load_n(&mirror->written, __ATOMIC_ACQUIRE) != 0;
	struct symm_err why;
	char me[128];

	if (has_failed(group, &why))
		return true;
	if (patient && (!written || mirror->record.heard))
		return false;
	if (written)
		describe_record(group, &mirror->record, &why);
	else
		symm_err_set(&why, code, "%s: work failed on the device, which has not told why",
			     symm_group_rank_name(group, group->rank, me, sizeof(me)));
	symm_group_fail(group, group->rank, &why, true);
	return true;
}

int symm_group_failed(struct group *group, int code)
{
	int64_t patience = symm_now() + HEARSAY_NS;
	struct symm_err why;

	while (!learn_failure(group, symm_now() < patience, code) || is_telling(group))
		symm_sleep(SYMM_NS_PER_MS / 10, INT64_MAX);
	has_failed(group, &why);
	return symm_error(why.code, "group %s has failed: %s", group->name, why.text);
}

void symm_group_look(struct group *group)
{
	struct symm_err why;

	if (group->noticed == 0)
		group->noticed = symm_now();
	if (!learn_failure(group, symm_now() - group->noticed < HEARSAY_NS, SYMM_EDEVICE))
		return;
	has_failed(group, &why);
	poison(group, why.code);
	group->poisoned = true;
}

/* ---- what the links tell, on the loop thread ---- */

static void hook_died(const struct symm_id *process)
{
	pthread_mutex_lock(&all.lock);
	for (struct group *group = all.first; group != NULL; group = group->next)
		for (size_t i = 0; i < group->roster->n; i++)
			if (symm_id_equal(&group->roster->member[i].process.id, process))
				mark_gone(group, group->roster->member[i].rank, SYMM_GONE_DIED);
	pthread_mutex_unlock(&all.lock);
}

/* Believed only from the process in which that rank of the group lives. */
static bool speaks_for(const struct group *group, const struct symm_id *process, int rank)
{
	const struct symm_member *member = symm_group_local(group, rank);

	return member != NULL && symm_id_equal(&member->process.id, process);
}

static void hook_notice(const struct symm_id *process, const struct symm_notice *notice)
{
	pthread_mutex_lock(&all.lock);
	for (struct group *group = all.first; group != NULL; group = group->next) {
		if (group->ks.nonce != notice->nonce || !speaks_for(group, process, notice->rank))
			continue;
		if (notice->type == SYMM_MESSAGE_LEFT)
			mark_gone(group, notice->rank, SYMM_GONE_LEFT);
		else if (notice->type == SYMM_MESSAGE_FAIL && notice->why.code < 0)
			fail_here(group, &notice->why, false);
	}
	pthread_mutex_unlock(&all.lock);
}

const struct symm_link_hooks symm_group_link_hooks = {
	.died = hook_died,
	.notice = hook_notice,
	.exported = symm_exports_find,
};

/* ---- making and unmaking ---- */

static int write_sync(struct group *group, struct symm_sync_mirror *mirror_of_kernels)
{
	struct symm_device *device = group->context->device;
	const char *epoch0 = getenv("SYMM_EPOCH0"); /* tests start near the wrap */
	const struct symm_sync_group sync = {
		.version = SYMM_SYNC_VERSION,
		.generation = (uint32_t)group->generation,
		.rank = (uint32_t)group->rank,
		.world_size = (uint32_t)group->world_size,
		.epoch0 = epoch0 != NULL ? (uint32_t)strtoul(epoch0, NULL, 0) : 0,
		.oversubscribed = group->roster->n > symm_cores(),
		.mirror = mirror_of_kernels,
	};

	return device->ops->write(device, group->sync, &sync, sizeof(sync));
}

static void free_sync(struct group *group)
{
	struct symm_device *device = group->context->device;

	device->ops->local_free(device, group->sync);
	device->ops->common_free(device, group->mirror);
}

static int make_sync(struct group *group)
{
	struct symm_device *device = group->context->device;
	void *sync, *mirror, *mirror_of_kernels;
	int rc = device->ops->common_alloc(device, symm_sync_mirror_bytes((uint32_t)group->world_size), &mirror,
					   &mirror_of_kernels);

	if (rc != 0)
		return rc;
	rc = device->ops->local_alloc(device, sizeof(*group->sync), &sync);
	if (rc != 0) {
		device->ops->common_free(device, mirror);
		return rc;
	}
	group->sync = sync;
	group->mirror = mirror;
	rc = write_sync(group, mirror_of_kernels);
	if (rc != 0)
		free_sync(group);
	return rc;
}

static void drop_links(struct group *group)
{
	for (size_t i = 0; group->link != NULL && i < group->roster->n; i++)
		symm_link_put(group->link[i]);
	free(group->link);
}

static int make_links(struct group *group)
{
	group->link = calloc(group->roster->n, sizeof(struct symm_link *));
	if (group->link == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	for (size_t i = 0; i < group->roster->n; i++) {
		const struct symm_process *process = &group->roster->member[i].process;
		int rc;

		if (symm_id_equal(&process->id, &symm_link_self()->id))
			continue;
		rc = symm_link_get(process, &group->link[i]);
		if (rc != 0) {
			drop_links(group);
			return rc;
		}
		group->foreign++;
	}
	return 0;
}

static void init_locks(struct group *group)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&group->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&group->turn_changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void add(struct group *group)
{
	pthread_mutex_lock(&all.lock);
	group->next = all.first;
	all.first = group;
	pthread_mutex_unlock(&all.lock);
}

static void set_made(struct group *group)
{
	pthread_mutex_lock(&all.lock);
	group->made = true;
	pthread_mutex_unlock(&all.lock);
}

static void remove_from_all(struct group *group)
{
	struct group **at = &all.first;

	pthread_mutex_lock(&all.lock);
	while (*at != group)
		at = &(*at)->next;
	*at = group->next;
	for (struct group *other = all.first; other != NULL; other = other->next)
		if (other->ks.nonce == group->ks.nonce)
			mark_gone(other, group->rank, SYMM_GONE_LEFT);
	pthread_mutex_unlock(&all.lock);
}

static int watch(struct group *group)
{
	return group->context->device->ops->watched ? symm_watch_add(group) : 0;
}

static void group_free(struct group *group)
{
	pthread_cond_destroy(&group->turn_changed);
	pthread_mutex_destroy(&group->lock);
	free(group);
}

int symm_group_make(struct context *context, const char *name, const struct symm_keyspace *ks,
		    const struct symm_member *self, int world_size, int64_t generation, int64_t deadline,
		    struct group **out)
{
	struct group *group = calloc(1, sizeof(*group));
	int rc;

	if (group == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	*group = (struct group){ .context = context,
				 .ks = *ks,
				 .self = *self,
				 .rank = self->rank,
				 .world_size = world_size,
				 .generation = generation };
	snprintf(group->name, sizeof(group->name), "%s", name);
	init_locks(group);
	if ((rc = symm_roster_get(&group->ks, deadline, &group->roster)) != 0)
		goto fail;
	/* Ours, and the loop's, of each rank. */
	group->hurries = 2 * group->roster->n <= symm_cores();
	if ((rc = make_sync(group)) != 0)
		goto fail_roster;
	group->handle = symm_handle_new(SYMM_HANDLE_GROUP, group);
	if (group->handle == NULL) {
		rc = SYMM_ENOMEM;
		goto fail_sync;
	}
	/* Before the links, which tell of a death only once. */
	add(group);
	if ((rc = make_links(group)) != 0)
		goto fail_added;
	if ((rc = symm_lease_start(group, &group->lease)) != 0)
		goto fail_links;
	if ((rc = watch(group)) != 0)
		goto fail_lease;
	set_made(group);
	*out = group;
	return 0;
fail_lease:
	symm_lease_stop(group->lease);
fail_links:
	drop_links(group);
fail_added:
	remove_from_all(group);
	symm_handle_close(group->handle);
	symm_handle_free(group->handle);
fail_sync:
	free_sync(group);
fail_roster:
	symm_roster_put(group->roster);
fail:
	group_free(group);
	return rc;
}

/* A rendezvous takes the keys of the one before it with it, unless it failed; older ones than these go by their TTL. */
static void leave_store(struct group *group, int64_t deadline)
{
	uint64_t first = group->unswept != 0 ? group->unswept : group->seq, last = group->seq + 1;

	if (__atomic_load_n(&group->stale, __ATOMIC_ACQUIRE))
		return;
	if (last - first > MOST_SWEPT)
		first = last - MOST_SWEPT;
	if (symm_keyspace_leave(&group->ks, &group->self, first > 1 ? first - 1 : 1, last, deadline) != 0)
		symm_log(SYMM_LOG_INFO, "group %s: not taken out of the store: %s", group->name, symm_last_error());
}

void symm_group_unmake(struct group *group, int64_t deadline)
{
	struct symm_notice notice = { .type = SYMM_MESSAGE_LEFT, .nonce = group->ks.nonce, .rank = group->rank };

	for (size_t i = 0; i < group->roster->n; i++)
		if (group->link[i] != NULL)
			symm_link_notify(group->link[i], &notice);
	remove_from_all(group);
	symm_lease_stop(group->lease);
	if (group->context->device->ops->watched)
		symm_watch_remove(group);
	leave_store(group, deadline);
	drop_links(group);
	free_sync(group);
	symm_roster_put(group->roster);
	group_free(group);
}

/* ---- turns ---- */

/* So many ranks, asking for nothing one after the other, are no load that their own questions feel. */
#define MOST_TO_ROUSE 16

void symm_group_hurry(const struct group *group, int64_t ns)
{
	if (!group->hurries)
		return;
	symm_loop_hurry(group->context->loop, ns);
	if (ns > 0 && group->world_size <= MOST_TO_ROUSE)
		symm_store_rouse(group->ks.store);
}

static void turn_remove(struct group *group, struct turn *turn)
{
	struct turn **at = &group->turns;

	while (*at != turn)
		at = &(*at)->next;
	*at = turn->next;
	pthread_cond_broadcast(&group->turn_changed);
}

/* By its number: its thread may be back with another collective at the same place of its stack. */
static bool is_queued(const struct group *group, uint64_t seq)
{
	struct turn *other = group->turns;

	while (other != NULL && other->seq != seq)
		other = other->next;
	return other != NULL;
}

static struct turn *same_key(const struct group *group, const void *key)
{
	struct turn *turn = group->turns;

	while (turn != NULL && turn->key != key)
		turn = turn->next;
	return turn;
}

/* Until turn number seq is the first, or, with gone, until it is not in the queue. */
static int turn_wait(struct group *group, uint64_t seq, bool gone, int64_t deadline)
{
	struct timespec at = { deadline / 1000000000, deadline % 1000000000 };

	while (gone ? is_queued(group, seq) : group->turns->seq != seq) {
		if (symm_now() >= deadline)
			return symm_error(SYMM_ETIMEDOUT,
					  "another thread's collective on group %s had not ended at the deadline",
					  group->name);
		pthread_cond_timedwait(&group->turn_changed, &group->lock, &at);
	}
	return 0;
}

int symm_group_enter(struct group *group, int64_t deadline, struct turn *turn,
		     bool (*done)(const struct turn *turn, struct group *group), bool *needless)
{
	struct turn **at = &group->turns, *same;
	int rc;

	pthread_mutex_lock(&group->lock);
	same = same_key(group, turn->key);
	*needless = same != NULL || done(turn, group);
	if (*needless) {
		rc = same != NULL ? turn_wait(group, same->seq, true, deadline) : 0;
	} else {
		turn->seq = ++group->seq;
		turn->next = NULL;
		while (*at != NULL)
			at = &(*at)->next;
		*at = turn;
		rc = turn_wait(group, turn->seq, false, deadline);
		if (rc != 0)
			turn_remove(group, turn);
	}
	pthread_mutex_unlock(&group->lock);
	return rc;
}

void symm_group_exit(struct group *group, struct turn *turn)
{
	pthread_mutex_lock(&group->lock);
	turn_remove(group, turn);
	pthread_mutex_unlock(&group->lock);
}

void symm_group_left_keys(struct group *group, uint64_t seq)
{
	pthread_mutex_lock(&group->lock);
	if (group->unswept == 0 || seq < group->unswept)
		group->unswept = seq;
	pthread_mutex_unlock(&group->lock);
}

void symm_group_tell_doing(struct context *context)
{
	pthread_mutex_lock(&all.lock);
	for (struct group *group = all.first; group != NULL; group = group->next)
		if (group->context == context && group->made)
			symm_lease_hurry(group->lease);
	pthread_mutex_unlock(&all.lock);
}
