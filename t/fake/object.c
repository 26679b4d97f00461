/* What lives: lists by kind, for look-ups, counts and leaks. */
#include "fake.h"

#include <stdio.h>

static const char *const names[FAKE_BUILTIN] = { "memory handles",   "mappings",         "reservations", "allocations",
						 "host allocations", "streams",          "events",       "modules",
						 "graphs",           "executable graphs" };
static struct fake_object *lists[FAKE_KINDS];
static int counts[FAKE_KINDS];

void fake_object_add(struct fake_object *object, enum fake_kind kind)
{
	object->kind = kind;
	object->owner = fake_context_current();
	object->next = lists[kind];
	object->link = &lists[kind];
	if (object->next != NULL)
		object->next->link = &object->next;
	lists[kind] = object;
	counts[kind]++;
}

void fake_object_remove(struct fake_object *object)
{
	*object->link = object->next;
	if (object->next != NULL)
		object->next->link = object->link;
	counts[object->kind]--;
}

struct fake_object *fake_object_first(enum fake_kind kind)
{
	return lists[kind];
}

bool fake_object_lives(enum fake_kind kind, const void *pointer)
{
	for
		FAKE_EACH(kind, object)
	if (object == pointer)
		return true;
	return false;
}

void fake_object_check_leaks(const struct CUctx_st *owner)
{
	char text[256] = "";
	size_t length = 0;

	for (int kind = 0; kind < FAKE_BUILTIN; kind++) {
		int left = 0;

		for
			FAKE_EACH((enum fake_kind)kind, object)
		left += object->owner == owner;
		if (left > 0)
			length += (size_t)snprintf(text + length, sizeof(text) - length, " %d %s", left, names[kind]);
	}
	FAKE_ASSERT(length == 0 || fake_config.leaks, "GPU %d: not given back:%s", owner->device, text);
}

void symm_fake_counts(struct symm_fake_counts *out)
{
	pthread_mutex_lock(&fake_lock);
	*out = (struct symm_fake_counts){
		.handles = counts[FAKE_HANDLE],
		.mappings = counts[FAKE_MAPPING],
		.reservations = counts[FAKE_RESERVATION],
		.allocations = counts[FAKE_ALLOCATION],
		.host_allocations = counts[FAKE_HOST],
		.streams = counts[FAKE_STREAM],
		.events = counts[FAKE_EVENT],
		.modules = counts[FAKE_MODULE],
		.graphs = counts[FAKE_GRAPH],
		.graph_execs = counts[FAKE_EXEC],
	};
	pthread_mutex_unlock(&fake_lock);
}
