/* Blocks and spans over a device that only counts, and that fails at each call in turn: what was taken is given back,
 * all foreign blocks are mapped by one call, and blocks of this process are granted to another device. */
#include "error.h"
#include "memory.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTES ((size_t)4096)
#define RANKS 5

/* What the device holds now, and what was asked of it. */
static struct {
	int users, reserved, phys, mapped;
	int exported; /* the last fd that was made: closed by whom it was given to */
	int maps, grants, clears, fds, handles;
	int fail_at; /* the call that fails, counted down; 0: none */
} count;

static int refuse(void)
{
	return count.fail_at > 0 && --count.fail_at == 0 ? symm_error(SYMM_EDEVICE, "refused") : 0;
}

static int take(int *held)
{
	int rc = refuse();

	*held += rc == 0;
	return rc;
}

static struct symm_device one, other;

static int count_open(const struct symm_device_wish *wish, int index, struct symm_device **device)
{
	(void)wish;
	*device = index == 0 ? &one : &other;
	return take(&count.users);
}

static void count_close(struct symm_device *device)
{
	(void)device;
	count.users--;
}

static int count_reserve(struct symm_device *device, size_t bytes, void **address)
{
	(void)device;
	if (take(&count.reserved) != 0)
		return SYMM_EDEVICE;
	*address = malloc(bytes);
	return 0;
}

static void count_unreserve(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	(void)bytes;
	free(address);
	count.reserved--;
}

static int count_create(struct symm_device *device, size_t bytes, symm_phys *phys)
{
	(void)device;
	(void)bytes;
	*phys = 1;
	return take(&count.phys);
}

static int count_import(struct symm_device *device, int fd, size_t bytes, symm_phys *phys)
{
	(void)device;
	(void)bytes;
	*phys = (symm_phys)fd;
	count.fds++;
	return take(&count.phys);
}

static int count_import_fabric(struct symm_device *device, const uint8_t *handle, size_t bytes, symm_phys *phys)
{
	(void)device;
	(void)bytes;
	*phys = handle[0];
	count.handles++;
	return take(&count.phys);
}

static void count_release(struct symm_device *device, symm_phys phys)
{
	(void)device;
	(void)phys;
	count.phys--;
}

static int count_map(struct symm_device *device, const struct symm_mapping *mappings, size_t n)
{
	(void)device;
	(void)mappings;
	count.maps++;
	if (refuse() != 0)
		return SYMM_EDEVICE;
	count.mapped += (int)n;
	return 0;
}

static void count_unmap(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	(void)address;
	(void)bytes;
	count.mapped--;
}

static int count_grant(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	(void)address;
	(void)bytes;
	count.grants++;
	return refuse();
}

static int count_clear(struct symm_device *device, void *address, size_t bytes)
{
	(void)device;
	count.clears++;
	memset(address, 0, bytes);
	return refuse();
}

static int count_export(struct symm_device *device, symm_phys phys, int *fd)
{
	(void)device;
	(void)phys;
	if (refuse() != 0)
		return SYMM_EDEVICE;
	*fd = count.exported = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

static const struct symm_device_ops ops = {
	.name = "count",
	.open = count_open,
	.close = count_close,
	.create = count_create,
	.export = count_export,
	.import = count_import,
	.import_fabric = count_import_fabric,
	.release = count_release,
	.reserve = count_reserve,
	.unreserve = count_unreserve,
	.map = count_map,
	.unmap = count_unmap,
	.grant = count_grant,
	.clear = count_clear,
};
static struct symm_device one = { .ops = &ops }, other = { .ops = &ops, .index = 1 };

static bool holds(int reserved, int phys, int mapped)
{
	return count.reserved == reserved && count.phys == phys && count.mapped == mapped;
}

/* What was made with the block is the first's to ask for one. */
static void test_fd(struct block *block)
{
	int made = count.exported, first = -1, second = -1;

	ok(symm_block_export(block, &first) == 0 && first == made, "an fd was made with it");
	ok(symm_block_export(block, &second) == 0 && second != made, "the next is another");
	symm_block_export_end(block, first);
	symm_block_export_end(block, second);
	ok(fcntl(first, F_GETFD) >= 0 && fcntl(second, F_GETFD) < 0, "one of them is kept");
	count.exported = first;
}

static void test_block(void)
{
	static const char *const calls[] = { "open", "reserve", "create", "map", "clear", "export" };
	struct block *block = NULL;

	for (int at = 1; at <= 6; at++) {
		count.fail_at = at;
		is_int(symm_block_create(&one, BYTES, 2, &block), SYMM_EDEVICE, "a block: %s fails", calls[at - 1]);
		ok(holds(0, 0, 0) && count.users == 0 && block == NULL, "all is given back");
	}
	count.fail_at = 0;
	count.clears = 0;
	is_int(symm_block_create(&one, BYTES, 2, &block), 0, "a block");
	ok(holds(1, 1, 1) && count.users == 1 && count.clears == 1 && block->base[BYTES - 1] == 0,
	   "is mapped, and full of zeros");
	test_fd(block);
	symm_block_unref(block);
	ok(holds(0, 0, 0) && count.users == 0, "goes with its last reference, and lets the device go");
	ok(fcntl(count.exported, F_GETFD) < 0, "and the fd");
	is_int(symm_block_create(&one, BYTES, 2, &block), 0, "another block");
	symm_block_unref(block);
	ok(fcntl(count.exported, F_GETFD) < 0, "closes the fd that nobody wanted");
	is_int(symm_block_create(&one, SIZE_MAX / 4, 2, &block), SYMM_ENOMEM, "more than an address space");
}

/* Rank 1 is in another process, 2 on another host, 3 in this process, 4 there too with a device of its own. */
static void make(size_t spare, struct block *block[3], struct incoming incoming[RANKS - 1])
{
	static const uint8_t handle[SYMM_FABRIC_BYTES] = { 22 };

	if (symm_block_create(&one, BYTES, spare, &block[0]) || symm_block_create(&one, BYTES, 0, &block[1]) ||
	    symm_block_create(&other, BYTES, 0, &block[2]))
		tap_bail("%s", symm_last_error());
	incoming[0] = (struct incoming){ .rank = 4, .block = symm_block_ref(block[2]), .fd = -1 };
	incoming[1] = (struct incoming){ .rank = 1, .fd = 11 };
	incoming[2] = (struct incoming){ .rank = 3, .block = symm_block_ref(block[1]), .fd = -1 };
	incoming[3] = (struct incoming){ .rank = 2, .fabric = handle, .fd = -1 };
	memset(&count.maps, 0, sizeof(count) - offsetof(typeof(count), maps));
}

/* A span that was mapped has taken the references over. */
static const struct incoming *again(struct block *block[3], const struct incoming *incoming)
{
	symm_block_ref(block[1]);
	symm_block_ref(block[2]);
	return incoming;
}

static void test_span(size_t spare)
{
	struct incoming incoming[RANKS - 1];
	int calls = spare >= 2 ? 4 : 5, own_ranges = spare >= 2 ? 3 : 4;
	struct block *block[3];
	struct span span;

	make(spare, block, incoming);
	for (int at = 1; at <= calls; at++) {
		block[2]->granted = 0;
		count.fail_at = at;
		is_int(symm_span_map(&span, block[0], 0, RANKS, incoming), SYMM_EDEVICE, "%zu spare: call %d fails",
		       spare, at);
		ok(holds(3, 3, 3) && block[0]->spare_used == 0 && block[2]->refs == 2, "all is given back");
	}
	memset(&count.maps, 0, sizeof(count) - offsetof(typeof(count), maps));
	block[2]->granted = 0;
	is_int(symm_span_map(&span, symm_block_ref(block[0]), 0, RANKS, incoming), 0, "%zu spare: a span", spare);
	ok(holds(own_ranges, 3, 5), "keeps mappings, and no imports");
	ok(count.maps == 1 && count.fds == 1 && count.handles == 1, "one map for an fd and a handle");
	is_int(count.grants, 1, "a grant for the block of the other device");
	ok(span.address[0] == block[0]->base && span.address[3] == block[1]->base && span.address[4] == block[2]->base,
	   "blocks of this process are where they are");
	ok((char *)span.address[2] == (char *)span.address[1] + BYTES, "the foreign ones are neighbours");
	symm_span_unmap(&span);
	is_int(symm_span_map(&span, symm_block_ref(block[0]), 0, RANKS, again(block, incoming)), 0, "once more");
	is_int(count.grants, 1, "what was granted is not granted again");
	symm_span_unmap(&span);
	for (int i = 0; i < 3; i++)
		symm_block_unref(block[i]);
	ok(holds(0, 0, 0) && count.users == 0, "all goes");
}

int main(void)
{
	test_block();
	test_span(0);
	test_span(2);
	return tap_done();
}
