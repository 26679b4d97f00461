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

#endif
