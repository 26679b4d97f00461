#include "fork.h"

#include "error.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* A word that reads 1 here and, because its page is wiped on fork, 0 in a child: getpid would cost more than a
 * barrier. */
static uint32_t *armed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int arm(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint32_t *word = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (word == MAP_FAILED)
		return symm_error_sys(SYMM_ENOMEM, errno, "mmap of a page");
	if (madvise(word, page, MADV_WIPEONFORK) < 0) {
		int err = errno;

		munmap(word, page);
		return symm_error_sys(SYMM_ESYS, err, "madvise(MADV_WIPEONFORK)");
	}
	*word = 1;
	__atomic_store_n(&armed, word, __ATOMIC_RELEASE);
	return 0;
}

int symm_fork_arm(void)
{
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (armed == NULL)
		rc = arm();
	pthread_mutex_unlock(&lock);
	return rc;
}

bool symm_fork_is_child(void)
{
	uint32_t *word = __atomic_load_n(&armed, __ATOMIC_ACQUIRE);

	return word != NULL && __atomic_load_n(word, __ATOMIC_RELAXED) == 0;
}

int symm_fork_check(void)
{
	if (symm_fork_is_child())
		return symm_error(SYMM_EFORK,
				  "this process is a child of fork: symm works in the parent only, or after exec");
	return 0;
}
