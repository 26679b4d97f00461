/* doing.h: what a rank is doing now, for the others: they name it when they wait for this rank. */
#ifndef SYMM_DOING_H
#define SYMM_DOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct context;

/* A blocking call under way, on its caller's stack; or a standing entry, through which calls too short to be listed
 * pass. */
struct doing {
	struct context *context;
	struct doing *next;
	char text[120];
	bool standing;
	const char *call; /* standing: the call under way now, NULL for none; atomic, like its channel */
	uint32_t channel;
};
void symm_doing_begin(struct doing *doing, struct context *context, bool standing, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void symm_doing_end(struct doing *doing);
/* All calls under way in one line, "" if none. */
void symm_doing_line(struct context *context, char *out, size_t size);

#define SYMM_DOING_NO_CHANNEL UINT32_MAX /* in the place of one, for calls that have none */
/* call is a static string, or NULL. Two stores: cheap beside a barrier. */
static inline void symm_doing_pass(struct doing *doing, const char *call, uint32_t channel)
{
	__atomic_store_n(&doing->channel, channel, __ATOMIC_RELAXED);
	__atomic_store_n(&doing->call, call, __ATOMIC_RELAXED);
}

#endif
