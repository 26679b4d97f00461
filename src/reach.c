#include "reach.h"

#include <string.h>

/* In larger worlds not every rank reads a record of every other for the sake of an error's text. */
#define NAMED_WORLD 1024

#define NO_FABRIC                                                                                                      \
	"has no fabric handles, by which hosts share memory: make a group for each host, or take hosts of one NVLink " \
	"domain with IMEX (see symm doctor)"

static bool shares_across_hosts(const struct symm_device_id *id)
{
	return strcmp(id->fabric, "-") != 0;
}

/* ---- this host ---- */

static int check_kind(const struct symm_member *a, const struct symm_member *b)
{
	const struct symm_member *low = a->rank < b->rank ? a : b, *high = a->rank < b->rank ? b : a;

	if (strcmp(a->device.kind, b->device.kind) == 0)
		return 0;
	return symm_error(SYMM_EMISMATCH, "rank %d is on %s, rank %d on %s: a group needs one kind of device",
			  high->rank, high->device.kind, low->rank, low->device.kind);
}

static int check_kinds(const struct roster *roster)
{
	int rc = 0;

	for (size_t i = 1; i < roster->n && rc == 0; i++)
		rc = check_kind(&roster->member[0], &roster->member[i]);
	return rc;
}

static int check_sharing(const struct roster *roster)
{
	for (size_t i = 0; i < roster->n; i++) {
		const struct symm_device_id *id = &roster->member[i].device;

		for (size_t k = i + 1; k < roster->n && strcmp(id->uuid, "-") != 0; k++)
			if (strcmp(id->uuid, roster->member[k].device.uuid) == 0)
				return symm_error(SYMM_EINVAL,
						  "ranks %d and %d both use %s: give each rank a GPU of its own (local "
						  "rank), or allow sharing with options.share_device or "
						  "SYMM_SHARE_DEVICE=1",
						  roster->member[i].rank, roster->member[k].rank, id->uuid);
	}
	return 0;
}

static int check_paths(const struct group *group)
{
	struct symm_device *device = group->context->device;
	char name[128];

	for (size_t i = 0; i < group->roster->n; i++) {
		const struct symm_member *member = &group->roster->member[i];
		int rc = member->rank != group->rank ? device->ops->reach(device, &member->device) : 0;

		if (rc != 0)
			return symm_error_prefix(rc, "cannot map the memory of %s",
						 symm_group_rank_name(group, member->rank, name, sizeof(name)));
	}
	return 0;
}

/* ---- other hosts ---- */

static int no_fabric_here(const struct group *group, int rank, const char *host)
{
	const struct context *context = group->context;

	return symm_error(SYMM_EUNREACH, "cannot map the memory of rank %d on %s: device %s %s", rank, host,
			  context->device_name,
			  context->device->ops->import_fabric == NULL ? "shares memory within a host only" : NO_FABRIC);
}

static int check_far_member(const struct group *group, const struct symm_member *member)
{
	const struct symm_device_id *mine = &group->context->device_id, *theirs = &member->device;
	const char *host = member->process.host;
	int rc = check_kind(&group->self, member);

	if (rc != 0)
		return rc;
	if (!shares_across_hosts(mine))
		return no_fabric_here(group, member->rank, host);
	if (!shares_across_hosts(theirs))
		return symm_error(SYMM_EUNREACH, "cannot map the memory of rank %d on %s: its device " NO_FABRIC,
				  member->rank, host);
	if (strcmp(mine->fabric, theirs->fabric) != 0)
		return symm_error(SYMM_EUNREACH,
				  "cannot map the memory of rank %d on %s: its device is on fabric %s, this one on %s",
				  member->rank, host, theirs->fabric, mine->fabric);
	return 0;
}

static int check_far(struct group *group, int64_t store_deadline)
{
	struct roster *roster = group->roster;
	int rc, rank = 0;

	if (roster->n == (size_t)group->world_size)
		return 0;
	if (group->world_size > NAMED_WORLD && !shares_across_hosts(&group->context->device_id)) {
		while (symm_group_local(group, rank) != NULL)
			rank++;
		return no_fabric_here(group, rank, "another host");
	}
	rc = symm_roster_far(roster, &group->ks, store_deadline);
	for (size_t i = 0; i < roster->n_far && rc == 0; i++)
		rc = check_far_member(group, &roster->far[i]);
	return rc;
}

int symm_reach_check(struct group *group, int64_t store_deadline)
{
	int rc;

	if (group->reachable)
		return 0;
	rc = check_kinds(group->roster);
	if (rc == 0 && !group->context->share_device)
		rc = check_sharing(group->roster);
	if (rc == 0)
		rc = check_paths(group);
	if (rc == 0)
		rc = check_far(group, store_deadline);
	group->reachable = rc == 0;
	return rc;
}
