#include "connect.h"

#include "base.h"
#include "launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Long enough for a store that is busy, short enough for who sits and waits. */
#define PATIENCE_MS 5000

int symm_tool_connect(struct symm_tool_store *connection, const char *url)
{
	int64_t ms;
	int rc;

	if (url == NULL)
		url = getenv("SYMM_URL");
	if (url == NULL || *url == '\0')
		return symm_error(SYMM_EINVAL,
				  "which store? Give --url or set SYMM_URL, for example redis://127.0.0.1:6379");
	if ((rc = symm_launch_ms("SYMM_TIMEOUT_MS", PATIENCE_MS, &ms)) != 0)
		return rc;
	connection->deadline = symm_now() + ms * SYMM_NS_PER_MS;
	if ((rc = symm_loop_get(&connection->loop)) != 0)
		return rc;
	rc = symm_store_open(connection->loop, url, connection->deadline, &connection->store);
	if (rc != 0)
		symm_loop_put(connection->loop);
	return rc;
}

void symm_tool_disconnect(struct symm_tool_store *connection)
{
	symm_store_close(connection->store);
	symm_loop_put(connection->loop);
}

static bool is_printable(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f)
			return false;
	return true;
}

bool symm_tool_field(const char *info, const char *name, char *out, size_t size)
{
	size_t length = strlen(name);

	for (const char *line = info; line != NULL; line = strchr(line, '\n')) {
		const char *value;

		line += *line == '\n';
		if (strncmp(line, name, length) != 0 || line[length] != ':')
			continue;
		value = line + length + 1;
		if (!is_printable(value, strcspn(value, "\r\n")))
			return false;
		snprintf(out, size, "%.*s", (int)strcspn(value, "\r\n"), value);
		return true;
	}
	return false;
}
