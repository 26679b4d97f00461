#include "lease.h"

#include "base.h"
#include "group.h"
#include "log.h"

#include <event2/event.h>
#include <stdlib.h>

struct lease {
	struct group *group; /* NULL once stopped */
	struct symm_loop *loop;
	struct event *timer;
	bool pending;     /* a refresh is on its way */
	bool again;       /* another is wanted after it */
	int64_t unbroken; /* since when refreshes have followed each other within a lease; 0: not yet */
	int64_t answered; /* when the last was answered */
	bool away;        /* it was not answered: said once */
	bool hurried;     /* a task is posted; atomic */
	struct symm_task task;
	int refs; /* the group's, the refresh's, the posted task's */
};

static void lease_unref(struct lease *lease)
{
	if (__atomic_sub_fetch(&lease->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(lease);
}

static int64_t lease_ns(const struct lease *lease)
{
	return lease->group->ks.lease_ms * SYMM_NS_PER_MS;
}

/* A rank that did not refresh for a whole lease, or whose store was away, judges nobody: all the others may just have
 * had the same outage. */
static bool may_judge(struct lease *lease)
{
	int64_t now = symm_now();

	if (lease->unbroken == 0 || now - lease->answered > lease_ns(lease))
		lease->unbroken = now;
	lease->answered = now;
	return now - lease->unbroken >= lease_ns(lease);
}

static void hear(struct lease *lease, const struct symm_lease_answer *answer)
{
	struct group *group = lease->group;
	struct symm_err why;

	if (answer->err.code == SYMM_ESTALE || answer->err.code == SYMM_ENOENT) {
		event_del(lease->timer);
		symm_group_set_stale(group);
		return;
	}
	if (answer->err.code != 0) {
		symm_log(lease->away ? SYMM_LOG_INFO : SYMM_LOG_WARN,
			 "group %s: the lease cannot be refreshed, what is mapped goes on: %s", group->name,
			 answer->err.text);
		lease->away = true;
		lease->unbroken = 0;
		return;
	}
	if (lease->away)
		symm_log(SYMM_LOG_WARN, "group %s: the lease is refreshed again", group->name);
	lease->away = false;
	if (answer->failed.what == SYMM_VERDICT_FAILED) {
		symm_err_set(&why, answer->failed.code, "%s", answer->failed.text);
		symm_group_fail(group, answer->failed.rank, &why, false);
	}
	if (answer->members < group->world_size)
		__atomic_store_n(&group->incomplete, true, __ATOMIC_RELEASE);
	if (may_judge(lease))
		for (size_t i = 0; i < answer->n_expired; i++)
			symm_group_expired(group, answer->expired[i]);
}

static void refresh(struct lease *lease);

static void refreshed(void *arg, const struct symm_lease_answer *answer)
{
	struct lease *lease = arg;

	lease->pending = false;
	if (lease->group != NULL) {
		hear(lease, answer);
		if (lease->again)
			refresh(lease);
	}
	lease_unref(lease);
}

static void refresh(struct lease *lease)
{
	struct group *group = lease->group;
	char line[SYMM_DOING_MAX];

	lease->again = lease->pending;
	if (lease->pending)
		return;
	symm_doing_line(group->context, line, sizeof(line));
	lease->pending = true;
	__atomic_fetch_add(&lease->refs, 1, __ATOMIC_RELAXED);
	if (symm_keyspace_refresh(&group->ks, &group->self, line, symm_now() + lease_ns(lease), refreshed, lease) !=
	    0) {
		lease->pending = false;
		lease_unref(lease);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	refresh(arg);
}

static void start_on_loop(void *arg)
{
	struct lease *lease = arg;
	int64_t third = lease_ns(lease) / 3;
	struct timeval every = { third / 1000000000, third % 1000000000 / 1000 };

	lease->timer = event_new(symm_loop_base(lease->loop), -1, EV_PERSIST, on_timer, lease);
	if (lease->timer != NULL)
		event_add(lease->timer, &every);
}

int symm_lease_start(struct group *group, struct lease **out)
{
	struct lease *lease = calloc(1, sizeof(*lease));

	if (lease == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	lease->refs = 1;
	lease->group = group;
	lease->loop = group->context->loop;
	symm_loop_call(lease->loop, start_on_loop, lease);
	if (lease->timer == NULL) {
		free(lease);
		return symm_error(SYMM_ENOMEM, "no memory for a timer");
	}
	*out = lease;
	return 0;
}

static void stop_on_loop(void *arg)
{
	struct lease *lease = arg;

	event_free(lease->timer);
	lease->group = NULL;
}

void symm_lease_stop(struct lease *lease)
{
	symm_loop_call(lease->loop, stop_on_loop, lease);
	lease_unref(lease);
}

static void hurry_on_loop(void *arg)
{
	struct lease *lease = arg;

	__atomic_store_n(&lease->hurried, false, __ATOMIC_RELEASE);
	if (lease->group != NULL)
		refresh(lease);
	lease_unref(lease);
}

void symm_lease_hurry(struct lease *lease)
{
	if (__atomic_exchange_n(&lease->hurried, true, __ATOMIC_ACQ_REL))
		return;
	__atomic_fetch_add(&lease->refs, 1, __ATOMIC_RELAXED);
	lease->task = (struct symm_task){ .fn = hurry_on_loop, .arg = lease };
	symm_loop_post(lease->loop, &lease->task);
}
