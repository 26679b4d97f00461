#include "wire.h"

#include "error.h"

#include <stdio.h>
#include <string.h>

/* ---- member records ---- */

enum kind { NUMBER31, NUMBER64, ID, NAME, PATH, FLAG };

#define AT(member) offsetof(struct symm_member, member)

/* The one list of what stands in a record: formatting and parsing both walk it. */
static const struct field {
	const char *key;
	enum kind kind;
	size_t offset;
	size_t limit; /* numbers: the least; names and paths: the size of the array */
} fields[] = {
	/* clang-format off */
	{ "rank", NUMBER31, AT(rank), 0 },
	{ "inc", ID, AT(incarnation), 0 },
	{ "proc", ID, AT(process.id), 0 },
	{ "host", NAME, AT(process.host), SYMM_HOST_MAX },
	{ "boot", NAME, AT(process.boot), SYMM_BOOT_MAX },
	{ "pidns", NUMBER64, AT(process.pidns), 0 },
	{ "netns", NUMBER64, AT(process.netns), 0 },
	{ "pid", NUMBER31, AT(process.pid), 1 },
	{ "start", NUMBER64, AT(process.start), 0 },
	{ "socket", NAME, AT(process.socket), SYMM_SOCKET_MAX },
	{ "path", PATH, AT(process.path), SYMM_PATH_MAX },
	{ "dev", NAME, AT(device.kind), sizeof(((struct symm_device_id *)0)->kind) },
	{ "gpu", NAME, AT(device.uuid), sizeof(((struct symm_device_id *)0)->uuid) },
	{ "fabric", NAME, AT(device.fabric), sizeof(((struct symm_device_id *)0)->fabric) },
	{ "multicast", FLAG, AT(multicast), 0 },
	/* clang-format on */
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static bool name_ok(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";

	return *text != '\0' && text[strspn(text, allowed)] == '\0';
}

static bool path_ok(const char *text)
{
	if (*text != '\0' && *text != '/')
		return false;
	for (; *text != '\0'; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

/* Only the one way in which we would write a number ourselves. */
static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	uint64_t n = 0;

	if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	}
	*out = n;
	return n >= least && n <= most;
}

static bool text_ok(const struct field *field, const char *text)
{
	return strnlen(text, field->limit) < field->limit && (field->kind == NAME ? name_ok(text) : path_ok(text));
}

static bool parse_value(const struct field *field, const char *text, void *out)
{
	uint64_t n;

	switch (field->kind) {
	case NUMBER31:
		if (!parse_number(text, field->limit, INT32_MAX, &n))
			return false;
		*(int32_t *)out = (int32_t)n;
		return true;
	case NUMBER64:
		return parse_number(text, field->limit, UINT64_MAX, out);
	case ID:
		return symm_id_parse(text, out) && !symm_id_is_none(out);
	case FLAG:
		*(bool *)out = true;
		return strcmp(text, "1") == 0;
	default:
		if (!text_ok(field, text))
			return false;
		strcpy(out, text);
		return true;
	}
}

/* The value's text, or NULL if no record may hold it. */
static const char *format_value(const struct field *field, const void *value, char scratch[SYMM_ID_HEX])
{
	switch (field->kind) {
	case NUMBER31:
		if (*(const int32_t *)value < (int32_t)field->limit)
			return NULL;
		snprintf(scratch, SYMM_ID_HEX, "%d", *(const int32_t *)value);
		return scratch;
	case NUMBER64:
		snprintf(scratch, SYMM_ID_HEX, "%llu", (unsigned long long)*(const uint64_t *)value);
		return scratch;
	case ID:
		symm_id_format(value, scratch);
		return symm_id_is_none(value) ? NULL : scratch;
	case FLAG:
		return "1";
	default:
		return text_ok(field, value) ? value : NULL;
	}
}

int symm_member_format(const struct symm_member *member, char *out, size_t size)
{
	char record[SYMM_RECORD_MAX], scratch[SYMM_ID_HEX];
	size_t used = (size_t)snprintf(record, sizeof(record), "v=1");

	for (size_t i = 0; i < FIELDS; i++) {
		const void *at = (const char *)member + fields[i].offset;
		const char *value = format_value(&fields[i], at, scratch);

		if (fields[i].kind == FLAG && !*(const bool *)at)
			continue;
		if (value == NULL)
			return symm_error(SYMM_EINVAL, "member record: %s cannot be written", fields[i].key);
		used += (size_t)snprintf(record + used, sizeof(record) - used, " %s=%s", fields[i].key, value);
	}
	if (used >= size)
		return symm_error(SYMM_EINVAL, "member record: %zu bytes do not fit into %zu", used + 1, size);
	memcpy(out, record, used + 1);
	return SYMM_OK;
}

/* The field's number, FIELDS if this build does not know it, or -1 if word is not key=value. */
static int find_field(char *word, char **value)
{
	char *equals = strchr(word, '=');

	if (equals == NULL || equals == word)
		return -1;
	*equals = '\0';
	*value = equals + 1;
	for (size_t i = 0; i < FIELDS; i++)
		if (strcmp(word, fields[i].key) == 0)
			return (int)i;
	return FIELDS;
}

static int parse_words(char *words, struct symm_member *member)
{
	unsigned int seen = 0;
	char *word, *value;

	while ((word = strsep(&words, " ")) != NULL) {
		int i = find_field(word, &value);

		if (i < 0)
			return symm_error(SYMM_EPROTO, "member record: a word is not key=value");
		if (i == FIELDS && strcmp(word, "v") != 0)
			continue;
		if (i == FIELDS || (seen & 1u << i) != 0)
			return symm_error(SYMM_EPROTO, "member record: %s stands there twice", word);
		if (!parse_value(&fields[i], value, (char *)member + fields[i].offset))
			return symm_error(SYMM_EPROTO, "member record: %s has a bad value", word);
		seen |= 1u << i;
	}
	for (size_t i = 0; i < FIELDS; i++)
		if ((seen & 1u << i) == 0 && fields[i].kind != FLAG)
			return symm_error(SYMM_EPROTO, "member record: %s is missing", fields[i].key);
	return SYMM_OK;
}

int symm_member_parse(const char *text, size_t length, struct symm_member *member)
{
	static const char version[] = "v=1 ";
	char words[SYMM_RECORD_MAX];
	struct symm_member read = { 0 };
	int rc;

	if (length >= sizeof(words))
		return symm_error(SYMM_EPROTO, "member record: %zu bytes are too many", length);
	for (size_t i = 0; i < length; i++)
		if (text[i] < ' ' || text[i] > '~')
			return symm_error(SYMM_EPROTO, "member record: byte %zu is not printable", i);
	memcpy(words, text, length);
	words[length] = '\0';
	if (strncmp(words, version, sizeof(version) - 1) != 0)
		return symm_error(SYMM_EPROTO, "member record: not of version 1");
	rc = parse_words(words + sizeof(version) - 1, &read);
	if (rc == SYMM_OK)
		*member = read;
	return rc;
}

/* ---- fabric handles ---- */

#define HANDLE_HEX (2 * SYMM_FABRIC_BYTES)

void symm_offer_format(const struct symm_offer *offer, char out[SYMM_OFFER_MAX])
{
	size_t used = SYMM_ID_HEX - 1;

	symm_id_format(&offer->incarnation, out);
	for (int i = 0; i < offer->count; i++, used += 1 + HANDLE_HEX) {
		out[used] = ' ';
		symm_hex_format(offer->handle[i], SYMM_FABRIC_BYTES, out + used + 1);
	}
}

int symm_offer_parse(const char *text, size_t length, struct symm_offer *offer)
{
	struct symm_offer read = { .count = 0 };
	size_t at = SYMM_ID_HEX - 1;
	char id[SYMM_ID_HEX] = "";

	if (length > at)
		memcpy(id, text, at);
	if (!symm_id_parse(id, &read.incarnation) || symm_id_is_none(&read.incarnation))
		return symm_error(SYMM_EPROTO, "fabric handles: no incarnation at their start");
	for (; at < length; at += 1 + HANDLE_HEX) {
		if (read.count == SYMM_OFFER_BLOCKS || length - at < 1 + HANDLE_HEX)
			return symm_error(SYMM_EPROTO, "fabric handles: %zu bytes are not 1 to %d of them", length,
					  SYMM_OFFER_BLOCKS);
		if (text[at] != ' ' || !symm_hex_parse(text + at + 1, read.handle[read.count++], SYMM_FABRIC_BYTES))
			return symm_error(SYMM_EPROTO, "fabric handles: number %d is not %d hex digits", read.count,
					  HANDLE_HEX);
	}
	*offer = read;
	return SYMM_OK;
}

/* ---- link messages ---- */

static uint8_t *put_le(uint8_t *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		*at++ = (uint8_t)(value >> 8 * i);
	return at;
}

static uint64_t get_le(const uint8_t **at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t) * (*at)++ << 8 * i;
	return value;
}

static bool is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

void symm_message_pack(const struct symm_message *message, uint8_t bytes[SYMM_MESSAGE_BYTES])
{
	uint8_t *at = bytes;
	size_t length = strnlen(message->text, SYMM_MESSAGE_TEXT - 1);

	at = put_le(at, SYMM_MESSAGE_MAGIC, 4);
	at = put_le(at, SYMM_MESSAGE_VERSION, 4);
	at = put_le(at, message->type, 4);
	at = put_le(at, (uint32_t)message->code, 4);
	at = put_le(at, message->nonce, 8);
	at = put_le(at, message->seq, 8);
	at = put_le(at, message->request, 8);
	at = put_le(at, message->rank, 4);
	at = put_le(at, message->count, 4);
	memcpy(at, message->process.bytes, sizeof(message->process.bytes));
	at += sizeof(message->process.bytes);
	memset(at, 0, SYMM_MESSAGE_TEXT);
	for (size_t i = 0; i < length; i++)
		at[i] = is_control(message->text[i]) ? '?' : (uint8_t)message->text[i];
}

static bool message_ok(const struct symm_message *message)
{
	size_t length = strnlen(message->text, SYMM_MESSAGE_TEXT);

	if (message->type < SYMM_MESSAGE_HELLO || message->type > SYMM_MESSAGE_LEFT)
		return false;
	if (message->code > 0 || message->code < SYMM_EUNREACH || message->rank > INT32_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (is_control(message->text[i]))
			return false;
	return length < SYMM_MESSAGE_TEXT;
}

int symm_message_unpack(const void *bytes, size_t size, struct symm_message *message)
{
	const uint8_t *at = bytes;
	struct symm_message read;

	if (size != SYMM_MESSAGE_BYTES)
		return symm_error(SYMM_EPROTO, "link message: %zu bytes instead of %d", size, SYMM_MESSAGE_BYTES);
	if (get_le(&at, 4) != SYMM_MESSAGE_MAGIC || get_le(&at, 4) != SYMM_MESSAGE_VERSION)
		return symm_error(SYMM_EPROTO, "link message: not of version %d", SYMM_MESSAGE_VERSION);
	read.type = (uint32_t)get_le(&at, 4);
	read.code = (int32_t)get_le(&at, 4);
	read.nonce = get_le(&at, 8);
	read.seq = get_le(&at, 8);
	read.request = get_le(&at, 8);
	read.rank = (uint32_t)get_le(&at, 4);
	read.count = (uint32_t)get_le(&at, 4);
	memcpy(read.process.bytes, at, sizeof(read.process.bytes));
	memcpy(read.text, at + sizeof(read.process.bytes), SYMM_MESSAGE_TEXT);
	if (!message_ok(&read))
		return symm_error(SYMM_EPROTO, "link message: a field of type %u is out of range", read.type);
	*message = read;
	return SYMM_OK;
}
