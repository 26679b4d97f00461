/* cuda_probe.h: what the CUDA driver and its devices offer, for those who look before they use: symm info and doctor.
 * Every call leaves the thread's context as it was, and nothing allocated. */
#ifndef SYMM_DEVICE_CUDA_PROBE_H
#define SYMM_DEVICE_CUDA_PROBE_H

#include "error.h"

#include <stdbool.h>

/* A way to share memory: what the device claims, and whether a granule could be made, exported and imported so. */
struct symm_cuda_trial {
	bool claimed;
	bool works;
	char why[SYMM_ERROR_TEXT]; /* works is false: the call that failed */
};

struct symm_cuda_probe {
	int index;
	char name[96];
	char uuid[48]; /* as nvidia-smi prints it */
	char bus[24];  /* "0000:19:00.0" */
	int major, minor, multiprocessors;
	bool vmm, rdma, ecc, multicast;
	int compute_mode; /* SYMM_CUDA_COMPUTEMODE_... */
	size_t memory;

	/* From here on what only a context can tell. */
	char context_error[SYMM_ERROR_TEXT]; /* "": there was one */
	size_t memory_free;
	size_t granularity;
	struct symm_cuda_trial posix, fabric;
};

/* From one device to another. */
struct symm_cuda_peer {
	bool access;
	bool atomics;         /* native, over the link: what NVLink has and PCIe has not */
	int performance_rank; /* the driver's: less is faster, among the pairs of this host */
};

/* How many devices there are. SYMM_EDEVICE: no driver that can be used. */
int symm_cuda_probe_count(int *count);
/* trials: also what takes a context, which costs some hundred milliseconds. */
int symm_cuda_probe_device(int index, bool trials, struct symm_cuda_probe *probe);
int symm_cuda_probe_peer(int from, int to, struct symm_cuda_peer *peer);

#endif
