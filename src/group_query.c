/* group_query.c: what a struct symm_group tells of itself. */
#include "group.h"

int symm_group_rank(struct symm_group *handle)
{
	int rc, rank;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return rc;
	rank = group->rank;
	symm_group_put(group);
	return rank;
}

int symm_group_world_size(struct symm_group *handle)
{
	int rc, world_size;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return rc;
	world_size = group->world_size;
	symm_group_put(group);
	return world_size;
}

int64_t symm_group_generation(struct symm_group *handle)
{
	int rc;
	int64_t generation;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return rc;
	generation = group->generation;
	symm_group_put(group);
	return generation;
}

const char *symm_group_name(struct symm_group *handle)
{
	int rc;
	const char *name;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return NULL;
	name = group->name;
	symm_group_put(group);
	return name;
}

const char *symm_group_store(struct symm_group *handle)
{
	int rc;
	const char *name;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return NULL;
	name = symm_store_name(group->ks.store);
	symm_group_put(group);
	return name;
}

int symm_group_status(struct symm_group *handle)
{
	int rc;
	struct group *group = symm_group_get(handle, &rc);

	if (group == NULL)
		return rc;
	rc = symm_group_check(group);
	symm_group_put(group);
	return rc;
}
