/* cuda_info.h: what symm info tells of CUDA devices. */
#ifndef SYMM_TOOL_CUDA_INFO_H
#define SYMM_TOOL_CUDA_INFO_H

#include "device/cuda_probe.h"
#include "json.h"

struct symm_cuda_info {
	char error[SYMM_ERROR_TEXT]; /* "": there is a driver, and the rest is right */
	const char *path;            /* of the driver */
	int version;                 /* 13000: CUDA 13.0 */
	int count;                   /* devices of this host */
	struct symm_cuda_probe *devices;
	int n_devices; /* those that were asked for */
};

/* device: "cuda", "cuda:1", or NULL for the driver and the count alone. */
void symm_cuda_info_find(const char *device, struct symm_cuda_info *cuda);
void symm_cuda_info_free(struct symm_cuda_info *cuda);
void symm_cuda_info_print(const struct symm_cuda_info *cuda);
/* One object a device, into an open array; and the value of `key` for the driver. */
void symm_cuda_info_json(const struct symm_cuda_info *cuda, struct symm_json *json);
void symm_cuda_info_json_driver(const struct symm_cuda_info *cuda, struct symm_json *json, const char *key);

#endif
