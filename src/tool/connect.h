/* connect.h: a command's own connection to the store. */
#ifndef SYMM_TOOL_CONNECT_H
#define SYMM_TOOL_CONNECT_H

#include "store.h"

struct symm_tool_store {
	struct symm_loop *loop;
	struct symm_store *store;
	int64_t deadline; /* of all that the command asks of the store */
};

/* url NULL: SYMM_URL. A SYMM code, with its detail. */
int symm_tool_connect(struct symm_tool_store *connection, const char *url);
void symm_tool_disconnect(struct symm_tool_store *connection);
/* The value of a line "name:value" in what INFO answers; false if there is none, or none that can be shown. */
bool symm_tool_field(const char *info, const char *name, char *out, size_t size);

#endif
