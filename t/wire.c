#include "error.h"
#include "tap.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

#define INC "00112233445566778899aabbccddeeff"
#define PROC "ffeeddccbbaa99887766554433221100"
#define REST                                                                                                           \
	" host=node-1.example boot=0f-1e pidns=4026531836 netns=18446744073709551615 pid=4711 start=99"                \
	" socket=symm-ab path=/run/x.sock dev=cuda gpu=GPU-5f-d4 fabric=clique.7"
#define GOOD "v=1 rank=3 inc=" INC " proc=" PROC REST

/* An exact copy on the heap, without an end: a read past it is seen. */
static int parse(const char *text, size_t length, struct symm_member *member)
{
	char *exact = malloc(length > 0 ? length : 1);
	int rc;

	memcpy(exact, text, length);
	rc = symm_member_parse(exact, length, member);
	free(exact);
	return rc;
}

static void test_round_trip(void)
{
	struct symm_member member, again;
	char text[SYMM_RECORD_MAX], tight[sizeof(GOOD)];

	is_int(parse(GOOD, strlen(GOOD), &member), SYMM_OK, "a good record parses");
	is_int(member.rank, 3, "rank");
	is_str(member.process.host, "node-1.example", "host");
	is_str(member.process.path, "/run/x.sock", "path");
	ok(member.process.netns == UINT64_MAX, "the largest number");
	is_int(member.process.pid, 4711, "pid");
	is_str(member.device.kind, "cuda", "kind of device");
	is_str(member.device.uuid, "GPU-5f-d4", "device");
	is_str(member.device.fabric, "clique.7", "fabric");
	is_int(symm_member_format(&member, text, sizeof(text)), SYMM_OK, "it formats");
	is_str(text, GOOD, "to the same text");
	ok(!member.multicast, "no multicast");
	is_int(parse(GOOD " multicast=1", strlen(GOOD " multicast=1"), &again), SYMM_OK, "with multicast it parses");
	is_int(symm_member_format(&again, text, sizeof(text)), SYMM_OK, "and formats");
	is_str(text, GOOD " multicast=1", "to the same text");
	is_int(symm_member_format(&member, tight, sizeof(tight)), SYMM_OK, "into just enough space");
	is_int(symm_member_format(&member, tight, sizeof(tight) - 1), SYMM_EINVAL, "not into one byte less");
	member.process.path[0] = '\0';
	symm_member_format(&member, text, sizeof(text));
	is_int(parse(text, strlen(text), &again), SYMM_OK, "no path parses");
	ok(memcmp(&again.process.id, &member.process.id, sizeof(again.process.id)) == 0, "ids survive");
}

static void test_longest(void)
{
	struct symm_member member = { .rank = INT32_MAX }, again;
	struct symm_process *process = &member.process;
	char text[SYMM_RECORD_MAX];

	member.incarnation = process->id = symm_id_new();
	memset(process->host, 'h', sizeof(process->host) - 1);
	memset(process->boot, 'b', sizeof(process->boot) - 1);
	memset(process->socket, 's', sizeof(process->socket) - 1);
	memset(process->path, '/', sizeof(process->path) - 1);
	memset(member.device.kind, 'k', sizeof(member.device.kind) - 1);
	memset(member.device.uuid, 'u', sizeof(member.device.uuid) - 1);
	memset(member.device.fabric, 'f', sizeof(member.device.fabric) - 1);
	process->pidns = process->netns = process->start = UINT64_MAX;
	process->pid = INT32_MAX;
	member.multicast = true;
	is_int(symm_member_format(&member, text, sizeof(text)), SYMM_OK, "the longest record fits SYMM_RECORD_MAX");
	is_int(parse(text, strlen(text), &again), SYMM_OK, "and parses");
	ok(memcmp(&again, &member, sizeof(again)) == 0, "to the same member");
}

static void test_unformattable(void)
{
	struct symm_member good, bad;
	char text[SYMM_RECORD_MAX] = "untouched";

	parse(GOOD, strlen(GOOD), &good);
	bad = good;
	bad.rank = -1;
	is_int(symm_member_format(&bad, text, sizeof(text)), SYMM_EINVAL, "negative rank");
	bad = good;
	strcpy(bad.process.host, "a b");
	is_int(symm_member_format(&bad, text, sizeof(text)), SYMM_EINVAL, "a blank in the host");
	has_str(symm_last_error(), "host", "named");
	bad = good;
	memset(bad.process.path, '/', sizeof(bad.process.path));
	is_int(symm_member_format(&bad, text, sizeof(text)), SYMM_EINVAL, "a path without an end");
	bad = good;
	memset(&bad.incarnation, 0, sizeof(bad.incarnation));
	is_int(symm_member_format(&bad, text, sizeof(text)), SYMM_EINVAL, "no incarnation");
	is_str(text, "untouched", "outputs on success only");
}

static const struct {
	const char *text;
	int expected;
	const char *name;
} records[] = {
	{ GOOD " later=thing another=", SYMM_OK, "unknown keys are skipped" },
	{ "v=1" REST " proc=" PROC " inc=" INC " rank=3", SYMM_OK, "another order" },
	{ "", SYMM_EPROTO, "empty" },
	{ "v=1", SYMM_EPROTO, "only the version" },
	{ "v=1 ", SYMM_EPROTO, "only the version and a blank" },
	{ "v=2 rank=3 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "version 2" },
	{ "v=12 rank=3 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "version 12" },
	{ "rank=3 v=1 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "version not first" },
	{ GOOD " v=1", SYMM_EPROTO, "version twice" },
	{ GOOD " rank=3", SYMM_EPROTO, "rank twice" },
	{ "v=1 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "no rank" },
	{ "v=1 rank=-1 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "negative rank" },
	{ "v=1 rank=03 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "leading zero" },
	{ "v=1 rank=0 inc=" INC " proc=" PROC REST, SYMM_OK, "rank 0" },
	{ "v=1 rank= inc=" INC " proc=" PROC REST, SYMM_EPROTO, "empty rank" },
	{ "v=1 rank=2147483648 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "rank 2^31" },
	{ "v=1 rank=18446744073709551619 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "rank 2^64 + 3" },
	{ "v=1 rank=0x3 inc=" INC " proc=" PROC REST, SYMM_EPROTO, "hexadecimal rank" },
	{ "v=1 rank=3 inc=" INC "0 proc=" PROC REST, SYMM_EPROTO, "33 digits of id" },
	{ "v=1 rank=3 inc=00000000000000000000000000000000 proc=" PROC REST, SYMM_EPROTO, "no id" },
	{ "v=1 rank=3  inc=" INC " proc=" PROC REST, SYMM_EPROTO, "two blanks" },
	{ GOOD " ", SYMM_EPROTO, "a blank at the end" },
	{ GOOD "\n", SYMM_EPROTO, "a new line at the end" },
	{ GOOD " word", SYMM_EPROTO, "a word that is no pair" },
	{ GOOD " =value", SYMM_EPROTO, "a pair without a key" },
	{ GOOD " caf\xc3\xa9=1", SYMM_EPROTO, "not printable" },
	{ GOOD " path=/y", SYMM_EPROTO, "path twice" },
	{ GOOD " multicast=1", SYMM_OK, "with multicast" },
	{ GOOD " multicast=0", SYMM_EPROTO, "multicast that is not offered" },
	{ GOOD " multicast=1 multicast=1", SYMM_EPROTO, "multicast twice" },
};

static void test_records(void)
{
	struct symm_member member;
	char text[sizeof(GOOD)];

	for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		is_int(parse(records[i].text, strlen(records[i].text), &member), records[i].expected, "%s",
		       records[i].name);
	for (size_t i = 0; i < strlen(GOOD); i += 17) {
		memcpy(text, GOOD, sizeof(GOOD));
		text[i] = '\0';
		is_int(parse(text, strlen(GOOD), &member), SYMM_EPROTO, "a NUL at byte %zu", i);
	}
}

/* Record text, one value of which stands in place of a good one. */
static const struct {
	const char *key, *value;
} bad_values[] = {
	{ "host=node-1.example", "host=" },
	{ "host=node-1.example", "host=a/b" },
	{ "host=node-1.example", "host=hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh" },
	{ "boot=0f-1e", "boot=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
	{ "netns=18446744073709551615", "netns=18446744073709551616" },
	{ "pid=4711", "pid=0" },
	{ "pid=4711", "pid=4711x" },
	{ "start=99", "start=+9" },
	{ "socket=symm-ab", "socket=" },
	{ "socket=symm-ab", "socket=a@b" },
	{ "path=/run/x.sock", "path=run/x.sock" },
	{ "path=/run/x.sock", "Path=/run/x.sock" },
	{ "dev=cuda", "dev=" },
	{ "dev=cuda", "dev=cudacuda" },
	{ "gpu=GPU-5f-d4", "gpu=GPU/5f" },
	{ "gpu=GPU-5f-d4", "gpu=GPU-5f-d4-5f-d4-5f-d4-5f-d4-5f-d4-5f-d4-5f-d4-5f" },
	{ "fabric=clique.7", "fabrics=clique.7" },
};

static void test_bad_values(void)
{
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		const char *at = strstr(GOOD, bad_values[i].key);
		struct symm_member member = { .rank = 77 };
		char text[SYMM_RECORD_MAX];

		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, bad_values[i].value,
			 at + strlen(bad_values[i].key));
		is_int(parse(text, strlen(text), &member), SYMM_EPROTO, "%s", bad_values[i].value);
		is_int(member.rank, 77, "the member is untouched");
	}
}

static void test_long_record(void)
{
	struct symm_member member;
	char text[2000];

	memset(text, 'x', sizeof(text));
	memcpy(text, GOOD " k=", sizeof(GOOD " k=") - 1);
	is_int(parse(text, SYMM_RECORD_MAX - 1, &member), SYMM_OK, "a record of %d bytes", SYMM_RECORD_MAX - 1);
	is_int(parse(text, SYMM_RECORD_MAX, &member), SYMM_EPROTO, "one byte more");
	is_int(parse(text, sizeof(text), &member), SYMM_EPROTO, "many more");
}

/* ---- fabric handles ---- */

#define H8 "0123456789abcdef"
#define H64 H8 H8 H8 H8 H8 H8 H8 H8

static const struct {
	const char *text;
	int count; /* 0: not understood */
	const char *name;
} offers[] = {
	{ INC " " H64, 1, "one handle" },
	{ INC " " H64 " " H64, 2, "two handles" },
	{ INC, 0, "no handle" },
	{ "", 0, "nothing" },
	{ H64, 0, "no incarnation" },
	{ "00000000000000000000000000000000 " H64, 0, "an incarnation of zeros" },
	{ INC " " H64 " " H64 " " H64, 0, "three handles" },
	{ INC " " H64 " ", 0, "a blank at the end" },
	{ INC " " H64 "0", 0, "a digit too many" },
	{ INC " 123456789abcdef" H8 H8 H8 H8 H8 H8 H8, 0, "a digit too few" },
	{ INC "-" H64, 0, "no blank" },
	{ INC " x123456789abcdef" H8 H8 H8 H8 H8 H8 H8, 0, "no digit" },
	{ INC " A123456789abcdef" H8 H8 H8 H8 H8 H8 H8, 0, "an upper-case digit" },
};

static void test_offers(void)
{
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		size_t length = strlen(offers[i].text);
		struct symm_offer offer = { .count = 77 };
		char again[SYMM_OFFER_MAX], *exact = malloc(length + 1);
		int rc;

		memcpy(exact, offers[i].text, length + 1);
		rc = symm_offer_parse(exact, length, &offer);
		free(exact);
		is_int(rc, offers[i].count > 0 ? SYMM_OK : SYMM_EPROTO, "%s", offers[i].name);
		is_int(offer.count, rc == SYMM_OK ? offers[i].count : 77, "%s: how many", offers[i].name);
		if (rc != SYMM_OK)
			continue;
		symm_offer_format(&offer, again);
		is_str(again, offers[i].text, "%s: back to the same text", offers[i].name);
	}
}

/* ---- messages ---- */

static const struct symm_message sample = {
	.type = SYMM_MESSAGE_FAIL,
	.code = SYMM_EUNREACH,
	.nonce = UINT64_C(0x0102030405060708),
	.seq = UINT64_MAX,
	.request = 5,
	.rank = INT32_MAX,
	.count = 2,
	.process = { .bytes = "0123456789abcde" },
	.text = "why",
};

static void test_message(void)
{
	static const uint8_t head[] = { 'S', 'Y', 'M', 'M',  1,    0,    0,    0, SYMM_MESSAGE_FAIL,
					0,   0,   0,   0xee, 0xff, 0xff, 0xff, 8, 7,
					6,   5,   4,   3,    2,    1 };
	uint8_t bytes[SYMM_MESSAGE_BYTES];
	struct symm_message again;

	symm_message_pack(&sample, bytes);
	ok(memcmp(bytes, head, sizeof(head)) == 0, "little-endian, whatever the machine");
	is_int(symm_message_unpack(bytes, sizeof(bytes), &again), SYMM_OK, "unpacks");
	ok(memcmp(&again, &sample, sizeof(again)) == 0, "to the same message");
}

static void test_text(void)
{
	uint8_t bytes[SYMM_MESSAGE_BYTES];
	struct symm_message message = sample, again;

	memset(message.text, 't', sizeof(message.text));
	symm_message_pack(&message, bytes);
	is_int(symm_message_unpack(bytes, sizeof(bytes), &again), SYMM_OK, "a text that was too long");
	is_int((int64_t)strlen(again.text), SYMM_MESSAGE_TEXT - 1, "is cut");
	strcpy(message.text, "a\nb\x7f\xc3\xa9");
	symm_message_pack(&message, bytes);
	symm_message_unpack(bytes, sizeof(bytes), &again);
	is_str(again.text, "a?b?\xc3\xa9", "control characters are replaced");
}

static const struct {
	size_t offset;
	uint8_t value;
	const char *name;
} bad_bytes[] = {
	{ 0, 's', "magic" },
	{ 4, 2, "version" },
	{ 8, 0, "type 0" },
	{ 8, 6, "type past the last" },
	{ 10, 1, "type 65537" },
	{ 12, 0xed, "code below the last" },
	{ 15, 0x7f, "positive code" },
	{ 43, 0x80, "negative rank" },
	{ SYMM_MESSAGE_BYTES - SYMM_MESSAGE_TEXT, '\n', "control character" },
};

static void test_bad_messages(void)
{
	uint8_t good[SYMM_MESSAGE_BYTES + 1] = { 0 }, bytes[SYMM_MESSAGE_BYTES];
	struct symm_message message = { .seq = 77 };

	symm_message_pack(&sample, good);
	for (size_t i = 0; i < sizeof(bad_bytes) / sizeof(bad_bytes[0]); i++) {
		memcpy(bytes, good, sizeof(bytes));
		bytes[bad_bytes[i].offset] = bad_bytes[i].value;
		is_int(symm_message_unpack(bytes, sizeof(bytes), &message), SYMM_EPROTO, "bad %s", bad_bytes[i].name);
	}
	memset(bytes + SYMM_MESSAGE_BYTES - SYMM_MESSAGE_TEXT, 'x', SYMM_MESSAGE_TEXT);
	is_int(symm_message_unpack(bytes, sizeof(bytes), &message), SYMM_EPROTO, "text without an end");
	is_int(symm_message_unpack(good, SYMM_MESSAGE_BYTES - 1, &message), SYMM_EPROTO, "too short");
	is_int(symm_message_unpack(good, SYMM_MESSAGE_BYTES + 1, &message), SYMM_EPROTO, "too long");
	is_int(symm_message_unpack(good, 0, &message), SYMM_EPROTO, "nothing");
	ok(message.seq == 77, "the message is untouched");
}

int main(void)
{
	test_round_trip();
	test_longest();
	test_unformattable();
	test_records();
	test_bad_values();
	test_long_record();
	test_offers();
	test_message();
	test_text();
	test_bad_messages();
	return tap_done();
}
