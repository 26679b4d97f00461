#include "trace.h"

#include "error.h"
#include "fork.h"
#include "nvtx.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define NVTX 1u
#define FUNCTIONS 2u

uint32_t symm_trace_tools;

/* The program's functions. They are called with the lock held for reading, so that who sets others knows that the old
 * ones have returned. */
static struct {
	pthread_rwlock_t lock;
	void (*begin)(void *arg, const char *call);
	void (*end)(void *arg);
	void *arg;
	uint32_t number; /* how many have been set: an end belongs to its begin's */
} functions = { .lock = PTHREAD_RWLOCK_INITIALIZER };

static _Thread_local bool inside __attribute__((tls_model("initial-exec"))); /* one of the functions */

static void start_nvtx(void)
{
	if (symm_nvtx_start())
		__atomic_fetch_or(&symm_trace_tools, NVTX, __ATOMIC_RELAXED);
}

void symm_trace_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start_nvtx);
}

/* The number of the functions that were called; 0: none. What they call themselves is not traced. */
static uint32_t call_begin(const char *call)
{
	uint32_t number = 0;

	if (inside)
		return 0;
	inside = true;
	pthread_rwlock_rdlock(&functions.lock);
	if (functions.begin != NULL) {
		number = functions.number;
		functions.begin(functions.arg, call);
	}
	pthread_rwlock_unlock(&functions.lock);
	inside = false;
	return number;
}

static void call_end(uint32_t number)
{
	inside = true;
	pthread_rwlock_rdlock(&functions.lock);
	if (functions.end != NULL && functions.number == number)
		functions.end(functions.arg);
	pthread_rwlock_unlock(&functions.lock);
	inside = false;
}

/* A range: the functions' number, above a bit for NVTX's. In exit() deleters are still called, and a tool, or what the
 * functions need, may be gone. */
uint32_t symm_trace_push(const char *call)
{
	uint32_t tools = __atomic_load_n(&symm_trace_tools, __ATOMIC_RELAXED), range = 0;

	if (symm_fork_is_child() || symm_is_finalizing())
		return 0;
	if (tools & NVTX) {
		symm_nvtx_push(call);
		range = NVTX;
	}
	if (tools & FUNCTIONS)
		range |= call_begin(call) << 1;
	return range;
}

void symm_trace_pop(uint32_t range)
{
	if (range >> 1 != 0)
		call_end(range >> 1);
	if (range & NVTX)
		symm_nvtx_pop();
}

int symm_set_trace(void (*begin)(void *arg, const char *call), void (*end)(void *arg), void *arg)
{
	int rc = symm_fork_check();

	if (rc != 0)
		return symm_error_prefix(rc, "symm_set_trace");
	if ((begin == NULL) != (end == NULL))
		return symm_error(SYMM_EINVAL, "symm_set_trace: %s is NULL: give both functions, or neither",
				  begin == NULL ? "begin" : "end");
	if (inside)
		return symm_error(SYMM_EDEADLK, "symm_set_trace: called by a function of symm_set_trace");
	pthread_rwlock_wrlock(&functions.lock);
	functions.begin = begin;
	functions.end = end;
	functions.arg = arg;
	functions.number = functions.number % (UINT32_MAX >> 1) + 1;
	if (begin != NULL)
		__atomic_fetch_or(&symm_trace_tools, FUNCTIONS, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&symm_trace_tools, ~FUNCTIONS, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&functions.lock);
	return 0;
}
