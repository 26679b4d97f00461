/* wire.h: what processes tell each other of themselves: the member record and the fabric handles in Redis (readable
 * lines), and the fixed-size little-endian messages on a link. What comes in is untrusted: every parser checks size,
 * version, range. */
#ifndef SYMM_WIRE_H
#define SYMM_WIRE_H

#include "base.h"
#include "device.h"

#define SYMM_ABI 3 /* changes when ranks of two builds cannot work together */

#define SYMM_HOST_MAX 64
#define SYMM_BOOT_MAX 40
#define SYMM_SOCKET_MAX 64
#define SYMM_PATH_MAX 104
#define SYMM_RECORD_MAX 772

/* A process: where it runs and how to reach it from the same host. */
struct symm_process {
	struct symm_id id;            /* random, drawn when the process first opens symm */
	char host[SYMM_HOST_MAX];     /* host name, for people */
	char boot[SYMM_BOOT_MAX];     /* the kernel's boot id: the same text means the same host */
	uint64_t pidns, netns;        /* inode numbers of its PID and network namespace */
	int32_t pid;                  /* in its PID namespace */
	uint64_t start;               /* field 22 of /proc/PID/stat */
	char socket[SYMM_SOCKET_MAX]; /* abstract name of its link socket, without the leading NUL */
	char path[SYMM_PATH_MAX];     /* path of its second link socket; "" if it has none */
};

/* A member of a group: one life of one rank. */
struct symm_member {
	int rank;
	struct symm_id incarnation;
	struct symm_process process;
	struct symm_device_id device;
	bool multicast; /* offers to take part in it: multicast.h */
};

/* "v=1 rank=0 inc=.. proc=.. host=.. boot=.. pidns=.. netns=.. pid=.. start=.. socket=.. path=.. dev=.. gpu=..
 * fabric=.. multicast=1", any order after v; multicast only where it is offered. Names are [A-Za-z0-9._:-]+, a path
 * starts with '/' and has no blanks. SYMM_EINVAL: a field is not so, or size is too small (SYMM_RECORD_MAX is
 * enough). */
int symm_member_format(const struct symm_member *member, char *out, size_t size);
/* SYMM_EPROTO: not such a record. Keys that are not known are skipped. */
int symm_member_parse(const char *text, size_t length, struct symm_member *member);

/* ---- fabric handles ---- */

#define SYMM_OFFER_BLOCKS 2
#define SYMM_OFFER_MAX (SYMM_ID_HEX + SYMM_OFFER_BLOCKS * (2 * SYMM_FABRIC_BYTES + 1))

/* What one life of a rank offers to ranks of other hosts in a rendezvous: handles of its blocks. */
struct symm_offer {
	struct symm_id incarnation;
	int count; /* 0: nothing */
	uint8_t handle[SYMM_OFFER_BLOCKS][SYMM_FABRIC_BYTES];
};
/* "INCARNATION HANDLE" or "INCARNATION HANDLE HANDLE", in hex. */
void symm_offer_format(const struct symm_offer *offer, char out[SYMM_OFFER_MAX]);
/* SYMM_EPROTO: not such a line. */
int symm_offer_parse(const char *text, size_t length, struct symm_offer *offer);

/* ---- link messages ---- */

#define SYMM_MESSAGE_MAGIC 0x4d4d5953u /* "SYMM" */
#define SYMM_MESSAGE_VERSION 1
#define SYMM_MESSAGE_TEXT 256

enum symm_message_type {
	SYMM_MESSAGE_HELLO = 1, /* first on a connection, both ways: sender's process id in `process` */
	SYMM_MESSAGE_PULL, /* asks for the fds that `rank` exported at (nonce, seq), if `text` is its digest or "" */
	SYMM_MESSAGE_FDS,  /* the answer: `count` fds beside it, or code and text */
	SYMM_MESSAGE_FAIL, /* the group (nonce) failed on `rank`: code and text */
	SYMM_MESSAGE_LEFT  /* `rank` has left the group (nonce) */
};

/* One message: the same size for all types, unused fields 0. In memory; symm_message_pack makes the bytes. */
struct symm_message {
	uint32_t type;
	int32_t code;
	uint64_t nonce;
	uint64_t seq;
	uint64_t request; /* drawn by who asks, repeated in the answer */
	uint32_t rank;
	uint32_t count;
	struct symm_id process;
	char text[SYMM_MESSAGE_TEXT];
};

#define SYMM_MESSAGE_BYTES (4 + 4 + 4 + 4 + 8 * 3 + 4 + 4 + 16 + SYMM_MESSAGE_TEXT)

/* Control characters of the text become '?'. */
void symm_message_pack(const struct symm_message *message, uint8_t bytes[SYMM_MESSAGE_BYTES]);
/* SYMM_EPROTO: wrong size, magic, version or type, a code or rank out of range, text without an end or with control
 * characters. */
int symm_message_unpack(const void *bytes, size_t size, struct symm_message *message);

#endif
