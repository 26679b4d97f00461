#include "doing.h"

#include "context.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void symm_doing_begin(struct doing *doing, struct context *context, bool standing, const char *format, ...)
{
	va_list args;

	*doing = (struct doing){ .context = context, .standing = standing };
	va_start(args, format);
	vsnprintf(doing->text, sizeof(doing->text), format, args);
	va_end(args);
	pthread_mutex_lock(&lock);
	doing->next = context->doing;
	context->doing = doing;
	pthread_mutex_unlock(&lock);
}

void symm_doing_end(struct doing *doing)
{
	struct doing **at;

	pthread_mutex_lock(&lock);
	at = &doing->context->doing;
	while (*at != doing)
		at = &(*at)->next;
	*at = doing->next;
	pthread_mutex_unlock(&lock);
}

static int print(const struct doing *doing, const char *before, char *out, size_t size)
{
	const char *call = __atomic_load_n(&doing->call, __ATOMIC_RELAXED);
	uint32_t channel = __atomic_load_n(&doing->channel, __ATOMIC_RELAXED);

	if (!doing->standing)
		return snprintf(out, size, "%s%s", before, doing->text);
	if (call == NULL)
		return 0;
	if (channel == SYMM_DOING_NO_CHANNEL)
		return snprintf(out, size, "%s%s %s", before, call, doing->text);
	return snprintf(out, size, "%s%s on channel %u %s", before, call, channel, doing->text);
}

void symm_doing_line(struct context *context, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	pthread_mutex_lock(&lock);
	for (struct doing *doing = context->doing; doing != NULL && used < size; doing = doing->next) {
		int n = print(doing, used > 0 ? "; " : "", out + used, size - used);

		used += n > 0 ? (size_t)n : 0;
	}
	pthread_mutex_unlock(&lock);
}
