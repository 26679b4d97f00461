/* group.h: this rank's membership of a group, inside: who the members are, who is gone, whether the group has failed.
 *
 * Life: joining (join.c, no struct group yet) -> member -> [failed] -> leaving -> gone. A group that has failed keeps
 * its memory and answers queries; its collectives and synchronisation give the code of the first failure, the same on
 * every rank.
 */
#ifndef SYMM_GROUP_H
#define SYMM_GROUP_H

#include "context.h"
#include "keyspace.h"
#include "link.h"
#include "roster.h"
#include "symm/kernel/layout.h"

#include <pthread.h>

struct lease;
struct view;
struct arena;

/* A collective's place in the queue, on its caller's stack. */
struct turn {
	const void *key; /* what it is about: the allocation */
	uint64_t seq;
	struct turn *next;
};

/* Who naps on our own slot of a view's words looks again when its bell is rung. */
struct bell {
	char *slot;
	struct bell *next;
};

struct group {
	struct symm_group *handle;
	struct context *context;
	char name[SYMM_NAME_MAX + 1];
	struct symm_keyspace ks;
	struct symm_member self;
	int rank, world_size;
	int64_t generation;
	struct roster *roster;
	struct symm_link **link; /* [roster->n]: NULL for ranks of this process */
	bool hurries;            /* there are cores to spare: collectives do not sleep */
	size_t foreign;          /* how many links there are: ranks of this host in other processes */

	struct symm_sync_group *sync;    /* what kernels see of the group: in local memory of the device */
	struct symm_sync_mirror *mirror; /* what host and kernels tell each other */
	pthread_mutex_t lock;            /* failure, flags and turns */
	struct symm_err failure;         /* code 0: none */
	bool telling;                    /* a thread of this rank tells peers of it */
	int64_t noticed;                 /* when the watch saw that kernels had failed; its own, like the next */
	bool poisoned;                   /* the watch has nothing more to do */
	struct group *next_watched;      /* owned by watch.c */
	bool stale;                      /* the store has lost the group: no more collectives */
	bool leaving;                    /* set under the lock of memory, alloc.h: no new tensors */
	bool incomplete;                 /* the store knows fewer members than ranks: some have left */
	bool reachable;                  /* reach.c: every rank's memory can be mapped here */
	bool made;                       /* the user may have it; under the lock of all groups */

	/* collectives take turns, in the order in which threads came */
	pthread_cond_t turn_changed;
	struct turn *turns; /* the first has it */
	uint64_t seq;       /* of the last collective that came */
	uint64_t unswept;   /* from which failed ones on may have left keys; 0: none have failed */

	struct lease *lease; /* lease.c */
	struct bell *bells;  /* what to ring when somebody is gone or the group fails */
	struct view *views;  /* owned by view.c */
	struct arena *arena; /* owned by arena.c: the one with free slots */

	struct group *next; /* all groups of the process */
};

extern const struct symm_link_hooks symm_group_link_hooks;

/* A member of a sealed generation: makes the group and starts its lease. Takes over nothing on failure. */
int symm_group_make(struct context *context, const char *name, const struct symm_keyspace *ks,
		    const struct symm_member *self, int world_size, int64_t generation, int64_t deadline,
		    struct group **group);
/* The group behind a handle, held until symm_group_put. */
struct group *symm_group_get(struct symm_group *handle, int *rc);
void symm_group_put(struct group *group);
/* The group of that name (NULL: any) in the context; NULL if there is none. Not held. */
struct symm_group *symm_group_of(const struct context *context, const char *name);
/* True if the incarnation lives in this process. */
bool symm_group_lives_here(const struct symm_id *incarnation);

/* True while nobody, on the host or in a kernel, has told that the group failed: one plain load. */
static inline bool symm_group_is_sound(const struct group *group)
{
	const uint64_t __attribute__((may_alias)) *word = (const void *)&group->mirror->abort;

	return __atomic_load_n(word, __ATOMIC_ACQUIRE) == 0;
}
/* An algorithm has given code: the one with which the group failed, its detail written, once that is known. */
int symm_group_failed(struct group *group, int code);
/* 0, or the code with which the group failed, its detail written. Also notices a failure that kernels recorded. */
static inline int symm_group_check(struct group *group)
{
	return symm_group_is_sound(group) ? 0 : symm_group_failed(group, SYMM_EDEVICE);
}
/* What the watch does for a group that is no longer sound, without waiting: learns why, tells peers, and poisons what
 * kernels see, until group->poisoned. */
void symm_group_look(struct group *group);
/* Fails the group, here and (spread) everywhere; the first failure stands. rank: whose. Any thread. */
void symm_group_fail(struct group *group, int rank, const struct symm_err *why, bool spread);
/* What a rank of a group is called in errors: "rank 3 (host a, pid 12)". */
const char *symm_group_rank_name(const struct group *group, int rank, char *out, size_t size);
/* The member of that rank if it is on this host. */
const struct symm_member *symm_group_local(const struct group *group, int rank);
/* For so long (0: no longer) a collective of the group is under way: where there are cores to spare, the loop and the
 * store do not sleep. */
void symm_group_hurry(const struct group *group, int64_t ns);
/* SYMM_GONE_... of a rank. */
uint32_t symm_group_gone(const struct group *group, int rank);

/* One collective at a time, numbered in the order of entry: turn->seq is set even when the wait for the turn ends at
 * the deadline (SYMM_ETIMEDOUT: not entered, nothing to leave). *needless: another thread had or ended a turn about
 * the same key meanwhile: no number was taken, look again. done(key, group) tells whether the key's collective has
 * succeeded; it is called with the group's lock held. */
int symm_group_enter(struct group *group, int64_t deadline, struct turn *turn,
		     bool (*done)(const struct turn *turn, struct group *group), bool *needless);
void symm_group_exit(struct group *group, struct turn *turn);
/* Rendezvous seq has failed: its keys are swept when the group is left. */
void symm_group_left_keys(struct group *group, uint64_t seq);
void symm_group_add_bell(struct group *group, struct bell *bell);
void symm_group_remove_bell(struct group *group, struct bell *bell);
/* A rank's lease has run out; believed if the rank is on another host. */
void symm_group_expired(struct group *group, int rank);
/* The store has lost the group. */
void symm_group_set_stale(struct group *group);
/* Refreshes the leases of all groups of the context now, so that they tell what this rank is doing. */
void symm_group_tell_doing(struct context *context);

/* Ends membership: lease, links, store. The memory of the group is gone already. */
void symm_group_unmake(struct group *group, int64_t deadline);

#endif
