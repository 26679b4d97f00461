/* Who can map whose memory: kinds of devices, shared GPUs, paths between them, and fabric handles across hosts. The
 * host device pretends to be the devices of the tables below; hosts are boot ids. */
#include "ask.h"
#include "exports.h"
#include "keyspace.h"
#include "rig.h"

#include <fcntl.h>
#include <sys/wait.h>

#define MOST 4
#define SLICE 1000
#define TEXT 640

static struct tap_redis redis;

/* What the ranks of a test share. */
static struct shared {
	int rally;
	int struck;
	int imported;
	char text[MOST][TEXT];
} * shared;

struct pretence {
	const char *boot, *kind, *uuid, *fabric;
};

enum fault { NONE, NO_EXPORT, NO_IMPORT, LOST_OFFER, OTHER_LIFE, DEATH };

struct setting {
	const char *name;
	int world;
	bool share;
	struct pretence rank[MOST];
	int code; /* of the rendezvous, on all ranks */
	const char *text[3];
	enum fault fault; /* strikes the first rendezvous */
	int victim;
};

/* ---- a device that is what the table says ---- */

static const struct setting *setting;
static int myself;

static bool strikes(enum fault fault)
{
	return setting->fault == fault && setting->victim == myself &&
	       __atomic_exchange_n(&shared->struck, 1, __ATOMIC_ACQ_REL) == 0;
}

static void pretend_identify(struct symm_device *device, struct symm_device_id *id)
{
	const struct pretence *as = &setting->rank[myself];

	(void)device;
	snprintf(id->kind, sizeof(id->kind), "%s", as->kind);
	snprintf(id->uuid, sizeof(id->uuid), "%s", as->uuid);
	snprintf(id->fabric, sizeof(id->fabric), "%s", as->fabric);
}

static int pretend_reach(struct symm_device *device, const struct symm_device_id *peer)
{
	(void)device;
	return strcmp(peer->uuid, "GPU-island") != 0 ? 0
						     : symm_error(SYMM_EUNREACH, "no peer path from %s to %s",
								  setting->rank[myself].uuid, peer->uuid);
}

/* A memfd can be opened by the pid and fd of whoever has it. */
static int pretend_export(struct symm_device *device, symm_phys phys, uint8_t handle[SYMM_FABRIC_BYTES])
{
	(void)device;
	if (strikes(NO_EXPORT))
		return symm_error(SYMM_EDEVICE, "no export today");
	memset(handle, 0, SYMM_FABRIC_BYTES);
	snprintf((char *)handle, SYMM_FABRIC_BYTES, "/proc/%d/fd/%d", (int)getpid(), (int)phys);
	return 0;
}

static int pretend_import(struct symm_device *device, const uint8_t handle[SYMM_FABRIC_BYTES], size_t bytes,
			  symm_phys *phys)
{
	int fd, rc;

	if (strikes(DEATH)) {
		while (__atomic_load_n(&shared->imported, __ATOMIC_ACQUIRE) < 3 * 2 * 2)
			nap_ms(1);
		_exit(0);
	}
	if (strikes(NO_IMPORT))
		return symm_error(SYMM_EDEVICE, "no import today");
	fd = open((const char *)handle, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return symm_error(SYMM_EDEVICE, "%.60s cannot be opened", (const char *)handle);
	rc = symm_device_host.import(device, fd, bytes, phys);
	close(fd);
	__atomic_fetch_add(&shared->imported, 1, __ATOMIC_ACQ_REL);
	return rc;
}

int __real_symm_device_open(const struct symm_device_wish *wish, struct symm_device **device);
int __wrap_symm_device_open(const struct symm_device_wish *wish, struct symm_device **device);
int __wrap_symm_device_open(const struct symm_device_wish *wish, struct symm_device **device)
{
	static struct symm_device_ops ops;
	int rc = __real_symm_device_open(wish, device);

	ops = symm_device_host;
	ops.identify = pretend_identify;
	ops.reach = pretend_reach;
	if (strcmp(setting->rank[myself].kind, "host") != 0) {
		ops.export_fabric = pretend_export;
		ops.import_fabric = pretend_import;
	}
	if (rc == 0)
		(*device)->ops = &ops;
	return rc;
}

int __real_symm_keyspace_offers(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
				struct symm_offer *offers);
int __wrap_symm_keyspace_offers(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
				struct symm_offer *offers);
int __wrap_symm_keyspace_offers(struct symm_keyspace *ks, int world, uint64_t seq, int64_t deadline,
				struct symm_offer *offers)
{
	int rc = __real_symm_keyspace_offers(ks, world, seq, deadline, offers);

	if (strikes(LOST_OFFER))
		memset(offers, 0, (size_t)world * sizeof(*offers));
	if (strikes(OTHER_LIFE))
		for (int rank = 0; rank < world; rank++)
			offers[rank].incarnation.bytes[3]++;
	return rc;
}

/* ---- what a rank does ---- */

/* A failure is the same on all ranks. */
static int same_failure(const struct rig *rig, int rc)
{
	snprintf(shared->text[myself], TEXT, "%s", symm_last_error());
	CHECK(rc == setting->code, "(%s: %s)", symm_strerror(rc), shared->text[myself]);
	for (int i = 0; i < 3 && setting->text[i] != NULL; i++)
		CHECK(strstr(shared->text[myself], setting->text[i]) != NULL, "(\"%s\" is not in: %s)",
		      setting->text[i], shared->text[myself]);
	if (setting->fault == DEATH)
		return 0;
	tap_rally(&shared->rally, rig->world);
	for (int rank = 0; rank < rig->world; rank++)
		CHECK(strcmp(shared->text[rank], shared->text[myself]) == 0, "\n#   %s\n#   %s", shared->text[rank],
		      shared->text[myself]);
	return 0;
}

static int write_and_read(const struct rig *rig)
{
	for (int round = 0; round < 2; round++) {
		struct symm_mem *mem;
		void *ptr;

		GOOD(symm_alloc(rig->group, MOST * SLICE, NULL, &ptr));
		GOOD(symm_rendezvous(ptr, NULL, 0, &mem));
		for (int to = 0; to < rig->world; to++)
			memset((char *)symm_mem_buffer(mem, to) + myself * SLICE, 10 * to + myself + round, SLICE);
		GOOD(symm_barrier(mem, 0, 0));
		for (int i = 0; i < rig->world * SLICE; i++)
			CHECK(((char *)ptr)[i] == 10 * myself + i / SLICE + round, "(byte %d)", i);
		GOOD(symm_put_signal(mem, (myself + 1) % rig->world, 1, 0));
		GOOD(symm_wait_signal(mem, (myself + rig->world - 1) % rig->world, 1, 0));
		GOOD(symm_barrier(mem, 0, 0));
		GOOD(symm_mem_release(mem));
		GOOD(symm_free(ptr));
	}
	return 0;
}

static int run(int rank, void *arg)
{
	struct rig *rig = arg;
	struct symm_mem *mem;
	void *ptr;

	myself = rank;
	setenv("SYMM_BOOT_ID", setting->rank[rank].boot, 1);
	if (setting->share)
		setenv("SYMM_SHARE_DEVICE", "1", 1);
	GOOD(rig_join(rig, rank));
	if (setting->code != 0) {
		GOOD(symm_alloc(rig->group, 64, NULL, &ptr));
		if (same_failure(rig, symm_rendezvous(ptr, NULL, 0, &mem)) != 0)
			return 1;
		GOOD(symm_free(ptr));
	}
	if (setting->code == 0 || (setting->fault != NONE && setting->fault != DEATH)) {
		if (write_and_read(rig) != 0)
			return 1;
		GOOD(symm_group_status(rig->group));
	}
	GOOD(symm_close(rig->context));
	return 0;
}

/* ---- the tables ---- */

#define HERE(uuid)                                                                                                     \
	{                                                                                                              \
		"here", "cuda", uuid, "-"                                                                              \
	}
#define AT(boot, uuid)                                                                                                 \
	{                                                                                                              \
		boot, "cuda", uuid, "c1.3"                                                                             \
	}
#define TWO_HOSTS                                                                                                      \
	{                                                                                                              \
		AT("a", "GPU-1"), AT("b", "GPU-2"), AT("a", "GPU-3"), AT("b", "GPU-4")                                 \
	}

static const struct setting settings[] = {
	{ "a GPU each", 3, false, { HERE("GPU-1"), HERE("GPU-2"), HERE("GPU-3") }, 0, { NULL }, NONE, 0 },
	{ "a GPU for two",
	  3,
	  false,
	  { HERE("GPU-1"), HERE("GPU-2"), HERE("GPU-1") },
	  SYMM_EINVAL,
	  { "ranks 0 and 2 both use GPU-1", "SYMM_SHARE_DEVICE=1" },
	  NONE,
	  0 },
	{ "a GPU for two, as is wanted",
	  3,
	  true,
	  { HERE("GPU-1"), HERE("GPU-2"), HERE("GPU-1") },
	  0,
	  { NULL },
	  NONE,
	  0 },
	{ "two kinds",
	  2,
	  false,
	  { HERE("GPU-1"), { "here", "host", "-", "-" } },
	  SYMM_EMISMATCH,
	  { "rank 1 is on host, rank 0 on cuda" },
	  NONE,
	  0 },
	{ "no path between GPUs",
	  3,
	  false,
	  { HERE("GPU-1"), HERE("GPU-2"), HERE("GPU-island") },
	  SYMM_EUNREACH,
	  { "cannot map the memory of rank 2 (", "no peer path from GPU-", " to GPU-island" },
	  NONE,
	  0 },
	{ "two hosts on one fabric", 4, false, TWO_HOSTS, 0, { NULL }, NONE, 0 },
	{ "each rank on a host of its own",
	  3,
	  false,
	  { AT("a", "GPU-1"), AT("b", "GPU-2"), AT("c", "GPU-3") },
	  0,
	  { NULL },
	  NONE,
	  0 },
	{ "two hosts on two fabrics",
	  2,
	  false,
	  { AT("a", "GPU-1"), { "b", "cuda", "GPU-2", "c2.3" } },
	  SYMM_EUNREACH,
	  { "cannot map the memory of rank ", "is on fabric c", "this one on c" },
	  NONE,
	  0 },
	{ "a host without fabric",
	  2,
	  false,
	  { AT("a", "GPU-1"), { "b", "cuda", "GPU-2", "-" } },
	  SYMM_EUNREACH,
	  { "cannot map the memory of rank ", " on ",
	    "no fabric handles, by which hosts share memory: make a group for each host, or take hosts of one NVLink "
	    "domain" },
	  NONE,
	  0 },
	{ "two kinds on two hosts",
	  2,
	  false,
	  { AT("a", "GPU-1"), { "b", "host", "-", "-" } },
	  SYMM_EMISMATCH,
	  { "rank 1 is on host, rank 0 on cuda" },
	  NONE,
	  0 },
	{ "no export of a handle", 4, false, TWO_HOSTS, SYMM_EDEVICE, { "rank 1 (", "no export today" }, NO_EXPORT, 1 },
	{ "no import of a handle",
	  4,
	  false,
	  TWO_HOSTS,
	  SYMM_EDEVICE,
	  { "rank 2 (", "the block of rank 1 on ", "no import today" },
	  NO_IMPORT,
	  2 },
	{ "a handle is not in the store",
	  4,
	  false,
	  TWO_HOSTS,
	  SYMM_EPROTO,
	  { "rank 3 (", "the memory of rank 0 on ", "has 0 of its fabric handles where 2 are due" },
	  LOST_OFFER,
	  3 },
	{ "a handle is of another life",
	  4,
	  false,
	  TWO_HOSTS,
	  SYMM_EPROTO,
	  { "rank 0 (", "the memory of rank 1 on ", "has 0 of its fabric handles" },
	  OTHER_LIFE,
	  0 },
	/* After the three others have imported two blocks of two ranks each. */
	{ "a rank that dies while it imports", 4, false, TWO_HOSTS, SYMM_EPEER, { "rank 3", "died" }, DEATH, 3 },
};

int main(void)
{
	setenv("SYMM_DEVICE", "host", 1);
	shared = tap_shared(sizeof(*shared));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct rig rig = { .url = redis.url, .world = settings[i].world };

		setting = &settings[i];
		memset(shared, 0, sizeof(*shared));
		if (setting->fault == DEATH)
			rig.lease_ms = 500;
		tap_ranks(setting->name, setting->world, run, &rig, 30);
		if (setting->fault != DEATH)
			has_str(ask(&redis, "DBSIZE"), ":0", "%s: nothing is left in Redis", setting->name);
	}
	tap_redis_stop(&redis);
	return tap_done();
}
