/* Small memory: cut out of slabs that are kept until the device closes, because the driver's own calls for it may wait
 * for running kernels. Local memory comes of blocks, common memory of pinned host memory. */
#include "device/cuda.h"

#include "base.h"
#include "error.h"

#include <stdlib.h>
#include <string.h>

#define UNIT ((size_t)64)
#define SLAB_BYTES ((size_t)2 << 20)

/* A slab is cut into pieces without gaps, in the order of their addresses. */
struct piece {
	struct piece *next;
	size_t at, bytes;
	bool taken;
};

struct slab {
	struct slab *next;
	char *base;   /* as it is freed: local memory's address, or the host's of common memory */
	char *kernel; /* as kernels address it */
	size_t bytes;
	symm_phys phys; /* of local memory */
	struct piece *pieces;
};

/* ---- pieces ---- */

/* Cuts the rest off a free piece that is larger than wanted. */
static int piece_cut(struct piece *piece, size_t bytes)
{
	struct piece *rest;

	if (piece->bytes > bytes) {
		rest = calloc(1, sizeof(*rest));
		if (rest == NULL)
			return symm_error(SYMM_ENOMEM, "no memory");
		rest->at = piece->at + bytes;
		rest->bytes = piece->bytes - bytes;
		rest->next = piece->next;
		piece->next = rest;
		piece->bytes = bytes;
	}
	piece->taken = true;
	return 0;
}

/* Joins a free piece with free ones behind it. */
static void piece_join(struct piece *piece)
{
	struct piece *next = piece->next;

	while (!piece->taken && next != NULL && !next->taken) {
		piece->bytes += next->bytes;
		piece->next = next->next;
		free(next);
		next = piece->next;
	}
}

static struct piece *find_free(const struct slabs *slabs, size_t bytes, struct slab **slab)
{
	for (*slab = slabs->first; *slab != NULL; *slab = (*slab)->next)
		for (struct piece *piece = (*slab)->pieces; piece != NULL; piece = piece->next)
			if (!piece->taken && piece->bytes >= bytes)
				return piece;
	return NULL;
}

/* ---- slabs ---- */

static int slab_make_local(struct cuda_device *device, struct slab *slab)
{
	struct symm_mapping mapping;
	void *address;
	symm_phys phys;
	int rc;

	slab->bytes = symm_round_up(slab->bytes, device->granularity);
	rc = symm_cuda_create(&device->base, slab->bytes, &phys);
	if (rc != 0)
		return rc;
	rc = symm_cuda_reserve(&device->base, slab->bytes, &address);
	if (rc != 0)
		goto fail;
	mapping = (struct symm_mapping){ address, slab->bytes, phys };
	rc = symm_cuda_map(&device->base, &mapping, 1);
	if (rc != 0)
		goto fail_address;
	slab->base = address;
	slab->kernel = address;
	slab->phys = phys;
	return 0;
fail_address:
	symm_cuda_unreserve(&device->base, address, slab->bytes);
fail:
	symm_cuda_release(&device->base, phys);
	return rc;
}

static int slab_make_common(struct cuda_device *device, struct slab *slab)
{
	const unsigned int flags = SYMM_CUDA_MEMHOSTALLOC_PORTABLE | SYMM_CUDA_MEMHOSTALLOC_DEVICEMAP;
	const struct symm_cuda_api *api = device->api;
	enum symm_cuda_result result;
	unsigned long long kernel;
	void *host;

	result = api->cuMemHostAlloc(&host, slab->bytes, flags);
	if (result != SYMM_CUDA_SUCCESS)
		return symm_cuda_error(result, "cannot allocate %zu bytes of pinned host memory", slab->bytes);
	result = api->cuMemHostGetDevicePointer(&kernel, host, 0);
	if (result != SYMM_CUDA_SUCCESS) {
		symm_cuda_warn(api->cuMemFreeHost(host), "cuMemFreeHost");
		return symm_cuda_error(result, "cannot map pinned host memory on cuda:%d", device->ordinal);
	}
	slab->base = host;
	slab->kernel = (char *)(uintptr_t)kernel;
	return 0;
}

static int slab_add(struct cuda_device *device, struct slabs *slabs, size_t bytes)
{
	struct slab *slab = calloc(1, sizeof(*slab));
	struct piece *piece = calloc(1, sizeof(*piece));
	int rc;

	if (slab == NULL || piece == NULL) {
		rc = symm_error(SYMM_ENOMEM, "no memory");
		goto fail;
	}
	slab->bytes = symm_round_up(bytes, SLAB_BYTES);
	rc = slabs == &device->local ? slab_make_local(device, slab) : slab_make_common(device, slab);
	if (rc != 0)
		goto fail;
	piece->bytes = slab->bytes;
	slab->pieces = piece;
	slab->next = slabs->first;
	slabs->first = slab;
	return 0;
fail:
	free(piece);
	free(slab);
	return rc;
}

static void slabs_end(struct cuda_device *device, struct slabs *slabs)
{
	struct slab *slab;
	struct piece *piece;

	while ((slab = slabs->first) != NULL) {
		slabs->first = slab->next;
		if (slabs == &device->local) {
			symm_cuda_unmap(&device->base, slab->base, slab->bytes);
			symm_cuda_unreserve(&device->base, slab->base, slab->bytes);
			symm_cuda_release(&device->base, slab->phys);
		} else {
			symm_cuda_warn(device->api->cuMemFreeHost(slab->base), "cuMemFreeHost");
		}
		while ((piece = slab->pieces) != NULL) {
			slab->pieces = piece->next;
			free(piece);
		}
		free(slab);
	}
}

void symm_cuda_small_end(struct cuda_device *device)
{
	slabs_end(device, &device->local);
	slabs_end(device, &device->common);
}

/* ---- both kinds ---- */

static int take(struct cuda_device *device, struct slabs *slabs, size_t bytes, char **base, char **kernel)
{
	struct slab *slab;
	struct piece *piece;
	int rc = 0;

	if (bytes > SIZE_MAX / 2)
		return symm_error(SYMM_ENOMEM, "no memory for %zu bytes", bytes);
	bytes = symm_round_up(bytes > 0 ? bytes : 1, UNIT);
	pthread_mutex_lock(&slabs->lock);
	piece = find_free(slabs, bytes, &slab);
	if (piece == NULL) {
		rc = slab_add(device, slabs, bytes);
		slab = slabs->first;
		piece = rc == 0 ? slab->pieces : NULL;
	}
	if (rc == 0)
		rc = piece_cut(piece, bytes);
	if (rc == 0) {
		*base = slab->base + piece->at;
		*kernel = slab->kernel + piece->at;
	}
	pthread_mutex_unlock(&slabs->lock);
	return rc;
}

static void give(struct slabs *slabs, const char *base)
{
	struct slab *slab;
	struct piece *piece, *before = NULL;

	pthread_mutex_lock(&slabs->lock);
	for (slab = slabs->first; base < slab->base || base >= slab->base + slab->bytes;)
		slab = slab->next;
	for (piece = slab->pieces; slab->base + piece->at != base; piece = piece->next)
		before = piece;
	piece->taken = false;
	piece_join(piece);
	if (before != NULL)
		piece_join(before);
	pthread_mutex_unlock(&slabs->lock);
}

int symm_cuda_local_alloc(struct symm_device *base, size_t bytes, void **address)
{
	struct cuda_device *device = cuda_device(base);
	char *local, *kernel;
	int rc = take(device, &device->local, bytes, &local, &kernel);

	if (rc == 0)
		*address = local;
	return rc;
}

void symm_cuda_local_free(struct symm_device *base, void *address)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;

	if (address == NULL)
		return;
	if (symm_cuda_enter_to_end(device, &scope, "work may still run") == SYMM_CUDA_SUCCESS) {
		symm_cuda_errands_settle(device);
		symm_cuda_leave(device, &scope);
	}
	give(&device->local, address);
}

int symm_cuda_common_alloc(struct symm_device *base, size_t bytes, void **host, void **kernel)
{
	struct cuda_device *device = cuda_device(base);
	struct cuda_scope scope;
	char *common, *there;
	int rc = symm_cuda_enter(device, &scope);

	if (rc != 0)
		return rc;
	rc = take(device, &device->common, bytes, &common, &there);
	symm_cuda_leave(device, &scope);
	if (rc != 0)
		return rc;
	memset(common, 0, bytes);
	*host = common;
	*kernel = there;
	return 0;
}

void symm_cuda_common_free(struct symm_device *base, void *host)
{
	if (host != NULL)
		give(&cuda_device(base)->common, host);
}
