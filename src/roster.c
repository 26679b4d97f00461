#include "roster.h"

#include "link.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct roster *rosters;

/* With the lock held. */
static struct roster *find(uint64_t nonce)
{
	for (struct roster *roster = rosters; roster != NULL; roster = roster->next)
		if (roster->nonce == nonce && roster->state != ROSTER_FAILED)
			return roster;
	return NULL;
}

static void put_locked(struct roster *roster)
{
	struct roster **at = &rosters;

	if (--roster->refs > 0)
		return;
	while (*at != roster)
		at = &(*at)->next;
	*at = roster->next;
	free(roster->member);
	free(roster->far);
	free(roster);
}

/* The one thread that found no roster reads it; the lock is not held meanwhile. */
static int load(struct symm_keyspace *ks, int64_t deadline, struct roster *roster)
{
	struct symm_member *member;
	size_t n;
	int rc;

	pthread_mutex_unlock(&lock);
	rc = symm_keyspace_roster(ks, symm_link_self()->boot, deadline, &member, &n);
	pthread_mutex_lock(&lock);
	if (rc == 0) {
		roster->member = member;
		roster->n = n;
	}
	roster->state = rc == 0 ? ROSTER_READY : ROSTER_FAILED;
	pthread_cond_broadcast(&changed);
	return rc;
}

static struct roster *add(uint64_t nonce)
{
	struct roster *roster = calloc(1, sizeof(*roster));

	if (roster == NULL)
		return NULL;
	roster->nonce = nonce;
	roster->far_state = ROSTER_FAILED;
	roster->next = rosters;
	rosters = roster;
	return roster;
}

int symm_roster_get(struct symm_keyspace *ks, int64_t deadline, struct roster **out)
{
	struct roster *roster;
	int rc = 0;

	pthread_mutex_lock(&lock);
	for (;;) {
		roster = find(ks->nonce);
		if (roster != NULL) {
			roster->refs++;
			while (roster->state == ROSTER_LOADING)
				pthread_cond_wait(&changed, &lock);
			if (roster->state == ROSTER_READY)
				break;
			put_locked(roster);
			continue;
		}
		roster = add(ks->nonce);
		if (roster == NULL) {
			rc = symm_error(SYMM_ENOMEM, "no memory");
			break;
		}
		roster->refs++;
		rc = load(ks, deadline, roster);
		if (rc != 0)
			put_locked(roster);
		break;
	}
	pthread_mutex_unlock(&lock);
	if (rc == 0)
		*out = roster;
	return rc;
}

/* Of all members those of other hosts. */
static int read_far(struct symm_keyspace *ks, int64_t deadline, struct symm_member **far, size_t *n_far)
{
	const char *boot = symm_link_self()->boot;
	struct symm_presence *members;
	size_t n, kept = 0;
	int rc = symm_keyspace_members(ks, deadline, &members, &n);

	if (rc != 0)
		return rc;
	*far = calloc(n + 1, sizeof(**far));
	for (size_t i = 0; *far != NULL && i < n; i++)
		if (strcmp(members[i].member.process.boot, boot) != 0)
			(*far)[kept++] = members[i].member;
	free(members);
	*n_far = kept;
	return *far != NULL ? 0 : symm_error(SYMM_ENOMEM, "no memory");
}

int symm_roster_far(struct roster *roster, struct symm_keyspace *ks, int64_t deadline)
{
	struct symm_member *far;
	size_t n;
	int rc = 0;

	pthread_mutex_lock(&lock);
	while (roster->far_state == ROSTER_LOADING)
		pthread_cond_wait(&changed, &lock);
	if (roster->far_state == ROSTER_FAILED) {
		roster->far_state = ROSTER_LOADING;
		pthread_mutex_unlock(&lock);
		rc = read_far(ks, deadline, &far, &n);
		pthread_mutex_lock(&lock);
		if (rc == 0) {
			roster->far = far;
			roster->n_far = n;
		}
		roster->far_state = rc == 0 ? ROSTER_READY : ROSTER_FAILED;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

void symm_roster_put(struct roster *roster)
{
	if (roster == NULL)
		return;
	pthread_mutex_lock(&lock);
	put_locked(roster);
	pthread_mutex_unlock(&lock);
}
