/* rig.h: what most tests of the API begin with: a rank that has opened a context and joined a group. */
#ifndef RIG_H
#define RIG_H

#include "any_device.h"
#include "symm/symm.h"
#include "tap.h"

#include <string.h>

struct rig {
	const char *url; /* filled in by the test */
	const char *job; /* NULL: "test" */
	int world;
	int64_t timeout_ms; /* 0: 20 s */
	int64_t lease_ms;   /* 0: the library's */
	struct symm_context *context;
	struct symm_group *group;
};

static inline int rig_open(struct rig *rig, int rank)
{
	struct symm_options options = SYMM_OPTIONS_INIT;

	options.url = rig->url;
	options.job = rig->job != NULL ? rig->job : "test";
	options.device = device_text();
	options.share_device = !on_host();
	options.rank = rank;
	options.local_rank = rank >= 0 ? rank : SYMM_AUTO;
	options.world_size = rig->world;
	options.timeout_ms = rig->timeout_ms != 0 ? rig->timeout_ms : 20000;
	options.lease_ms = rig->lease_ms;
	return symm_open(&options, &rig->context);
}

/* Joins group "world". */
static inline int rig_enter(struct rig *rig)
{
	return symm_group_join(rig->context, "world", SYMM_AUTO, SYMM_AUTO, 0, &rig->group);
}

/* Opens and joins. */
static inline int rig_join(struct rig *rig, int rank)
{
	int rc = rig_open(rig, rank);

	return rc != 0 ? rc : rig_enter(rig);
}

/* Allocates and makes the rendezvous with the rig's group. */
static inline int rig_memory(struct rig *rig, size_t bytes, void **ptr, struct symm_mem **mem)
{
	int rc = symm_alloc(rig->group, bytes, NULL, ptr);

	return rc != 0 ? rc : symm_rendezvous(*ptr, NULL, 0, mem);
}

/* Checks a call of symm in a rank's function, and shows its detail when it fails. */
#define GOOD(call)                                                                                                     \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != 0)                                                                                          \
			return tap_rank_failed(__FILE__, __LINE__, #call, ": %s: %s", symm_strerror(rc_),              \
					       symm_last_error());                                                     \
	} while (0)

/* The call fails with the code, and its detail holds the text. */
#define BAD(call, code, text)                                                                                          \
	do {                                                                                                           \
		int rc_ = (call);                                                                                      \
		if (rc_ != (code) || strstr(symm_last_error(), (text)) == NULL)                                        \
			return tap_rank_failed(__FILE__, __LINE__, #call, " gives %s with \"%s\": %s: %s", #code,      \
					       (text), symm_strerror(rc_), rc_ == 0 ? "" : symm_last_error());         \
	} while (0)

#endif
