/* tool.h: what the tool has seen, for the test that dlopens it again. */
#ifndef NVTX_TOOL_H
#define NVTX_TOOL_H

#define NVTX_TOOL_MOST 100

struct nvtx_tool_seen {
	int pushed, popped;
	int elsewhere;                     /* in a domain that is not "symm" */
	char last[64];                     /* the domain's name that was not */
	const char *range[NVTX_TOOL_MOST]; /* the names of what was pushed */
};

/* Of the calling thread; valid while it lives. */
typedef const struct nvtx_tool_seen *nvtx_tool_seen_fn(void);

#endif
