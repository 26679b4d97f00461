/* rendezvous.c: the collective that makes an allocation addressable by all ranks of a group.
 *
 * prepare -> publish -> all have come and agree ("go") -> exchange and map -> vote -> all could ("ready") -> done
 * Any failure, anywhere, becomes the verdict for every rank, and each unwinds what it has made. Multicast, where all
 * offer it, is agreed on before the vote, and may fail by itself. Who waits for "go" exchanges and maps already, if the
 * others are there: that is local, and undone when the verdict is another.
 */
#include "await.h"
#include "base.h"
#include "builtin.h"
#include "exchange.h"
#include "exports.h"
#include "fork.h"
#include "handle.h"
#include "log.h"
#include "reach.h"
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct meeting {
	struct group *group;
	struct alloc *alloc;
	struct turn turn;
	struct await await;
	char digest[SYMM_DIGEST_MAX]; /* what this rank comes with */
	struct arena *arena;          /* a reference; NULL until the exchange if a new one comes along */
	struct block *arena_block;    /* our part of a new one */
	struct export export;
	bool exported;
	struct exchange exchange;
	bool asking;       /* ahead of the verdict, and not finished yet */
	int64_t ask_at;    /* not before */
	bool failed_ahead; /* then it is tried once more, after "go" */
	struct multicast_offer multicast;
	struct view *view;
	struct symm_err failure; /* what keeps this rank from taking part */
};

/* This rank cannot take part: the others shall read why. */
static int cannot(struct meeting *m, int rc)
{
	char name[128];

	symm_error_prefix(rc, "%s", symm_group_rank_name(m->group, m->group->rank, name, sizeof(name)));
	return symm_err_take(&m->failure, rc);
}

static void log_step(const struct meeting *m, const char *step)
{
	symm_log(SYMM_LOG_DEBUG, "rank %d, group %s, rendezvous %llu, after %.3f ms: %s", m->group->rank,
		 m->group->name, (unsigned long long)m->turn.seq,
		 (double)(symm_now() - m->await.started) / SYMM_NS_PER_MS, step);
}

/* why: NULL if it is done. */
static void log_end(const struct meeting *m, const struct symm_err *why)
{
	const struct group *group = m->group;
	struct symm_stats *stats = &group->context->stats;
	int64_t took = symm_now() - m->await.started;

	symm_count(why == NULL ? &stats->rendezvous_done : &stats->rendezvous_failed, 1);
	symm_count(&stats->collective_ns, (uint64_t)took);
	symm_log(SYMM_LOG_INFO, "rendezvous job=%s group=%s rank=%d seq=%llu bytes=%zu ms=%.3f%s%s",
		 group->context->job, group->name, group->rank, (unsigned long long)m->turn.seq,
		 m->alloc != NULL ? m->alloc->bytes : 0, (double)took / SYMM_NS_PER_MS,
		 why == NULL ? "" : " failed: ", why == NULL ? "" : why->text);
}

/* ---- prepare ---- */

static int prepare_arena(struct meeting *m)
{
	m->arena = symm_arena_of(m->group, m->turn.seq);
	return m->arena != NULL ? 0 : symm_arena_block(m->group, &m->arena_block);
}

static void write_digest(struct meeting *m)
{
	char id[32] = "none";

	if (m->alloc->pool != NULL)
		strcpy(id, "pool");
	if (m->alloc->persistent)
		snprintf(id, sizeof(id), "%llu", (unsigned long long)m->alloc->id);
	snprintf(m->digest, sizeof(m->digest), "size=%zu pad=%zu alloc_id=%s device=%s handle=%s arena=%s abi=%d",
		 m->alloc->bytes, m->alloc->pad_bytes, id, m->alloc->block->device->ops->name,
		 m->export.fabric ? "fabric" : "fd", m->arena_block != NULL ? "new" : "old", SYMM_ABI);
}

static int prepare(struct meeting *m)
{
	int rc = symm_reach_check(m->group, symm_await_store_deadline(&m->group->ks, m->await.deadline));

	if (rc == 0)
		rc = prepare_arena(m);
	if (rc != 0)
		return rc;
	m->export = (struct export){ .nonce = m->group->ks.nonce,
				     .seq = m->turn.seq,
				     .rank = m->group->rank,
				     .block = { m->alloc->block, m->arena_block },
				     .count = m->arena_block != NULL ? 2 : 1,
				     .digest = m->digest,
				     .loop = m->group->foreign > 0 ? m->group->context->loop : NULL,
				     .fabric = m->group->roster->n_far > 0,
				     .offer.incarnation = m->group->self.incarnation };
	write_digest(m);
	rc = symm_export_begin(&m->export);
	m->exported = rc == 0;
	if (rc == 0)
		symm_multicast_begin(&m->multicast, &m->await, m->alloc->block);
	return rc;
}

/* ---- exchange and map ---- */

static int map_arena(struct meeting *m)
{
	struct incoming *incoming;
	int rc = symm_exchange_gather(&m->exchange, 1, &incoming);

	if (rc != 0)
		return rc;
	rc = symm_arena_make(m->group, m->turn.seq, m->arena_block, incoming, &m->arena);
	if (rc != 0) {
		symm_exchange_drop(incoming, (size_t)m->group->world_size - 1);
		return rc;
	}
	m->arena_block = NULL;
	free(incoming);
	return 0;
}

/* Takes the array and the references in it. */
static int map_data(struct meeting *m, struct incoming *incoming)
{
	struct span span;
	int rc = symm_span_map(&span, symm_block_ref(m->alloc->block), m->group->rank, m->group->world_size, incoming);

	if (rc != 0) {
		symm_block_unref(m->alloc->block);
		symm_exchange_drop(incoming, (size_t)m->group->world_size - 1);
		return rc;
	}
	free(incoming);
	rc = symm_view_make(m->alloc, m->group, m->turn.seq, &span, m->arena, &m->view);
	if (rc != 0)
		symm_span_unmap(&span);
	return rc;
}

static int ask(struct meeting *m, bool ahead)
{
	m->exchange = (struct exchange){
		.group = m->group, .seq = m->turn.seq, .blocks = m->export.count, .digest = m->digest, .ahead = ahead
	};
	return symm_exchange_begin(&m->exchange);
}

/* *fetched: what the others offer was all there. */
static int fetch_and_map(struct meeting *m, bool *fetched)
{
	struct incoming *incoming;
	int rc = symm_exchange_finish(&m->exchange, m->await.deadline,
				      symm_await_store_deadline(&m->group->ks, m->await.deadline));

	*fetched = false;
	if (rc != 0)
		return rc;
	if (m->arena_block != NULL)
		rc = map_arena(m);
	if (rc == 0)
		rc = symm_exchange_gather(&m->exchange, 0, &incoming);
	if (rc == 0) {
		*fetched = true;
		log_step(m, "fetched");
		symm_group_hurry(m->group, SYMM_AWAIT_MAPPING);
		rc = map_data(m, incoming);
	}
	symm_exchange_end(&m->exchange);
	return rc;
}

/* ---- the same, ahead of the verdict ---- */

#define MOST_RANKS 16 /* each asks all others */
/* Who is not there yet is asked again after that, and then less and less often. */
#define ASK_AGAIN (SYMM_NS_PER_MS / 20)

/* An arena comes with the first rendezvous of many, and other hosts' handles with the verdict. */
static bool may_map_ahead(const struct meeting *m)
{
	return m->failure.code == 0 && m->arena_block == NULL && m->group->roster->n_far == 0 &&
	       m->group->world_size <= MOST_RANKS;
}

static void ask_ahead(struct meeting *m)
{
	int64_t now = symm_now();

	if (now < m->ask_at)
		return;
	m->ask_at = now + ASK_AGAIN + (now - m->await.started) / 2;
	m->asking = ask(m, true) == 0;
}

/* The hook of the wait for "go". */
static bool map_ahead(void *arg)
{
	struct meeting *m = arg;
	bool fetched;
	int rc;

	if (m->view != NULL || m->failed_ahead)
		return false;
	if (!m->asking)
		ask_ahead(m);
	if (!m->asking || !symm_exchange_is_answered(&m->exchange))
		return false;
	m->asking = false;
	rc = fetch_and_map(m, &fetched);
	if (!fetched)
		return false;
	m->failed_ahead = rc != 0;
	symm_group_hurry(m->group, SYMM_LOOP_HURRY); /* what is left is to be told of the verdict */
	return true;
}

static void stop_ahead(struct meeting *m)
{
	if (m->asking && symm_exchange_finish(&m->exchange, 0, 0) == 0)
		symm_exchange_end(&m->exchange);
	m->asking = false;
}

static int publish(struct meeting *m, struct symm_verdict *verdict)
{
	struct symm_err why;
	int rc;

	if (may_map_ahead(m)) {
		ask_ahead(m);
		m->await.meanwhile = (struct symm_meanwhile){ map_ahead, m };
	}
	rc = symm_await_publish(&m->await, m->failure.code == 0 ? m->digest : "", m->exported ? &m->export.offer : NULL,
				&m->failure, verdict);
	m->await.meanwhile.fn = NULL;
	symm_err_take(&why, rc);
	if (rc == 0 && verdict->what == SYMM_VERDICT_GO && m->asking)
		map_ahead(m);
	stop_ahead(m);
	return rc == 0 ? 0 : symm_err_return(&why);
}

static int exchange_and_map(struct meeting *m)
{
	bool fetched;
	int rc;

	if (m->view != NULL)
		return 0;
	rc = ask(m, false);
	return rc == 0 ? fetch_and_map(m, &fetched) : rc;
}

/* ---- the steps ---- */

static int hold(struct meeting *m)
{
	int rc = 0;

	symm_memory_read();
	m->alloc = symm_alloc_find(m->turn.key, &rc);
	if (m->alloc != NULL && m->alloc->group->context != m->group->context) {
		rc = symm_error(SYMM_EINVAL, "the allocation at %p and group %s belong to different contexts",
				m->turn.key, m->group->name);
		m->alloc = NULL;
	}
	if (m->alloc != NULL)
		__atomic_fetch_add(&m->alloc->busy, 1, __ATOMIC_ACQ_REL);
	symm_memory_unlock();
	return rc;
}

static void unwind(struct meeting *m)
{
	symm_multicast_end(&m->multicast);
	if (m->exported)
		symm_export_end(&m->export);
	if (m->view != NULL)
		symm_view_free(m->view);
	else
		symm_arena_unref(m->arena);
	symm_block_unref(m->arena_block);
	if (m->alloc != NULL)
		__atomic_fetch_sub(&m->alloc->busy, 1, __ATOMIC_ACQ_REL);
}

static struct symm_mem *keep(struct meeting *m)
{
	if (m->group->arena != m->arena)
		symm_arena_keep(m->group, m->arena);
	symm_memory_write();
	m->view->refs = 1;
	m->view->next = m->alloc->views;
	m->alloc->views = m->view;
	symm_memory_unlock();
	symm_multicast_end(&m->multicast);
	symm_export_end(&m->export);
	__atomic_fetch_sub(&m->alloc->busy, 1, __ATOMIC_ACQ_REL);
	return m->view->handle;
}

static int run(struct meeting *m, struct symm_verdict *verdict)
{
	struct multicast made = { .block = NULL };
	int rc = m->failure.code == 0 ? hold(m) : 0;

	if (rc == 0 && m->failure.code == 0)
		rc = prepare(m);
	if (rc != 0)
		cannot(m, rc);
	log_step(m, m->failure.code == 0 ? m->digest : m->failure.text);
	rc = publish(m, verdict);
	if (rc != 0 || verdict->what != SYMM_VERDICT_GO)
		return rc;
	log_step(m, "all have come and agree");
	rc = exchange_and_map(m);
	if (rc != 0)
		cannot(m, rc);
	log_step(m, rc == 0 ? "mapped" : m->failure.text);
	rc = symm_multicast_make(&m->multicast, &m->await, &m->failure, &made);
	if (rc != 0 && m->failure.code == 0)
		cannot(m, rc);
	if (made.block != NULL)
		m->view->multicast = made;
	return symm_await_vote(&m->await, &m->failure, verdict);
}

/* With the turn, or, with a failure, without it: the number is consumed either way. */
static int meet(struct meeting *m, struct symm_mem **mem)
{
	struct symm_verdict verdict = { SYMM_VERDICT_NONE, 0, -1, "" };
	struct symm_err why;
	struct doing doing;
	int rc;

	symm_doing_begin(&doing, m->group->context, false, "rendezvous %llu of group %s",
			 (unsigned long long)m->turn.seq, m->group->name);
	rc = run(m, &verdict);
	symm_doing_end(&doing);
	if (rc == 0 && verdict.what == SYMM_VERDICT_READY && !m->await.voting)
		rc = symm_error(SYMM_EPROTO,
				"the store has a rendezvous %llu of group %s that is ready without this rank",
				(unsigned long long)m->turn.seq, m->group->name);
	if (rc == 0 && verdict.what == SYMM_VERDICT_READY) {
		log_end(m, NULL);
		*mem = keep(m);
		return 0;
	}
	symm_group_left_keys(m->group, m->turn.seq);
	if (rc != 0)
		symm_err_take(&why, rc);
	else
		symm_err_set(&why, verdict.code, "%s", verdict.text);
	log_end(m, &why);
	unwind(m);
	/* Whoever has voted and cannot learn the verdict: it may be "ready" for others. */
	if (rc == SYMM_ESTORE || rc == SYMM_EAUTH || (rc != 0 && m->await.voting))
		symm_group_fail(m->group, m->group->rank, &why, true);
	return symm_err_return(&why);
}

/* ---- the call ---- */

static struct symm_mem *look_up(const void *ptr, const struct group *group, int *rc)
{
	struct symm_mem *handle = NULL;
	struct alloc *alloc;
	struct view *view;

	*rc = 0;
	symm_memory_read();
	alloc = symm_alloc_find(ptr, rc);
	view = alloc != NULL ? symm_view_of(alloc, group) : NULL;
	if (view != NULL) {
		__atomic_fetch_add(&view->refs, 1, __ATOMIC_RELAXED);
		handle = view->handle;
	}
	symm_memory_unlock();
	return handle;
}

static bool is_done(const struct turn *turn, struct group *group)
{
	bool done;
	struct alloc *alloc;
	int rc;

	symm_memory_read();
	alloc = symm_alloc_find(turn->key, &rc);
	done = alloc != NULL && symm_view_of(alloc, group) != NULL;
	symm_memory_unlock();
	return done;
}

/* The key of a turn is the allocation's own address, so that two pointers into one allocation are one collective. */
static const void *key_of(const void *ptr)
{
	struct alloc *alloc;
	const void *key = ptr;
	int rc;

	symm_memory_read();
	alloc = symm_alloc_find(ptr, &rc);
	if (alloc != NULL)
		key = alloc->ptr;
	symm_memory_unlock();
	return key;
}

int symm_alloc_meet(struct group *group, const void *ptr, int failure, int64_t timeout_ms, struct symm_mem **mem)
{
	struct meeting m = { .group = group };
	bool needless;
	int rc;

	if (failure != 0)
		cannot(&m, failure);
	rc = symm_context_deadline(group->context, timeout_ms, &m.await.deadline);
	if (rc != 0) {
		cannot(&m, rc);
		symm_context_deadline(group->context, 0, &m.await.deadline);
	}
	if ((rc = symm_group_check(group)) != 0)
		return rc;
	if (__atomic_load_n(&group->stale, __ATOMIC_ACQUIRE))
		return symm_error(SYMM_ESTALE, "the store %s has lost group %s: leave it and join again",
				  symm_store_name(group->ks.store), group->name);
	m.await = (struct await){ .context = group->context,
				  .ks = &group->ks,
				  .group = group,
				  .world_size = group->world_size,
				  .name = group->name,
				  .started = symm_now(),
				  .deadline = m.await.deadline };
	m.turn.key = failure != 0 ? &m : key_of(ptr);
	rc = symm_group_enter(group, m.await.deadline, &m.turn, is_done, &needless);
	if (needless) {
		if (rc == 0 && m.failure.code != 0)
			return symm_err_return(&m.failure);
		if (rc == 0 && (*mem = look_up(ptr, group, &rc)) == NULL && rc == 0)
			rc = symm_error(SYMM_EPEER, "the same rendezvous, begun by another thread, has failed");
		return rc;
	}
	m.await.seq = m.turn.seq;
	if (rc != 0) {
		cannot(&m, rc);
		return meet(&m, mem);
	}
	rc = meet(&m, mem);
	symm_group_exit(group, &m.turn);
	return rc;
}

/* The group of the call, held: the one given, or the allocation's own. */
static struct group *group_of(const void *ptr, struct symm_group *handle, int *rc)
{
	struct alloc *alloc;

	if (handle != NULL)
		return symm_group_get(handle, rc);
	*rc = symm_fork_check();
	if (*rc != 0)
		return NULL;
	symm_memory_read();
	alloc = symm_alloc_find(ptr, rc);
	handle = alloc != NULL ? alloc->group->handle : NULL;
	symm_memory_unlock();
	return handle != NULL ? symm_group_get(handle, rc) : NULL;
}

int symm_builtin_rendezvous(void *arg, void *ptr, struct symm_group *handle, int64_t timeout_ms, struct symm_mem **mem)
{
	struct group *group;
	struct symm_mem *found;
	int rc;

	(void)arg;
	if (mem == NULL)
		return symm_error(SYMM_EINVAL, "mem is NULL");
	group = group_of(ptr, handle, &rc);
	if (group == NULL)
		return rc;
	found = timeout_ms >= 0 ? look_up(ptr, group, &rc) : NULL;
	if (found != NULL) {
		*mem = found;
		symm_count(&group->context->stats.rendezvous_cached, 1);
	} else {
		rc = symm_alloc_meet(group, ptr, 0, timeout_ms, mem);
	}
	symm_count_end(&group->context->stats, rc);
	symm_group_put(group);
	return rc;
}

int symm_builtin_rendezvous_completed(void *arg, const void *ptr, struct symm_group *handle)
{
	struct turn turn = { .key = ptr };
	struct group *group;
	int rc;

	(void)arg;
	group = group_of(ptr, handle, &rc);
	if (group == NULL)
		return rc;
	symm_memory_read();
	symm_alloc_find(ptr, &rc);
	symm_memory_unlock();
	if (rc == 0)
		rc = is_done(&turn, group);
	symm_group_put(group);
	return rc;
}

int symm_builtin_find(const void *ptr, struct symm_group *handle, struct symm_mem **mem)
{
	struct group *group;
	struct symm_mem *found;
	int rc;

	if (mem == NULL)
		return symm_error(SYMM_EINVAL, "mem is NULL");
	group = group_of(ptr, handle, &rc);
	if (group == NULL)
		return rc;
	found = look_up(ptr, group, &rc);
	if (found != NULL)
		*mem = found;
	else if (rc == 0)
		rc = symm_error(SYMM_ENOENT, "no rendezvous of the allocation around %p with group %s has been done",
				ptr, group->name);
	symm_group_put(group);
	return rc;
}
