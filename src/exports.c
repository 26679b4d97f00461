#include "exports.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS 1024u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct export *table[BUCKETS];

static struct export **bucket(uint64_t nonce, uint64_t seq, int rank)
{
	return &table[(nonce + seq * 31 + (uint64_t)rank) % BUCKETS];
}

/* With the lock held. */
static struct export *find(uint64_t nonce, uint64_t seq, int rank)
{
	struct export *export = *bucket(nonce, seq, rank);

	while (export != NULL && (export->nonce != nonce || export->seq != seq || export->rank != rank))
		export = export->next;
	return export;
}

/* The same, if it comes with that digest; "": whatever it comes with. */
static struct export *find_as(uint64_t nonce, uint64_t seq, int rank, const char *digest)
{
	struct export *export = find(nonce, seq, rank);

	if (export == NULL || digest[0] == '\0' || export->digest == NULL || strcmp(export->digest, digest) == 0)
		return export;
	return NULL;
}

/* The first n of them. */
static void drop(struct export *export, int n)
{
	for (int i = 0; i < n; i++) {
		if (export->fd[i] >= 0 && export->block[i] != NULL)
			symm_block_export_end(export->block[i], export->fd[i]);
		else if (export->fd[i] >= 0)
			close(export->fd[i]);
		symm_block_unref(export->block[i]);
	}
}

/* For those who get no block as it is. */
static int make_handles(struct export *export, int i)
{
	struct block *block = export->block[i];
	const struct symm_device_ops *ops = block->device->ops;
	int rc = 0;

	if (export->loop != NULL)
		rc = symm_block_export(block, &export->fd[i]);
	if (rc == 0 && export->fabric)
		rc = ops->export_fabric(block->device, block->phys, export->offer.handle[i]);
	return rc;
}

static void put_in(struct export *export)
{
	struct export **at = bucket(export->nonce, export->seq, export->rank);

	pthread_mutex_lock(&lock);
	export->next = *at;
	*at = export;
	pthread_mutex_unlock(&lock);
}

int symm_export_begin(struct export *export)
{
	for (int i = 0; i < export->count; i++) {
		int rc;

		symm_block_ref(export->block[i]);
		export->fd[i] = -1;
		rc = make_handles(export, i);
		if (rc != 0) {
			drop(export, i + 1);
			return rc;
		}
	}
	export->offer.count = export->fabric ? export->count : 0;
	put_in(export);
	return 0;
}

void symm_export_fd_begin(struct export *export)
{
	export->count = 1;
	put_in(export);
}

static void take_out(void *arg)
{
	struct export *export = arg;
	struct export **at = bucket(export->nonce, export->seq, export->rank);

	pthread_mutex_lock(&lock);
	while (*at != export)
		at = &(*at)->next;
	*at = export->next;
	pthread_mutex_unlock(&lock);
}

/* On the loop thread, which sends fds in the same breath as it finds them: none is closed under it. */
void symm_export_end(struct export *export)
{
	if (export->loop != NULL)
		symm_loop_call(export->loop, take_out, export);
	else
		take_out(export);
	drop(export, export->count);
}

struct block *symm_export_block(uint64_t nonce, uint64_t seq, int rank, const char *digest, int i)
{
	struct export *export;
	struct block *block = NULL;

	pthread_mutex_lock(&lock);
	export = find_as(nonce, seq, rank, digest);
	if (export != NULL && i < export->count)
		block = symm_block_ref(export->block[i]);
	pthread_mutex_unlock(&lock);
	return block;
}

int symm_export_fd(uint64_t nonce, uint64_t seq, int rank, int *fd)
{
	const struct export *export;
	int got = -1, rc = 0;

	pthread_mutex_lock(&lock);
	export = find(nonce, seq, rank);
	if (export == NULL)
		rc = symm_error(SYMM_ENOENT, "rank %d of this process offers nothing", rank);
	else if ((got = fcntl(export->fd[0], F_DUPFD_CLOEXEC, 3)) < 0)
		rc = symm_error_sys(SYMM_ESYS, errno, "cannot duplicate an fd (raise their number with ulimit -n)");
	pthread_mutex_unlock(&lock);
	if (rc == 0)
		*fd = got;
	return rc;
}

int symm_exports_find(uint64_t nonce, uint64_t seq, int rank, const char *digest, int fds[SYMM_LINK_FDS], int *count,
		      struct symm_err *err)
{
	struct export *export;
	int rc = 0;

	pthread_mutex_lock(&lock);
	export = find_as(nonce, seq, rank, digest);
	*count = export != NULL ? export->count : 0;
	for (int i = 0; i < *count; i++)
		fds[i] = export->fd[i];
	if (*count == 0)
		rc = symm_err_set(err, SYMM_ENOENT, "rank %d offers nothing for rendezvous %llu now", rank,
				  (unsigned long long)seq);
	pthread_mutex_unlock(&lock);
	return rc;
}
