/* What moves data beside put and get: copies between any two ranks, fills, values that are published, payloads with a
 * signal; at once and on streams. */
#include "ask.h"
#include "doing.h"
#include "handle.h"
#include "rig.h"

#include <pthread.h>

#define RANKS 3
#define BLOCK ((size_t)3 << 16)
#define CHANNEL 3

static struct tap_redis redis;
static int *rally;

struct bench {
	struct rig *rig;
	struct symm_mem *mem;
	void *ptr, *stream;
	int me;
	unsigned char *image; /* [BLOCK]: what a block should hold, or did */
	unsigned char *own;   /* [BLOCK], for streams */
};

static int begin(struct bench *b, struct rig *rig, int rank)
{
	*b = (struct bench){ .rig = rig, .me = rank };
	GOOD(rig_join(rig, rank));
	GOOD(rig_memory(rig, BLOCK, &b->ptr, &b->mem));
	GOOD(symm_stream_create(rig->context, &b->stream));
	b->image = malloc(BLOCK);
	b->own = own_memory(rig->context, BLOCK);
	CHECK(b->image != NULL && b->own != NULL);
	return 0;
}

static int end(const struct bench *b)
{
	GOOD(symm_stream_destroy(b->stream));
	own_memory_free(b->rig->context, b->own);
	free(b->image);
	GOOD(symm_close(b->rig->context));
	return 0;
}

/* Byte i of what `from` writes the nth time. */
static unsigned char pattern(int from, int n, size_t i)
{
	return (unsigned char)((size_t)from * 37 + (size_t)n * 101 + i * 7 + i / 251 + 1);
}

static void fill_pattern(unsigned char *bytes, size_t n, int from, int round)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = pattern(from, round, i);
}

/* All that a rank's block holds. */
static bool block_is(struct symm_mem *mem, int rank, const unsigned char *image)
{
	unsigned char *copy = malloc(BLOCK);
	bool same = copy != NULL && block_read(mem, rank, 0, copy, BLOCK) && memcmp(copy, image, BLOCK) == 0;

	free(copy);
	return same;
}

/* A call at once (stream NULL), or on the stream, which is waited for. */
#define BOTH(stream, call, ...)                                                                                        \
	do {                                                                                                           \
		if ((stream) == NULL) {                                                                                \
			GOOD(call(__VA_ARGS__));                                                                       \
		} else {                                                                                               \
			GOOD(call##_on_stream(__VA_ARGS__, stream));                                                   \
			GOOD(symm_stream_synchronize(stream, 0));                                                      \
		}                                                                                                      \
	} while (0)

/* ---- copies ---- */

/* Of this rank's copies none is its own business only: it copies from the next rank to the one before, too. */
static const struct {
	int dst, src; /* from this rank on */
	size_t dst_offset, src_offset, bytes;
} copies[] = {
	{ 1, 2, 0, 0, 4096 },      { 2, 1, 100, 3, 1001 },
	{ 0, 1, 5000, 1, 1 },      { 1, 0, 6000, 64, 64 },
	{ 0, 0, 7000, 0, 1000 },   { 2, 2, 10000, 9000, 1000 },
	{ 1, 2, 20000, 20001, 7 }, { 0, 0, 0, BLOCK, 0 },
	{ 1, 2, BLOCK, BLOCK, 0 }, { 2, 0, BLOCK - 1, 0, 1 },
	{ 0, 2, 8, 8, 8 },         { 1, 1, 30000, 40000, 10000 },
	{ 1, 1, 40000, 30000, 1 }, { 2, 1, BLOCK / 2, 0, BLOCK / 2 },
};

/* One rank at a time; all ranks see what it has done to two blocks. */
static int copy_turn(const struct bench *b, int turn, size_t i, void *stream)
{
	int dst = (turn + copies[i].dst) % RANKS, src = (turn + copies[i].src) % RANKS;
	unsigned char *expected = malloc(BLOCK);

	CHECK(expected != NULL && block_read(b->mem, dst, 0, expected, BLOCK) &&
	      block_read(b->mem, src, copies[i].src_offset, expected + copies[i].dst_offset, copies[i].bytes));
	GOOD(symm_barrier(b->mem, 0, 0));
	if (b->me == turn)
		BOTH(stream, symm_copy, b->mem, dst, copies[i].dst_offset, src, copies[i].src_offset, copies[i].bytes);
	GOOD(symm_barrier(b->mem, 0, 0));
	CHECK(block_is(b->mem, dst, expected), "(copy %zu of rank %d)", i, turn);
	free(expected);
	return 0;
}

static int copying(int rank, void *arg)
{
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	fill_pattern(b.image, BLOCK, rank, 0);
	CHECK(block_write(b.mem, rank, 0, b.image, BLOCK));
	GOOD(symm_barrier(b.mem, 0, 0));
	for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++)
		if (copy_turn(&b, (int)(i % RANKS), i, i / 2 % 2 == 0 ? NULL : b.stream) != 0)
			return 1;
	return end(&b);
}

/* ---- fills ---- */

static int fill_turn(struct bench *b, int dst, size_t offset, size_t count, void *stream)
{
	uint32_t value = 0x01020304u * (uint32_t)(dst + 1) ^ (uint32_t)offset << 8 ^ (uint32_t)count;

	CHECK(block_read(b->mem, dst, 0, b->image, BLOCK));
	for (size_t i = 0; i < count; i++)
		memcpy(b->image + offset + 4 * i, &value, sizeof(value));
	BOTH(stream, symm_memset32, b->mem, dst, offset, value, count);
	CHECK(block_is(b->mem, dst, b->image), "(%zu words at %zu of rank %d)", count, offset, dst);
	return 0;
}

static int filling(int rank, void *arg)
{
	static const struct {
		size_t offset, count;
	} fills[] = {
		{ 0, 1 },         { 4, 1 },  { 4, 3 },     { 12, 1000 },   { 0, BLOCK / 4 },
		{ BLOCK - 4, 1 }, { 64, 0 }, { BLOCK, 0 }, { 100, 10007 },
	};
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	for (int turn = 0; turn < RANKS; turn++) {
		for (size_t i = 0; turn == rank && i < 2 * sizeof(fills) / sizeof(fills[0]); i++)
			if (fill_turn(&b, (rank + (int)i) % RANKS, fills[i / 2].offset, fills[i / 2].count,
				      i % 2 == 0 ? b.stream : NULL) != 0)
				return 1;
		GOOD(symm_barrier(b.mem, 0, 0));
	}
	return end(&b);
}

/* ---- values ---- */

static int value_turn(const struct bench *b, int dst, size_t offset, uint64_t value, int bytes, void *stream)
{
	CHECK(block_read(b->mem, dst, 0, b->image, BLOCK));
	memcpy(b->image + offset, &value, (size_t)bytes); /* little-endian, as all devices are */
	BOTH(stream, symm_write_value, b->mem, dst, offset, value, bytes);
	CHECK(block_is(b->mem, dst, b->image), "(%d bytes at %zu of rank %d)", bytes, offset, dst);
	return 0;
}

static int values(int rank, void *arg)
{
	static const struct {
		size_t offset;
		uint64_t value;
		int bytes;
	} cases[] = {
		{ 0, UINT64_MAX, 8 }, { 8, 0x0123456789abcdef, 8 }, { 4, UINT32_MAX, 4 },         { 12, 0x01020304, 4 },
		{ BLOCK - 8, 7, 8 },  { BLOCK - 4, 9, 4 },          { 64, UINT64_C(1) << 63, 8 }, { 64, 0, 8 },
	};
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	for (int turn = 0; turn < RANKS; turn++) {
		for (size_t i = 0; turn == rank && i < 2 * sizeof(cases) / sizeof(cases[0]); i++)
			if (value_turn(&b, (rank + (int)i) % RANKS, cases[i / 2].offset, cases[i / 2].value,
				       cases[i / 2].bytes, i % 2 == 0 ? b.stream : NULL) != 0)
				return 1;
		GOOD(symm_barrier(b.mem, 0, 0));
	}
	return end(&b);
}

/* ---- values as messages: who acquires the word sees what the stream did before ---- */

#define FLAG (BLOCK - 64)
#define LETTERS 4096

/* Looks until the word has the value; half of it may be another's. */
static int await_word(const struct bench *b, size_t offset, int bytes, uint64_t wanted)
{
	double limit = seconds_now() + patience(20);
	uint64_t word = 0;

	do {
		if (on_host())
			word = bytes == 4 ? __atomic_load_n((uint32_t *)(void *)((char *)b->ptr + offset),
							    __ATOMIC_ACQUIRE)
					  : __atomic_load_n((uint64_t *)(void *)((char *)b->ptr + offset),
							    __ATOMIC_ACQUIRE);
		else
			CHECK(block_read(b->mem, b->me, offset, &word, sizeof(word)));
		word &= bytes == 4 ? UINT32_MAX : UINT64_MAX;
		CHECK(seconds_now() < limit, "(%llu)", (unsigned long long)word);
	} while (word != wanted);
	return 0;
}

static int send_letter(const struct bench *b, int dst, int round, int bytes)
{
	fill_pattern(b->own, LETTERS, b->me, round);
	GOOD(symm_put_on_stream(b->mem, dst, 0, b->own, LETTERS, b->stream));
	GOOD(symm_memset32_on_stream(b->mem, dst, LETTERS, (uint32_t)round, 16, b->stream));
	GOOD(symm_write_value_on_stream(b->mem, dst, FLAG, (uint64_t)round, bytes, b->stream));
	return 0;
}

static int read_letter(const struct bench *b, int src, int round, int bytes)
{
	uint32_t words[16];

	if (await_word(b, FLAG, bytes, (uint64_t)round) != 0)
		return 1;
	CHECK(block_read(b->mem, b->me, 0, b->image, LETTERS) &&
	      block_read(b->mem, b->me, LETTERS, words, sizeof(words)));
	for (size_t i = 0; i < LETTERS; i++)
		CHECK(b->image[i] == pattern(src, round, i), "(round %d, byte %zu)", round, i);
	CHECK(words[0] == (uint32_t)round && words[15] == (uint32_t)round, "(round %d)", round);
	return 0;
}

static int messages(int rank, void *arg)
{
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	for (int round = 1; round <= rounds(500); round++) {
		int bytes = round % 2 == 0 ? 4 : 8;

		if (rank == 0 && send_letter(&b, 1, round, bytes) != 0)
			return 1;
		if (rank == 1 && read_letter(&b, 0, round, bytes) != 0)
			return 1;
		/* Answered by the other kind of word, at once. */
		if (rank == 1)
			GOOD(symm_write_value(b.mem, 0, FLAG, (uint64_t)round, 12 - bytes));
		if (rank == 0 && await_word(&b, FLAG, 12 - bytes, (uint64_t)round) != 0)
			return 1;
		if (rank == 0)
			GOOD(symm_stream_synchronize(b.stream, 0));
	}
	return end(&b);
}

/* ---- payloads with a signal ---- */

static const struct {
	size_t bytes, dst, src; /* offsets */
} payloads[] = {
	{ 8, 0, 0 },         { 1, 3, 0 },
	{ 0, BLOCK, 0 },     { 7, 1, 2 },
	{ 16, 16, 16 },      { 100, 32, 48 },
	{ 1000, 8, 16 },     { 4096, 0, 0 },
	{ 8191, 4096, 1 },   { 65536, 0, 0 },
	{ 65535, 48, 32 },   { 65537, 16, 0 },
	{ BLOCK, 0, 0 },     { 65536, BLOCK / 2, 8 },
	{ 513 * 16, 0, 16 },
};
#define PAYLOADS ((int)(sizeof(payloads) / sizeof(payloads[0])))

/* The source of what runs at once is any memory of the host's; a stream's is the device's own, pinned, or a block. */
static const unsigned char *source(const struct bench *b, int n, bool on_stream, unsigned char *plain)
{
	return n % 3 == 0 && !on_stream ? plain : b->own;
}

static int send_payload(const struct bench *b, int dst, int n, unsigned char *plain)
{
	size_t bytes = payloads[n % PAYLOADS].bytes, at = payloads[n % PAYLOADS].dst;
	const unsigned char *from = source(b, n, n % 2 == 0, plain) + payloads[n % PAYLOADS].src;

	if (payloads[n % PAYLOADS].src + bytes > BLOCK)
		from -= payloads[n % PAYLOADS].src;
	fill_pattern((unsigned char *)(uintptr_t)from, bytes, b->me, n);
	BOTH(n % 2 == 0 ? b->stream : NULL, symm_put_with_signal, b->mem, dst, at, from, bytes, CHANNEL, 0);
	return 0;
}

static int receive_payload(const struct bench *b, int src, int n)
{
	size_t bytes = payloads[n % PAYLOADS].bytes, at = payloads[n % PAYLOADS].dst;

	BOTH(n % 4 < 2 ? b->stream : NULL, symm_wait_signal, b->mem, src, CHANNEL, 0);
	CHECK(block_read(b->mem, b->me, at, b->image, bytes));
	for (size_t i = 0; i < bytes; i++)
		CHECK(b->image[i] == pattern(src, n, i), "(payload %d, byte %zu)", n, i);
	return 0;
}

/* Rank 0 to 1, 1 to 2, 2 to 0, and each to itself; each is consumed before the next comes. */
static int sending(int rank, void *arg)
{
	unsigned char *plain = malloc(BLOCK);
	struct bench b;

	CHECK(plain != NULL);
	if (begin(&b, arg, rank) != 0)
		return 1;
	for (int n = 0; n < 4 * PAYLOADS; n++) {
		int step = n / PAYLOADS % 2; /* to whom, from this rank on */

		if (send_payload(&b, (rank + step) % RANKS, n, plain) != 0 ||
		    receive_payload(&b, (rank + RANKS - step) % RANKS, n) != 0)
			return 1;
		GOOD(symm_barrier(b.mem, 0, 0));
	}
	free(plain);
	return end(&b);
}

/* Many in flight on the stream: each waits until the last is consumed, so two places take turns. */
static int streaming(int rank, void *arg)
{
	const size_t half = BLOCK / 2;
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	for (int n = 0; n < rounds(300); n++) {
		size_t bytes = n % 5 == 0 ? half : 1000;
		uint64_t credit;

		if (rank == 0) {
			fill_pattern(b.own + half * (size_t)(n % 2), bytes, 0, n);
			GOOD(symm_put_with_signal_on_stream(b.mem, 1, half * (size_t)(n % 2),
							    b.own + half * (size_t)(n % 2), bytes, CHANNEL, 0,
							    b.stream));
			/* Rank 1 has read what the next one overwrites. */
			GOOD(symm_wait_signal_on_stream(b.mem, 1, CHANNEL, 0, b.stream));
			GOOD(symm_stream_synchronize(b.stream, 0));
		} else if (rank == 1) {
			GOOD(symm_wait_signal(b.mem, 0, CHANNEL, 0));
			CHECK(block_read(b.mem, 1, half * (size_t)(n % 2), b.image, bytes));
			for (size_t i = 0; i < bytes; i++)
				CHECK(b.image[i] == pattern(0, n, i), "(round %d, byte %zu)", n, i);
			credit = (uint64_t)n;
			GOOD(symm_put_with_signal(b.mem, 0, 0, &credit, sizeof(credit), CHANNEL, 0));
		}
	}
	return end(&b);
}

#define BIG ((size_t)8 << 20)

/* A payload that takes longer than to hear of the signal: what comes last is there. Each round has its own source. */
static int big(int rank, void *arg)
{
	const size_t last = BIG / 8 - 1;
	struct bench b;
	struct symm_mem *mem;
	void *ptr;

	if (begin(&b, arg, rank) != 0)
		return 1;
	GOOD(rig_memory(b.rig, 2 * BIG, &ptr, &mem));
	for (uint64_t round = 1; round <= 8; round++) {
		const char *source = (char *)ptr + BIG;

		if (rank == 0) {
			CHECK(word_set(mem, 0, last + 1, round) && word_set(mem, 0, 2 * BIG / 8 - 1, round));
			BOTH(round % 2 == 0 ? b.stream : NULL, symm_put_with_signal, mem, 1, 0, source, BIG, CHANNEL,
			     0);
		} else if (rank == 1) {
			BOTH(round % 4 < 2 ? b.stream : NULL, symm_wait_signal, mem, 0, CHANNEL, 0);
			CHECK(word_get(mem, 1, last) == round, "(%llu)", (unsigned long long)round);
			CHECK(word_get(mem, 1, 0) == round, "(%llu)", (unsigned long long)round);
		}
		GOOD(symm_barrier(mem, 0, 0));
	}
	return end(&b);
}

/* The second of two payloads is there while its signal still waits for the first to be consumed: so copies come before
 * signals, by whatever way a payload goes. */
static int unread(int rank, void *arg)
{
	static const size_t sizes[] = { 8, 4096, BIG / 8 };
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	GOOD(rig_memory(b.rig, 2 * BIG, &b.ptr, &b.mem));
	for (uint64_t round = 0; round < 6; round++) {
		size_t bytes = sizes[round / 2];
		void *stream = round % 2 == 0 ? NULL : b.stream;

		for (uint64_t n = 2 * round + 1; rank == 0 && n <= 2 * round + 2; n++) {
			CHECK(word_set(b.mem, 0, (BIG + bytes) / 8 - 1, n));
			BOTH(stream, symm_put_with_signal, b.mem, 1, 0, (char *)b.ptr + BIG, bytes, CHANNEL, 0);
		}
		if (rank == 1 && await_word(&b, bytes - 8, 8, 2 * round + 2) != 0)
			return 1;
		for (int n = 0; rank == 1 && n < 2; n++)
			GOOD(symm_wait_signal(b.mem, 0, CHANNEL, 0));
		GOOD(symm_barrier(b.mem, 0, 0));
	}
	return end(&b);
}

/* ---- refusals ---- */

#define BAD_BOTH(code, text, call, ...)                                                                                \
	do {                                                                                                           \
		BAD(call(__VA_ARGS__), code, text);                                                                    \
		CHECK(strncmp(symm_last_error(), #call ": ", strlen(#call ": ")) == 0, "(%s)", symm_last_error());     \
		BAD(call##_on_stream(__VA_ARGS__, b.stream), code, text);                                              \
		CHECK(strncmp(symm_last_error(), #call "_on_stream: ", strlen(#call "_on_stream: ")) == 0, "(%s)",     \
		      symm_last_error());                                                                              \
	} while (0)
#define REFUSED(text, call, ...) BAD_BOTH(SYMM_EINVAL, text, call, __VA_ARGS__)

static int refuse_copies(const struct bench *bench)
{
	const struct bench b = *bench;
	struct symm_mem *none = (struct symm_mem *)(void *)b.image;

	REFUSED("rank -1 is not in the group of 3", symm_copy, b.mem, -1, 0, 0, 0, 8);
	REFUSED("rank 3 is not in the group of 3", symm_copy, b.mem, 0, 0, 3, 0, 8);
	REFUSED("8 bytes from offset 196601 do not lie within the block of 196608 bytes", symm_copy, b.mem, 0, 0, 1,
		BLOCK - 7, 8);
	REFUSED("8 bytes from offset 196601 do not lie", symm_copy, b.mem, 0, BLOCK - 7, 1, 0, 8);
	REFUSED("do not lie within", symm_copy, b.mem, 0, SIZE_MAX, 1, 0, 8);
	REFUSED("do not lie within", symm_copy, b.mem, 0, 8, 1, 8, SIZE_MAX);
	REFUSED("do not lie within", symm_copy, b.mem, 0, BLOCK + 1, 1, 0, 0);
	REFUSED("9 bytes from offset 0 and from offset 8 of rank 1's block overlap", symm_copy, b.mem, 1, 8, 1, 0, 9);
	REFUSED("overlap", symm_copy, b.mem, 1, 0, 1, 8, 9);
	REFUSED("overlap", symm_copy, b.mem, 1, 0, 1, 0, 1);
	REFUSED("is not a symm_mem", symm_copy, none, 0, 0, 1, 0, 8);
	REFUSED("rank 3 is not in the group of 3", symm_memset32, b.mem, 3, 0, 1, 1);
	REFUSED("offset 2 is not a multiple of 4", symm_memset32, b.mem, 0, 2, 1, 1);
	REFUSED("4 bytes from offset 196608 do not lie", symm_memset32, b.mem, 0, BLOCK, 1, 1);
	REFUSED("do not lie within", symm_memset32, b.mem, 0, 0, 1, SIZE_MAX);
	REFUSED("do not lie within", symm_memset32, b.mem, 0, 4, 1, SIZE_MAX / 4);
	REFUSED("do not lie within", symm_memset32, b.mem, 0, 0, 1, (size_t)1 << 62);
	REFUSED("is not a symm_mem", symm_memset32, none, 0, 0, 1, 1);
	return 0;
}

static int refuse_values(const struct bench *bench)
{
	const struct bench b = *bench;
	struct symm_mem *none = (struct symm_mem *)(void *)b.image;
	char byte = 0;

	REFUSED("a value of 2 bytes: 4 or 8", symm_write_value, b.mem, 0, 0, 1, 2);
	REFUSED("a value of 0 bytes: 4 or 8", symm_write_value, b.mem, 0, 0, 1, 0);
	REFUSED("a value of -8 bytes: 4 or 8", symm_write_value, b.mem, 0, 0, 1, -8);
	REFUSED("offset 4 is not a multiple of 8", symm_write_value, b.mem, 0, 4, 1, 8);
	REFUSED("offset 2 is not a multiple of 4", symm_write_value, b.mem, 0, 2, 1, 4);
	REFUSED("value 4294967296 does not fit into 4 bytes", symm_write_value, b.mem, 0, 0, UINT64_C(1) << 32, 4);
	REFUSED("8 bytes from offset 196608 do not lie", symm_write_value, b.mem, 0, BLOCK, 1, 8);
	REFUSED("rank 3 is not in the group of 3", symm_write_value, b.mem, 3, 0, 1, 8);
	REFUSED("is not a symm_mem", symm_write_value, none, 0, 0, 1, 8);
	REFUSED("channel 32: there are channels 0 to 31", symm_put_with_signal, b.mem, 0, 0, &byte, 1, 32, 0);
	REFUSED("channel -1", symm_put_with_signal, b.mem, 0, 0, &byte, 1, -1, 0);
	REFUSED("rank 3 is not in the group of 3", symm_put_with_signal, b.mem, 3, 0, &byte, 1, 0, 0);
	REFUSED("timeout_ms is -1", symm_put_with_signal, b.mem, 0, 0, &byte, 1, 0, -1);
	REFUSED("the local address is NULL", symm_put_with_signal, b.mem, 0, 0, NULL, 1, 0, 0);
	REFUSED("1 bytes from offset 196608 do not lie", symm_put_with_signal, b.mem, 0, BLOCK, &byte, 1, 0, 0);
	REFUSED("is not a symm_mem", symm_put_with_signal, none, 0, 0, &byte, 1, 0, 0);
	BAD(symm_memset32_on_stream(b.mem, 0, 0, 1, 1, b.mem), SYMM_ESTALE, "this stream is no more");
	return 0;
}

/* None of them has touched anything. */
static int refusals(int rank, void *arg)
{
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	if (refuse_copies(&b) != 0 || refuse_values(&b) != 0)
		return 1;
	GOOD(symm_barrier(b.mem, 0, 0));
	CHECK(block_holds(b.mem, rank, 0, BLOCK));
	GOOD(symm_group_status(b.rig->group));
	return end(&b);
}

/* ---- failures ---- */

static int expect_failed(const struct bench *bench)
{
	const struct bench b = *bench;
	uint64_t word = 1;

	BAD_BOTH(SYMM_ETIMEDOUT, "group world has failed: ", symm_copy, b.mem, 1, 0, 2, 64, 8);
	BAD_BOTH(SYMM_ETIMEDOUT, "group world has failed: ", symm_memset32, b.mem, 1, 0, 7, 1);
	BAD_BOTH(SYMM_ETIMEDOUT, "group world has failed: ", symm_write_value, b.mem, 1, 0, 7, 8);
	BAD_BOTH(SYMM_ETIMEDOUT, "group world has failed: ", symm_put_with_signal, b.mem, 1, 0, &word, 8, 0, 0);
	return 0;
}

/* The second signal finds the first unconsumed: the wait for its turn ends, and the group fails. */
static int unconsumed(int rank, void *arg)
{
	uint64_t word = 5;
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	if (rank == 0) {
		GOOD(symm_put_with_signal(b.mem, 1, 0, &word, sizeof(word), CHANNEL, 0));
		BAD(symm_put_with_signal(b.mem, 1, 8, &word, sizeof(word), CHANNEL, 50), SYMM_ETIMEDOUT,
		    "put_signal on channel 3 timed out waiting for rank 1");
	}
	while (symm_group_status(b.rig->group) == 0)
		nap_ms(1);
	tap_rally(rally, RANKS);
	if (expect_failed(&b) != 0)
		return 1;
	tap_rally(rally, RANKS);
	CHECK(word_get(b.mem, 1, 0) == 5 && word_get(b.mem, 2, 0) == 0);
	tap_rally(rally, RANKS);
	return end(&b);
}

/* ---- what others are told that a rank is doing ---- */

struct filler {
	struct symm_mem *mem;
	int stop, code;
};

static void *fill_on(void *arg)
{
	struct filler *filler = arg;

	int code = 0;

	while (!__atomic_load_n(&filler->stop, __ATOMIC_ACQUIRE) && code == 0)
		code = symm_memset32(filler->mem, 0, 0, 1, BLOCK / 4);
	__atomic_store_n(&filler->code, code, __ATOMIC_RELAXED);
	return NULL;
}

/* What moves data uses no channel, and so names none. */
static int telling(int rank, void *arg)
{
	struct filler filler = { .stop = 0 };
	char line[512] = "";
	struct context *context;
	struct bench b;
	pthread_t thread;
	int rc;

	if (begin(&b, arg, rank) != 0)
		return 1;
	filler.mem = b.mem;
	context = symm_handle_get(b.rig->context, SYMM_HANDLE_CONTEXT, &rc);
	CHECK(context != NULL && pthread_create(&thread, NULL, fill_on, &filler) == 0);
	while (strstr(line, "memset32") == NULL && __atomic_load_n(&filler.code, __ATOMIC_RELAXED) == 0)
		symm_doing_line(context, line, sizeof(line));
	__atomic_store_n(&filler.stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	symm_handle_put(b.rig->context);
	CHECK(filler.code == 0 && strcmp(line, "memset32 of group world") == 0, "(%s)", line);
	return end(&b);
}

/* A peer that has freed the allocation is still mapped: what needs nothing of it goes on; a signal does not. */
static int closed(int rank, void *arg)
{
	uint64_t word = 5;
	struct bench b;

	if (begin(&b, arg, rank) != 0)
		return 1;
	GOOD(symm_barrier(b.mem, 0, 0));
	if (rank == 1) {
		GOOD(symm_mem_release(b.mem));
		GOOD(symm_free(b.ptr));
		BAD(symm_memset32(b.mem, 0, 0, 1, 1), SYMM_ESTALE, "this symm_mem is no more");
		BAD(symm_copy_on_stream(b.mem, 0, 0, 2, 0, 8, b.stream), SYMM_ESTALE, "this symm_mem is no more");
	}
	tap_rally(rally, RANKS);
	if (rank == 0) {
		GOOD(symm_memset32(b.mem, 1, 0, 3, 2));
		GOOD(symm_copy(b.mem, 2, 8, 1, 0, 8));
		GOOD(symm_write_value(b.mem, 1, 0, 9, 8));
		CHECK(word_get(b.mem, 2, 1) == UINT64_C(0x300000003) && word_get(b.mem, 1, 0) == 9);
		BAD(symm_put_with_signal(b.mem, 1, 0, &word, sizeof(word), CHANNEL, 0), SYMM_ESTALE,
		    "has freed the allocation");
		GOOD(symm_put_with_signal(b.mem, 2, 0, &word, sizeof(word), CHANNEL, 0));
	}
	if (rank == 2) {
		GOOD(symm_wait_signal(b.mem, 0, CHANNEL, 0));
		CHECK(word_get(b.mem, 2, 0) == 5);
	}
	tap_rally(rally, RANKS);
	GOOD(symm_group_status(b.rig->group));
	return end(&b);
}

int main(void)
{
	static const struct {
		const char *name;
		int (*run)(int rank, void *arg);
	} tests[] = {
		{ "copies between any two ranks", copying },
		{ "fills", filling },
		{ "values", values },
		{ "values as messages", messages },
		{ "payloads with a signal", sending },
		{ "payloads on a stream", streaming },
		{ "a payload that takes its time", big },
		{ "a payload before its signal", unread },
		{ "what cannot be", refusals },
		{ "a signal that is not consumed", unconsumed },
		{ "what others are told", telling },
		{ "a peer that has freed its block", closed },
	};

	if (!need_device(RANKS))
		return 0;
	rally = tap_shared(sizeof(*rally));
	tap_redis_start(&redis, TAP_REDIS_UNIX);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct rig rig = { .url = redis.url, .world = RANKS };

		*rally = 0;
		tap_ranks(tests[i].name, RANKS, tests[i].run, &rig, 60);
	}
	tap_redis_stop(&redis);
	return tap_done();
}
