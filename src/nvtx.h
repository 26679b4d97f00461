/* nvtx.h: ranges of NVTX, in domain "symm". nvtx.c makes them with the toolkit's headers, which load the tool that
 * NVTX_INJECTION64_PATH names; where configure has found none, nonvtx.c stands in its place. */
#ifndef SYMM_NVTX_H
#define SYMM_NVTX_H

#include <stdbool.h>

/* Whether this library can make ranges at all. */
extern const bool symm_nvtx_built;

/* True if a tool is there that takes them. Called by one thread; then the next two may be called. */
bool symm_nvtx_start(void);
void symm_nvtx_push(const char *call);
void symm_nvtx_pop(void);

#endif
