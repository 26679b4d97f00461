/* fake.h: what the files of the fake driver share.
 *
 * One lock covers all state; every function of the driver holds it from FAKE_ENTER to its return, except while it
 * waits. Workers hold it but while they run a task. Device memory is host memory: its addresses are good for both.
 */
#ifndef FAKE_H
#define FAKE_H

#include "control.h"
#include "src/device/cuda_api.h"

#include <pthread.h>
#include <stdint.h>

#define FAKE_DEVICES 16
#define FAKE_GRANULE ((size_t)2 << 20)
#define FAKE_LABEL 4096 /* bytes behind the memory of a memfd: what it is */
#define FAKE_MANY 16    /* heads of a capture, events that one node joins */

/* ---- driver.c: the table of functions, settings, failures ---- */

struct fake_config {
	int driver_version;
	int devices; /* visible ones */
	int physical[FAKE_DEVICES];
	int major, minor;
	size_t memory;
	bool fabric, fabric_works;
	bool multicast;
	bool leaks;
	bool stub;
	int queues;
	unsigned int seed;
	const char *attributes, *no_peer;
};

extern struct fake_config fake_config;
extern struct symm_fake_manners fake_manners;
extern pthread_mutex_t fake_lock;

#define FAKE_DECLARE(name, since, needed, parameters) enum symm_cuda_result name parameters;
SYMM_CUDA_FUNCTIONS(FAKE_DECLARE)
#undef FAKE_DECLARE

/* What a function asks for. */
enum {
	FAKE_ANY = 0,     /* nothing */
	FAKE_INIT = 1,    /* cuInit */
	FAKE_CONTEXT = 3, /* and a current context */
	FAKE_UNSAFE = 4   /* and that no capture forbids it */
};

enum symm_cuda_result fake_enter(const char *name, unsigned int rules);
void fake_leave(const char *const *name);

#define FAKE_ENTER(rules)                                                                                              \
	const char *entered __attribute__((cleanup(fake_leave))) = __func__;                                           \
	enum symm_cuda_result refused = fake_enter(entered, rules);                                                    \
	if (refused != SYMM_CUDA_SUCCESS)                                                                              \
	return refused

void fake_abort(const char *function, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#define FAKE_ASSERT(cond, ...)                                                                                         \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			fake_abort(__func__, __VA_ARGS__);                                                             \
	} while (0)

/* calloc, or the end. */
void *fake_new(size_t bytes);

/* ---- object.c: all that lives and has to be given back ---- */

/* In the order of struct symm_fake_counts. */
enum fake_kind {
	FAKE_HANDLE,
	FAKE_MAPPING,
	FAKE_RESERVATION,
	FAKE_ALLOCATION,
	FAKE_HOST,
	FAKE_STREAM,
	FAKE_EVENT,
	FAKE_MODULE,
	FAKE_GRAPH,
	FAKE_EXEC,
	FAKE_BUILTIN, /* default streams: nobody gives them back */
	FAKE_KINDS
};

/* The first member of everything that is counted. Owned by the context that was current. */
struct fake_object {
	enum fake_kind kind;
	struct CUctx_st *owner;
	struct fake_object *next, **link;
};

void fake_object_add(struct fake_object *object, enum fake_kind kind);
void fake_object_remove(struct fake_object *object);
struct fake_object *fake_object_first(enum fake_kind kind);
/* Whether the pointer is a living object of that kind. */
bool fake_object_lives(enum fake_kind kind, const void *pointer);
/* Asserts that the context owns nothing any more. */
void fake_object_check_leaks(const struct CUctx_st *owner);

#define FAKE_EACH(kind, object)                                                                                        \
	(struct fake_object *object = fake_object_first(kind); object != NULL; object = object->next)

/* ---- device.c ---- */

/* The machine's number of a visible device, or -1. */
int fake_device_physical(int device);
int fake_device_ordinal(int physical);
bool fake_device_reaches(int from, int to);

/* ---- stream.c: streams, and the work that is enqueued ---- */

enum fake_engine { FAKE_COMPUTE, FAKE_COPY, FAKE_ENGINES };

struct fake_task;
struct fake_work;
typedef void fake_visitor(const void *address, size_t bytes, void *arg);

struct fake_task_kind {
	enum fake_engine engine;
	bool host; /* may use memory that the driver does not know */
	void (*run)(const struct fake_task *task);
	/* Calls the visitor with each range of memory that the task uses, before or while it runs; may be NULL. */
	void (*visit)(const struct fake_task *task, fake_visitor *visitor, void *arg);
};

/* One piece of work, its parameters frozen: plain data. */
struct fake_task {
	const struct fake_task_kind *kind;
	const char *name;
	struct CUctx_st *context;
	union {
		struct {
			const struct CUfunc_st *function;
			char params[192];
		} kernel;
		struct {
			void *to;
			const void *from;
			size_t bytes;
		} copy;
		struct {
			void *to;
			uint32_t value;
			size_t width, count;
		} fill;
	};
};

struct CUstream_st {
	struct fake_object object;
	struct CUctx_st *context;
	bool blocking; /* waits for the legacy stream, and it for this one */
	int queue;
	struct fake_work *tail; /* the last enqueued, or NULL */
	struct fake_capture *capture;
	int heads; /* of the capture: what the next node comes after */
	int head[FAKE_MANY];
};

/* The stream that a handle stands for in the current context; NULL: there is none. */
struct CUstream_st *fake_stream_find(struct CUstream_st *handle);
/* Enqueues, or adds to the stream's capture. */
enum symm_cuda_result fake_stream_enqueue(struct CUstream_st *stream, const struct fake_task *task);
/* What comes next waits for other, too. The stream is not being captured. */
enum symm_cuda_result fake_stream_join(struct CUstream_st *stream, struct fake_work *other);
/* Enqueues all of a graph: task i comes after those of after[i], on the hardware queue[i]. last: the end of the
 * graph's last launch, exchanged for that of this one. */
struct fake_node;
void fake_stream_launch(struct CUstream_st *stream, const struct fake_node *nodes, int n, struct fake_work **last);
/* Waits until all that was enqueued has run. */
void fake_stream_drain(const struct CUstream_st *stream);

bool fake_work_done(const struct fake_work *work); /* NULL is done */
void fake_work_wait(struct fake_work *work);
uint64_t fake_work_ns(const struct fake_work *work);
/* By the work that runs: it uses no memory any more, though it is not done. */
void fake_work_over(void);
struct fake_work *fake_work_hold(struct fake_work *work);
void fake_work_drop(struct fake_work *work);
/* Asserts that no unfinished work uses the range, of which `what` is about to happen. */
void fake_work_check_unused(const void *address, size_t bytes, const char *what);
/* Asserts that a context has none. */
void fake_work_check_none(const struct CUctx_st *context);
/* Waits until it has none. */
void fake_work_wait_all(const struct CUctx_st *context);

/* ---- event.c ---- */

struct CUevent_st {
	struct fake_object object;
	struct fake_work *work; /* the last record, or NULL */
	bool timed;
	struct fake_capture *capture;
	int heads;
	int head[FAKE_MANY];
};

/* ---- capture.c: captures and graphs ---- */

struct fake_node {
	struct fake_task task;
	int queue;
	int n_after;
	int after[FAKE_MANY];
};

enum symm_cuda_result fake_capture_add(struct CUstream_st *stream, const struct fake_task *task);
void fake_capture_record(const struct CUstream_st *stream, struct CUevent_st *event);
enum symm_cuda_result fake_capture_wait(struct CUstream_st *stream, const struct CUevent_st *event);
/* 0, or why a call that would disturb captures is refused; it spoils them. */
enum symm_cuda_result fake_capture_unsafe(void);
enum symm_cuda_result fake_capture_spoil(struct fake_capture *capture, enum symm_cuda_result why);
/* 0, or why nothing can be enqueued on the context's legacy stream. */
enum symm_cuda_result fake_capture_legacy(const struct CUctx_st *context);

/* ---- context.c ---- */

struct CUctx_st {
	int device; /* the machine's number */
	int users;
	int pushes; /* on the stacks of all threads, those that had an end too */
	struct CUstream_st legacy;
	int queue; /* of the last stream; the legacy stream has queue 0 */
};

struct CUctx_st *fake_context_current(void);
enum symm_cuda_result fake_context_check(void);
struct CUstream_st *fake_context_per_thread(struct CUctx_st *context);

/* ---- memory.c, linear.c ---- */

/* A virtual address range with memory behind it. */
struct fake_mapping {
	struct fake_object object;
	char *address;
	size_t bytes;
	struct fake_handle *handle;
	unsigned int access; /* a bit a device, the machine's number */
};

/* Physical memory, or a multicast object. */
struct fake_handle {
	struct fake_object object;
	unsigned long long id;
	int fd;
	size_t bytes;
	int device; /* the machine's number */
	bool own;   /* created here: counts in the budget */
	unsigned int types;
	int users, mappings, binds;
	uint64_t nonce;
	struct fake_multicast *multicast; /* shared by processes, or NULL */
};

/* NULL: no such handle. */
struct fake_handle *fake_handle_find(unsigned long long id);
/* Takes over fd. */
struct fake_handle *fake_handle_add(int fd, size_t bytes, int device, unsigned int types, bool own);
void fake_handle_drop(struct fake_handle *handle);
/* A memfd of so many bytes, and in its last page who it is. -1: no memory. */
int fake_handle_file(size_t bytes, int device, unsigned int types, uint64_t *nonce);
struct fake_mapping *fake_mapping_find(const void *address);

/* Whether the device's budget has so much left; takes it. */
bool fake_memory_take(int device, size_t bytes);
void fake_memory_give(int device, size_t bytes);
/* Asserts that the device may use the range. False: it is host memory that the driver does not know. */
bool fake_memory_check(const void *address, size_t bytes, int device, const char *who);
/* The block of cuMemAlloc or cuMemHostAlloc that holds the address, or NULL. */
struct fake_linear *fake_linear_find(const void *address);
struct fake_linear {
	struct fake_object object;
	char *address;
	size_t bytes;
};
/* Garbage at both ends, so that missing zeroing shows. */
void fake_memory_soil(void *address, size_t bytes);

/* ---- multicast.c ---- */

bool fake_multicast_complete(const struct fake_handle *handle);
bool fake_multicast_has(const struct fake_handle *handle, int device);
void fake_multicast_open(struct fake_handle *handle);
void fake_multicast_close(struct fake_handle *handle);

#endif
