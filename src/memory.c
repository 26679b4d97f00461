#include "memory.h"

#include "error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_FDS_KEPT 256 /* by a process */

/* To make an fd takes a driver half a millisecond, and to close the last one too. So the first is made with the block,
 * and a block keeps one until it goes; but many of them are too dear, where a process may have few. */
static int fds_kept; /* atomic */

static bool fd_keep(struct block *block, int fd)
{
	int none = -1;

	if (__atomic_add_fetch(&fds_kept, 1, __ATOMIC_RELAXED) <= MOST_FDS_KEPT &&
	    __atomic_compare_exchange_n(&block->fd, &none, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return true;
	__atomic_sub_fetch(&fds_kept, 1, __ATOMIC_RELAXED);
	return false;
}

static int fd_take(struct block *block)
{
	int fd = __atomic_exchange_n(&block->fd, -1, __ATOMIC_ACQ_REL);

	if (fd >= 0)
		__atomic_sub_fetch(&fds_kept, 1, __ATOMIC_RELAXED);
	return fd;
}

int symm_block_export(struct block *block, int *fd)
{
	int kept = fd_take(block);

	if (kept < 0)
		return block->device->ops->export(block->device, block->phys, fd);
	*fd = kept;
	return 0;
}

void symm_block_export_end(struct block *block, int fd)
{
	if (!fd_keep(block, fd))
		close(fd);
}

static int first_fd(struct block *block)
{
	int fd, rc = symm_block_export(block, &fd);

	if (rc == 0)
		symm_block_export_end(block, fd);
	return rc;
}

static int block_fill(struct block *block)
{
	const struct symm_device_ops *ops = block->device->ops;
	struct symm_mapping own;
	void *base;
	int rc;

	if (block->bytes > SIZE_MAX / 2 / (block->spare + 1))
		return symm_error(SYMM_ENOMEM, "%zu blocks of %zu bytes are more than an address space",
				  block->spare + 1, block->bytes);
	rc = ops->reserve(block->device, block->bytes * (block->spare + 1), &base);
	if (rc != 0)
		return rc;
	rc = ops->create(block->device, block->bytes, &block->phys);
	if (rc != 0)
		goto fail_reserve;
	own = (struct symm_mapping){ base, block->bytes, block->phys };
	rc = ops->map(block->device, &own, 1);
	if (rc != 0)
		goto fail_create;
	rc = ops->clear(block->device, base, block->bytes);
	if (rc != 0)
		goto fail_map;
	block->base = base;
	rc = block->spare > 0 ? first_fd(block) : 0;
	if (rc != 0)
		goto fail_map;
	return 0;
fail_map:
	ops->unmap(block->device, base, block->bytes);
fail_create:
	ops->release(block->device, block->phys);
fail_reserve:
	ops->unreserve(block->device, base, block->bytes * (block->spare + 1));
	return rc;
}

int symm_block_create(struct symm_device *device, size_t bytes, size_t spare, struct block **out)
{
	struct block *block = calloc(1, sizeof(*block));
	int rc;

	if (block == NULL)
		return symm_error(SYMM_ENOMEM, "no memory");
	block->refs = 1;
	block->device = device;
	block->bytes = bytes;
	block->spare = spare;
	block->fd = -1;
	rc = symm_device_hold(device);
	if (rc != 0)
		goto fail;
	rc = block_fill(block);
	if (rc != 0)
		goto fail_device;
	*out = block;
	return 0;
fail_device:
	symm_device_close(device);
fail:
	free(block);
	return rc;
}

struct block *symm_block_ref(struct block *block)
{
	__atomic_fetch_add(&block->refs, 1, __ATOMIC_RELAXED);
	return block;
}

void symm_block_unref(struct block *block)
{
	const struct symm_device_ops *ops;
	int fd;

	if (block == NULL || __atomic_sub_fetch(&block->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	ops = block->device->ops;
	fd = fd_take(block);
	if (fd >= 0)
		close(fd);
	ops->unmap(block->device, block->base, block->bytes);
	ops->release(block->device, block->phys);
	ops->unreserve(block->device, block->base, block->bytes * (block->spare + 1));
	symm_device_close(block->device);
	free(block);
}

/* The block's spare slots, if they suffice and nobody has them, keep all ranks' blocks in one range; else a range of
 * the span's own. */
static int span_reserve(struct span *span, size_t n)
{
	struct block *own = span->own;
	void *base;
	int rc, free_slots = 0;

	if (n == 0)
		return 0;
	if (n <= own->spare &&
	    __atomic_compare_exchange_n(&own->spare_used, &free_slots, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		span->foreign = own->base + own->bytes;
		return 0;
	}
	rc = own->device->ops->reserve(own->device, own->bytes * n, &base);
	if (rc != 0)
		return rc;
	span->foreign = base;
	span->reserved = 1;
	return 0;
}

static void span_unreserve(struct span *span)
{
	struct block *own = span->own;

	if (span->foreign == NULL)
		return;
	if (span->reserved)
		own->device->ops->unreserve(own->device, span->foreign, own->bytes * span->n_foreign);
	else
		__atomic_store_n(&own->spare_used, 0, __ATOMIC_RELEASE);
}

static int import(struct symm_device *device, const struct incoming *incoming, size_t bytes, symm_phys *phys)
{
	int rc;

	if (incoming->fabric != NULL)
		rc = device->ops->import_fabric(device, incoming->fabric, bytes, phys);
	else
		rc = device->ops->import(device, incoming->fd, bytes, phys);
	if (rc != 0 && incoming->fabric != NULL)
		return symm_error_prefix(rc, "the block of rank %d on %s", incoming->rank, incoming->host);
	return rc == 0 ? 0 : symm_error_prefix(rc, "the block of rank %d", incoming->rank);
}

/* Imports and maps the foreign blocks with one call of map; the imports are dropped at once: a mapping keeps its
 * memory. */
static int span_map_foreign(struct span *span, int n_incoming, const struct incoming *incoming)
{
	const struct symm_device_ops *ops = span->own->device->ops;
	struct symm_device *device = span->own->device;
	size_t bytes = span->own->bytes, n = 0;
	struct symm_mapping *maps = calloc(span->n_foreign + 1, sizeof(*maps));
	int rc = maps != NULL ? 0 : symm_error(SYMM_ENOMEM, "no memory");

	for (int i = 0; i < n_incoming && rc == 0; i++) {
		if (incoming[i].block != NULL)
			continue;
		rc = import(device, &incoming[i], bytes, &maps[n].phys);
		if (rc != 0)
			break;
		maps[n].address = span->foreign + n * bytes;
		maps[n].bytes = bytes;
		span->address[incoming[i].rank] = maps[n].address;
		n++;
	}
	if (rc == 0 && n > 0)
		rc = ops->map(device, maps, n);
	for (size_t i = 0; i < n; i++)
		ops->release(device, maps[i].phys);
	free(maps);
	return rc;
}

/* Once for each device: a driver refuses to grant again what it has granted. */
static int block_grant(struct block *block, struct symm_device *device)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const uint64_t bit = UINT64_C(1) << device->index % 64;
	int rc = 0;

	pthread_mutex_lock(&lock);
	if ((block->granted & bit) == 0)
		rc = device->ops->grant(device, block->base, block->bytes);
	if (rc == 0)
		block->granted |= bit;
	pthread_mutex_unlock(&lock);
	return rc;
}

/* What ranks of this process have mapped for their device is seen at the same address by ours. A grant needs no end:
 * it goes with the block. */
static int span_grant(const struct span *span, int n_incoming, const struct incoming *incoming)
{
	struct symm_device *device = span->own->device;
	int rc = 0;

	for (int i = 0; i < n_incoming && rc == 0; i++) {
		struct block *block = incoming[i].block;

		if (block == NULL || block->device == device)
			continue;
		rc = block_grant(block, device);
		if (rc != 0)
			symm_error_prefix(rc, "the block of rank %d", incoming[i].rank);
	}
	return rc;
}

int symm_span_map(struct span *span, struct block *own, int rank, int world_size, const struct incoming *incoming)
{
	struct span made = { .own = own };
	int rc;

	for (int i = 0; i < world_size - 1; i++)
		made.n_foreign += incoming[i].block == NULL;
	made.address = calloc((size_t)world_size, sizeof(*made.address));
	made.held = calloc((size_t)world_size, sizeof(*made.held));
	if (made.address == NULL || made.held == NULL)
		rc = symm_error(SYMM_ENOMEM, "no memory");
	else
		rc = span_reserve(&made, made.n_foreign);
	if (rc != 0)
		goto fail;
	rc = span_grant(&made, world_size - 1, incoming);
	if (rc == 0)
		rc = span_map_foreign(&made, world_size - 1, incoming);
	if (rc != 0)
		goto fail_reserve;
	made.address[rank] = own->base;
	for (int i = 0; i < world_size - 1; i++) {
		if (incoming[i].block == NULL)
			continue;
		made.address[incoming[i].rank] = incoming[i].block->base;
		made.held[made.n_held++] = incoming[i].block;
	}
	*span = made;
	return 0;
fail_reserve:
	span_unreserve(&made);
fail:
	free(made.address);
	free(made.held);
	return rc;
}

void symm_span_unmap(struct span *span)
{
	struct symm_device *device = span->own->device;

	for (size_t i = 0; i < span->n_foreign; i++)
		device->ops->unmap(device, span->foreign + i * span->own->bytes, span->own->bytes);
	span_unreserve(span);
	for (size_t i = 0; i < span->n_held; i++)
		symm_block_unref(span->held[i]);
	symm_block_unref(span->own);
	free(span->address);
	free(span->held);
	memset(span, 0, sizeof(*span));
}
