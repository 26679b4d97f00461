#include "multicast.h"

#include "builtin.h"
#include "fork.h"
#include "launch.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beside the blocks of a rendezvous, which are offered under its number. */
#define OFFERED_AS(seq) ((seq) | UINT64_C(1) << 63)
/* Who makes the object. */
#define MAKER 0

/* ---- whether ---- */

static bool is_set(const char *name, const char *value)
{
	const char *text = getenv(name);

	return text != NULL && strcmp(text, value) == 0;
}

const char *symm_multicast_veto(void)
{
	if (!is_set("SYMM_MULTICAST", "1"))
		return "SYMM_MULTICAST is not 1";
	if (is_set("NCCL_NVLS_ENABLE", "0"))
		return "NCCL_NVLS_ENABLE=0";
	if (is_set("NVSHMEM_DISABLE_NVLS", "1"))
		return "NVSHMEM_DISABLE_NVLS=1";
	if (is_set("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1"))
		return "TORCH_SYMM_MEM_DISABLE_MULTICAST=1";
	return NULL;
}

bool symm_multicast_offered(struct symm_device *device)
{
	return symm_multicast_veto() == NULL && device->ops->multicast_supported != NULL &&
	       device->ops->multicast_supported(device);
}

int symm_builtin_has_multicast_support(void *arg, const char *device)
{
	struct symm_device_wish wish = { .text = device != NULL ? device : getenv("SYMM_DEVICE"), .share = true };
	struct symm_launch launch;
	struct symm_device *opened;
	int offered, rc = symm_fork_check();

	(void)arg;
	if (rc == 0)
		rc = symm_launch_check();
	if (rc == 0)
		rc = symm_launch_read(&launch);
	if (rc == 0) {
		wish.local_rank = launch.local_rank;
		if (wish.text == NULL || *wish.text == '\0')
			wish.text = "host";
		rc = symm_device_open(&wish, &opened);
	}
	if (rc != 0)
		return rc;
	offered = symm_multicast_offered(opened);
	symm_device_close(opened);
	return offered;
}

/* An object takes each device once, so ranks that share one do without. */
static bool all_offer(const struct group *group)
{
	const struct roster *roster = group->roster;

	if (!group->self.multicast || group->world_size < 2 || roster->n != (size_t)group->world_size)
		return false;
	for (size_t i = 0; i < roster->n; i++) {
		if (!roster->member[i].multicast)
			return false;
		for (size_t k = 0; k < i; k++)
			if (strcmp(roster->member[i].device.uuid, roster->member[k].device.uuid) == 0)
				return false;
	}
	return true;
}

/* ---- the offer of rank 0 ---- */

static int offer_object(struct multicast_offer *offer, const struct group *group, uint64_t seq)
{
	struct symm_device *device = offer->block->device;
	int rc =
		device->ops->multicast_create(device, offer->block->bytes, (uint32_t)group->world_size, &offer->object);

	if (rc != 0)
		return rc;
	offer->made = true;
	offer->export = (struct export){ .nonce = group->ks.nonce,
					 .seq = OFFERED_AS(seq),
					 .rank = group->rank,
					 .loop = group->foreign > 0 ? group->context->loop : NULL };
	rc = device->ops->export(device, offer->object, &offer->export.fd[0]);
	if (rc != 0)
		return rc;
	symm_export_fd_begin(&offer->export);
	offer->exported = true;
	return 0;
}

static void cannot(struct multicast_offer *offer, const struct group *group, int rc)
{
	char name[128];

	symm_error_prefix(rc, "%s", symm_group_rank_name(group, group->rank, name, sizeof(name)));
	symm_err_take(&offer->failure, rc);
}

/* The same wait, for the part of the rendezvous that multicast is. */
static void part_of(const struct await *whole, struct symm_keyspace *ks, struct await *await)
{
	*ks = *whole->ks;
	snprintf(ks->part, sizeof(ks->part), "multicast");
	*await = *whole;
	await->ks = ks;
}

/* Before the others can miss the object. An error of the store's is left to the call that follows. */
static void tell_failure(const struct multicast_offer *offer, const struct await *whole)
{
	struct symm_keyspace ks;
	struct await await;
	struct symm_verdict verdict;

	part_of(whole, &ks, &await);
	symm_await_publish(&await, "", NULL, &offer->failure, &verdict);
}

void symm_multicast_begin(struct multicast_offer *offer, const struct await *whole, struct block *block)
{
	const struct group *group = whole->group;
	int rc;

	*offer = (struct multicast_offer){ .block = block, .agreed = all_offer(group) };
	if (group->self.multicast && !offer->agreed)
		symm_log(SYMM_LOG_INFO, "group %s: not all ranks offer multicast, each on a GPU of its own",
			 group->name);
	if (!offer->agreed || group->rank != MAKER)
		return;
	rc = offer_object(offer, group, whole->seq);
	if (rc != 0) {
		cannot(offer, group, rc);
		tell_failure(offer, whole);
	}
}

void symm_multicast_end(struct multicast_offer *offer)
{
	if (offer->exported)
		symm_export_end(&offer->export);
	if (offer->made)
		offer->block->device->ops->release(offer->block->device, offer->object);
	offer->exported = offer->made = false;
}

/* ---- each rank's part ---- */

static int fetch(struct group *group, uint64_t seq, int64_t deadline, int *fd)
{
	struct symm_pull pull = {
		.link = group->link[MAKER], .nonce = group->ks.nonce, .seq = OFFERED_AS(seq), .rank = MAKER
	};
	int rc;

	if (pull.link == NULL)
		return symm_export_fd(group->ks.nonce, OFFERED_AS(seq), MAKER, fd);
	symm_pull_begin(&pull);
	rc = symm_pull_finish(&pull, deadline);
	if (rc != 0)
		return rc;
	if (pull.count != 1) {
		while (pull.count > 0)
			close(pull.fds[--pull.count]);
		return symm_error(SYMM_EPROTO, "the multicast object did not come alone");
	}
	*fd = pull.fds[0];
	return 0;
}

/* Has the object, and this device is added to it. */
static int enter(const struct multicast_offer *offer, const struct await *await, struct multicast *part)
{
	struct block *block = offer->block;
	struct symm_device *device = block->device;
	symm_phys object;
	int fd, rc = fetch(await->group, await->seq, await->deadline, &fd);

	if (rc != 0)
		return symm_error_prefix(rc, "the multicast object of rank %d", MAKER);
	rc = device->ops->import(device, fd, block->bytes, &object);
	close(fd);
	if (rc != 0)
		return rc;
	rc = device->ops->multicast_add(device, object);
	if (rc != 0) {
		device->ops->release(device, object);
		return rc;
	}
	*part = (struct multicast){ .block = block, .object = object };
	return 0;
}

static int bind_and_map(struct multicast *part)
{
	struct symm_device *device = part->block->device;
	size_t bytes = part->block->bytes;
	struct symm_mapping mapping = { NULL, bytes, part->object };
	int rc = device->ops->multicast_bind(device, part->object, part->block->phys, bytes);

	if (rc != 0)
		return rc;
	rc = device->ops->reserve(device, bytes, &mapping.address);
	if (rc != 0)
		goto fail_bind;
	rc = device->ops->map(device, &mapping, 1);
	if (rc != 0)
		goto fail_reserve;
	part->address = mapping.address;
	return 0;
fail_reserve:
	device->ops->unreserve(device, mapping.address, bytes);
fail_bind:
	device->ops->multicast_unbind(device, part->object, bytes);
	return rc;
}

void symm_multicast_free(struct multicast *part)
{
	struct block *block = part->block;

	if (block == NULL)
		return;
	if (part->address != NULL) {
		block->device->ops->unmap(block->device, part->address, block->bytes);
		block->device->ops->unreserve(block->device, part->address, block->bytes);
		block->device->ops->multicast_unbind(block->device, part->object, block->bytes);
	}
	block->device->ops->release(block->device, part->object);
	memset(part, 0, sizeof(*part));
}

/* ---- together ---- */

/* To bind waits for all devices without an end: hence the first verdict. */
static int make(struct multicast_offer *offer, struct await *await, struct multicast *part,
		struct symm_verdict *verdict)
{
	int rc = offer->failure.code == 0 ? enter(offer, await, part) : 0;

	if (rc != 0)
		cannot(offer, await->group, rc);
	rc = symm_await_publish(await, "multicast", NULL, &offer->failure, verdict);
	if (rc != 0 || verdict->what != SYMM_VERDICT_GO)
		return rc;
	rc = bind_and_map(part);
	if (rc != 0)
		cannot(offer, await->group, rc);
	return symm_await_vote(await, &offer->failure, verdict);
}

int symm_multicast_make(struct multicast_offer *offer, const struct await *whole, const struct symm_err *failure,
			struct multicast *made)
{
	struct multicast part = { .block = NULL };
	struct symm_keyspace ks;
	struct symm_verdict verdict;
	struct await await;
	int rc;

	if (!offer->agreed)
		return 0;
	part_of(whole, &ks, &await);
	if (failure->code != 0)
		offer->failure = *failure;
	rc = make(offer, &await, &part, &verdict);
	if (rc == 0 && verdict.what == SYMM_VERDICT_READY && part.address != NULL) {
		*made = part;
		return 0;
	}
	symm_multicast_free(&part);
	if (rc == 0 && failure->code == 0)
		symm_log(SYMM_LOG_WARN, "group %s: rendezvous %llu is made without multicast: %s", whole->name,
			 (unsigned long long)whole->seq, verdict.text);
	return rc;
}
