/* control.h: what a test may ask of the fake driver and tell it: functions to be found by dlsym in the library that
 * SYMM_LIBCUDA names.
 *
 * Variables of the environment, read at the process's first call of the driver:
 *   SYMM_FAKE_DEVICES=2            how many GPUs the machine has; CUDA_VISIBLE_DEVICES chooses of them, by index
 *   SYMM_FAKE_CC=9.0               their compute capability
 *   SYMM_FAKE_ATTRIBUTES=20=3,102=0 what else they are, by the driver's numbers: CU_DEVICE_ATTRIBUTE_...
 *   SYMM_FAKE_NO_PEER=0-1,2>3      pairs without a path, either way or from the first to the second
 *   SYMM_FAKE_MEMORY=8589934592    bytes a process may allocate on each
 *   SYMM_FAKE_DRIVER_VERSION=13000 newer functions are not there
 *   SYMM_FAKE_STUB=1               it is the toolkit's library without a driver
 *   SYMM_FAKE_FABRIC=1             fabric handles work; lies: the attribute says so, cuMemCreate does not
 *   SYMM_FAKE_MULTICAST=1          multicast works
 *   SYMM_FAKE_QUEUES=8             hardware queues of a GPU, else CUDA_DEVICE_MAX_CONNECTIONS
 *   SYMM_FAKE_SEED=1               work begins late and copies are made in pieces, at random
 *   SYMM_FAKE_LEAKS=0              what is left when the last user of a context goes is no error
 *   SYMM_FAKE_FAIL=cuMemMap:3=2,cuMemCreate:*=800   which call fails with which code: the third, all
 *   SYMM_FAKE_TRACE=FILE           at exit "name count" of each function called is appended to the file
 *
 * A caller that breaks a rule of the driver's gets "fake CUDA: ..." on stderr and SIGABRT.
 */
#ifndef FAKE_CONTROL_H
#define FAKE_CONTROL_H

#include <stdbool.h>

/* What lives in this process. */
struct symm_fake_counts {
	int handles; /* of physical memory, ours and imported */
	int mappings;
	int reservations;
	int allocations; /* cuMemAlloc */
	int host_allocations;
	int streams;
	int events;
	int modules;
	int graphs;
	int graph_execs;
};

/* How this process has called so far. */
struct symm_fake_manners {
	int other_versions;   /* functions looked up in a version that is not the declared one */
	int blocking_streams; /* made, which wait for the legacy stream */
	bool rdma;            /* the last cuMemCreate's gpuDirectRDMACapable */
};

__attribute__((visibility("default"))) void symm_fake_counts(struct symm_fake_counts *counts);
__attribute__((visibility("default"))) void symm_fake_manners(struct symm_fake_manners *manners);
/* How deep the calling thread's stack of contexts is. */
__attribute__((visibility("default"))) int symm_fake_context_depth(void);
/* How often the function has been called in this process; NULL: all of them together. */
__attribute__((visibility("default"))) int symm_fake_calls(const char *name);
/* Takes the place of SYMM_FAKE_FAIL; NULL: nothing fails. Calls are counted from the process's first. */
__attribute__((visibility("default"))) void symm_fake_fail(const char *failures);

#endif
