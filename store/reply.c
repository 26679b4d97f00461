/* A struct symm_reply is a redisReply under another name, so that only this folder knows hiredis. */
#include "redis_internal.h"

#include <hiredis.h>
#include <stdlib.h>
#include <string.h>

/* An array costs 8 bytes an element before the first has come: one header line must not make us allocate gigabytes. */
#define ARRAY_MAX (1 << 20)

static const redisReply *raw(const struct symm_reply *reply)
{
	return (const redisReply *)reply;
}

void symm_reply_free(struct symm_reply *reply)
{
	if (reply != NULL)
		freeReplyObject(reply);
}

size_t symm_reply_count(const struct symm_reply *reply)
{
	return reply != NULL && raw(reply)->type == REDIS_REPLY_ARRAY ? raw(reply)->elements : 0;
}

const struct symm_reply *symm_reply_at(const struct symm_reply *reply, size_t i)
{
	return i < symm_reply_count(reply) ? (const struct symm_reply *)raw(reply)->element[i] : NULL;
}

bool symm_reply_is_nil(const struct symm_reply *reply)
{
	return reply != NULL && raw(reply)->type == REDIS_REPLY_NIL;
}

const char *symm_reply_text(const struct symm_reply *reply, size_t *length)
{
	if (reply == NULL || (raw(reply)->type != REDIS_REPLY_STRING && raw(reply)->type != REDIS_REPLY_STATUS))
		return NULL;
	if (length != NULL)
		*length = (size_t)raw(reply)->len;
	return raw(reply)->str;
}

static bool parse_int(const char *text, size_t length, int64_t *value)
{
	bool negative = length > 0 && text[0] == '-';
	int64_t n = 0;

	if (length == (size_t)negative)
		return false;
	for (size_t i = (size_t)negative; i < length; i++) {
		int digit = text[i] - '0';

		if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, negative ? -digit : digit, &n))
			return false;
	}
	*value = n;
	return true;
}

bool symm_reply_int(const struct symm_reply *reply, int64_t *value)
{
	if (reply == NULL)
		return false;
	if (raw(reply)->type == REDIS_REPLY_STRING)
		return parse_int(raw(reply)->str, (size_t)raw(reply)->len, value);
	if (raw(reply)->type != REDIS_REPLY_INTEGER)
		return false;
	*value = raw(reply)->integer;
	return true;
}

/* It will be shown to people. */
const char *symm_reply_error(struct symm_reply *reply)
{
	char *text = raw(reply)->str;

	if (raw(reply)->type != REDIS_REPLY_ERROR)
		return NULL;
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return text;
}

/* ---- the reader ---- */

#if HIREDIS_MAJOR < 1
#define COUNT int
#else
#define COUNT size_t
#endif

static redisReplyObjectFunctions functions;
static void *(*create_any_array)(const redisReadTask *task, COUNT elements);

static void *create_array(const redisReadTask *task, COUNT elements)
{
	return elements > ARRAY_MAX ? NULL : create_any_array(task, elements);
}

struct redisReader *symm_reader_new(void)
{
	redisReader *reader = redisReaderCreate();

	if (reader == NULL)
		return NULL;
	if (create_any_array == NULL) {
		functions = *reader->fn;
		create_any_array = functions.createArray;
		functions.createArray = create_array;
	}
	reader->fn = &functions;
	return reader;
}
