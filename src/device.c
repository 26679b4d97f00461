#include "device.h"

#include "error.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct symm_device_ops *const backends[] = { &symm_device_host, &symm_device_cuda };

const char *symm_device_type(const char *name)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i]->name;
	return NULL;
}

/* "" names no index: -1; ":7" is 7. */
static bool read_index(const char *text, int *index)
{
	char *end;
	long value;

	if (*text == '\0') {
		*index = -1;
		return true;
	}
	if (text[0] != ':' || !isdigit((unsigned char)text[1]))
		return false;
	value = strtol(text + 1, &end, 10);
	if (*end != '\0' || value > INT16_MAX)
		return false;
	*index = (int)value;
	return true;
}

int symm_device_open(const struct symm_device_wish *wish, struct symm_device **device)
{
	const char *text = wish->text;
	int index;

	if (text == NULL)
		return symm_error(SYMM_EINVAL, "the name of the device is NULL");
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		size_t n = strlen(backends[i]->name);

		if (strncmp(text, backends[i]->name, n) == 0 && read_index(text + n, &index))
			return backends[i]->open(wish, index, device);
	}
	return symm_error(SYMM_EINVAL, "there is no device \"%.64s\": devices are \"host\", \"cuda\" and \"cuda:N\"",
			  text);
}

int symm_device_hold(struct symm_device *device)
{
	const struct symm_device_wish wish = { .text = device->ops->name, .local_rank = -1, .share = true };
	struct symm_device *same;

	return device->ops->open(&wish, device->index, &same);
}

void symm_device_close(struct symm_device *device)
{
	if (device != NULL)
		device->ops->close(device);
}
