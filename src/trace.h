/* trace.h: who calls what, for profilers: NVTX ranges in domain "symm" where a tool has been loaded, and the functions
 * of symm_set_trace. Without either, a call costs a load and a branch. */
#ifndef SYMM_TRACE_H
#define SYMM_TRACE_H

#include <stdint.h>

extern uint32_t symm_trace_tools; /* who listens; atomic */

/* Looks once whether a tool for NVTX ranges is there. */
void symm_trace_start(void);
/* What has been begun; 0: nothing. */
uint32_t symm_trace_push(const char *call);
void symm_trace_pop(uint32_t range);

static inline uint32_t symm_trace_begin(const char *call)
{
	if (__builtin_expect(__atomic_load_n(&symm_trace_tools, __ATOMIC_RELAXED) == 0, 1))
		return 0;
	return symm_trace_push(call);
}

static inline void symm_trace_end(const uint32_t *range)
{
	if (__builtin_expect(*range != 0, 0))
		symm_trace_pop(*range);
}

/* The rest of the block is a range; call is a static string. */
#define SYMM_TRACE(call) uint32_t traced_ __attribute__((cleanup(symm_trace_end), unused)) = symm_trace_begin(call)

#endif
