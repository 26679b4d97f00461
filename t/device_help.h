/* device_help.h: what the tests of a device's table begin with, and two ranks in one process to give it work. */
#ifndef DEVICE_HELP_H
#define DEVICE_HELP_H

#include "any_device.h"
#include "base.h"
#include "device.h"
#include "error.h"
#include "symm/kernel/atomic.h"
#include "symm/kernel/layout.h"
#include "tap/tap.h"

static struct symm_device *device;
static const struct symm_device_ops *ops;
static size_t page; /* the granularity */

static inline void device_open(const char *text)
{
	const struct symm_device_wish wish = { .text = text, .local_rank = 0, .share = true };

	if (symm_device_open(&wish, &device) != 0)
		tap_bail("no device %s: %s", text, symm_last_error());
	ops = device->ops;
	page = ops->granularity(device);
}

static inline int64_t soon(int ms)
{
	return symm_now() + ms * SYMM_NS_PER_MS;
}

/* ---- memory ---- */

static inline symm_phys block(size_t bytes)
{
	symm_phys phys = 0;

	if (ops->create(device, bytes, &phys) != 0)
		tap_bail("no block: %s", symm_last_error());
	return phys;
}

static inline void *reserved(size_t bytes)
{
	void *address = NULL;

	if (ops->reserve(device, bytes, &address) != 0)
		tap_bail("no addresses: %s", symm_last_error());
	return address;
}

static inline int map_one(void *address, size_t bytes, symm_phys phys)
{
	const struct symm_mapping mapping = { address, bytes, phys };

	return ops->map(device, &mapping, 1);
}

/* Local memory full of zeros. */
static inline void *local(size_t bytes)
{
	void *address = NULL, *zeros = calloc(1, bytes);

	if (ops->local_alloc(device, bytes, &address) != 0 || ops->write(device, address, zeros, bytes) != 0)
		tap_bail("no local memory: %s", symm_last_error());
	free(zeros);
	return address;
}

/* A number at any place of the device's memory; UINT64_MAX if it cannot be read. */
static inline uint64_t number_at(const void *at)
{
	uint64_t value;

	return ops->read(device, &value, at, sizeof(value)) == 0 ? value : UINT64_MAX;
}

static inline bool set_number(void *at, uint64_t value)
{
	return ops->write(device, at, &value, sizeof(value)) == 0;
}

/* ---- two ranks in this process ---- */

struct pair {
	char *slot[2];
	struct symm_sync_group *group[2];
	struct symm_sync *sync[2];
	struct symm_sync_mirror *mirror[2];
};

static inline void pair_make_rank(struct pair *pair, uint32_t rank)
{
	size_t bytes = symm_sync_bytes(2);
	struct symm_sync *image = calloc(1, bytes);
	struct symm_sync_group group = { .version = SYMM_SYNC_VERSION, .generation = 1, .rank = rank, .world_size = 2 };
	void *mirror, *mirror_of_kernels;

	if (image == NULL || ops->common_alloc(device, symm_sync_mirror_bytes(2), &mirror, &mirror_of_kernels) != 0)
		tap_bail("no memory: %s", symm_last_error());
	pair->mirror[rank] = mirror;
	pair->group[rank] = local(sizeof(group));
	pair->sync[rank] = local(bytes);
	group.mirror = mirror_of_kernels;
	image->group = pair->group[rank];
	image->own = pair->slot[rank];
	for (uint32_t peer = 0; peer < 2; peer++)
		symm_sync_peer_at(image, peer)->slot = pair->slot[peer];
	if (ops->write(device, pair->group[rank], &group, sizeof(group)) != 0 ||
	    ops->write(device, pair->sync[rank], image, bytes) != 0)
		tap_bail("no write: %s", symm_last_error());
	free(image);
}

static inline void pair_make(struct pair *pair)
{
	for (int rank = 0; rank < 2; rank++)
		pair->slot[rank] = local(symm_sync_layout_of(2).bytes);
	for (uint32_t rank = 0; rank < 2; rank++)
		pair_make_rank(pair, rank);
}

static inline void pair_free(struct pair *pair)
{
	for (int rank = 0; rank < 2; rank++) {
		ops->local_free(device, pair->sync[rank]);
		ops->local_free(device, pair->group[rank]);
		ops->local_free(device, pair->slot[rank]);
		ops->common_free(device, pair->mirror[rank]);
	}
}

/* How much work of that rank has ended. */
static inline uint64_t pair_ended(const struct pair *pair, int rank)
{
	return number_at(&pair->sync[rank]->ended);
}

/* Work of a rank that concerns the other. */
static inline struct symm_sync_op work_of(const struct pair *pair, int rank, int kind, uint32_t channel)
{
	return (struct symm_sync_op){ .kind = kind,
				      .sync = pair->sync[rank],
				      .group = pair->group[rank],
				      .own = pair->slot[rank],
				      .world_size = 2,
				      .peer = (uint32_t)!rank,
				      .channel = channel,
				      .timeout_ns = UINT64_C(30000000000) };
}

static inline struct symm_sync_op copy_of(const struct pair *pair, void *dst, const void *src, size_t bytes)
{
	return (struct symm_sync_op){ .kind = SYMM_OP_COPY,
				      .sync = pair->sync[0],
				      .group = pair->group[0],
				      .dst = dst,
				      .src = src,
				      .bytes = bytes };
}

/* What launch gave, or the error. */
static inline int launched(void *stream, const struct symm_sync_op *op)
{
	uint64_t count = 0;
	int rc = ops->launch(device, stream, op, NULL, NULL, &count);

	return rc != 0 ? rc : (int)count;
}

/* What the algorithm gave, or the device's error. */
static inline int ran(const struct symm_sync_op *op)
{
	uint64_t count, waited_ns;
	uint32_t peer;
	int code, rc = ops->run(device, op, &code, &peer, &count, &waited_ns);

	return rc != 0 ? rc : code;
}

/* Work of rank 0 that does not end before the gate is opened: by rank 1's signal on the channel. */
static inline int gate_launch(const struct pair *pair, void *stream, uint32_t channel)
{
	struct symm_sync_op wait = work_of(pair, 0, SYMM_OP_WAIT_SIGNAL, channel);

	return launched(stream, &wait);
}

static inline int gate_open(const struct pair *pair, uint32_t channel)
{
	struct symm_sync_op put = work_of(pair, 1, SYMM_OP_PUT_SIGNAL, channel);

	return ran(&put);
}

static inline void *stream_new(void)
{
	void *stream = NULL;

	if (ops->stream_create(device, &stream) != 0)
		tap_bail("no stream: %s", symm_last_error());
	return stream;
}

#endif
