/* handle.h: what users hold: pointers into a table of slots that is never unmapped.
 *
 * A handle is never dereferenced by the user. Its address names a slot, and its low bits the slot's generation, so
 * that a stale or foreign handle is an error and not a crash. A slot counts the calls that use its object now:
 * whoever destroys the object closes the handle first (new calls are refused) and waits until the calls inside have
 * gone.
 */
#ifndef SYMM_HANDLE_H
#define SYMM_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

enum symm_handle_kind {
	SYMM_HANDLE_CONTEXT = 1,
	SYMM_HANDLE_GROUP,
	SYMM_HANDLE_MEM,
	SYMM_HANDLE_STREAM,
	SYMM_HANDLE_POOL
};

/* A new handle for object; NULL with the detail written if there are too many. */
void *symm_handle_new(enum symm_handle_kind kind, void *object);
/* The object, held until symm_handle_put; NULL, with *rc SYMM_EINVAL (never a handle), SYMM_ESTALE (no more) or
 * SYMM_EFORK. */
void *symm_handle_get(const void *handle, enum symm_handle_kind kind, int *rc);
/* The same for a handle that is closed but not freed yet: for destructors that are called again. */
void *symm_handle_get_closed(const void *handle, enum symm_handle_kind kind, int *rc);
void symm_handle_put(const void *handle);
/* The same, for one thread at a time: SYMM_EBUSY while another has it, until symm_handle_put_alone or
 * symm_handle_free. */
void *symm_handle_get_alone(const void *handle, enum symm_handle_kind kind, int *rc);
void symm_handle_put_alone(const void *handle);
/* True if the address lies in the table of handles at all. */
bool symm_handle_is(const void *handle);
/* Refuses new calls from now on. */
void symm_handle_close(const void *handle);
/* Waits until at most `own` calls are inside; false at the deadline. */
bool symm_handle_drain(const void *handle, unsigned own, int64_t deadline);
/* There is no way back: refuses destructors as well, and waits until at most `own` calls are inside. */
void symm_handle_retire(const void *handle, unsigned own);
/* Gives the slot back: closed, and no other call inside. */
void symm_handle_free(const void *handle);

#endif
