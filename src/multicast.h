/* multicast.h: one address for the blocks of all ranks of a group: what a kernel stores there, the links store in every
 * rank's block, and what it loads there can be summed on its way. A part of a rendezvous that may fail by itself: then
 * all ranks go on without.
 *
 * Off unless SYMM_MULTICAST=1. Whether a rank offers it stands in its member record, so that all decide alike without
 * asking. Steps: rank 0 makes the object while it prepares, and offers it to all; once all have come, each imports it,
 * rank 0 too, and adds its device; all tell whether they could; each binds its block, and maps the object; all tell
 * again; then rank 0 drops what it made.
 */
#ifndef SYMM_MULTICAST_H
#define SYMM_MULTICAST_H

#include "await.h"
#include "exports.h"

/* One rank's part in an object. All zero: none. */
struct multicast {
	struct block *block; /* bound to the object; not a reference */
	symm_phys object;
	void *address;
};

/* During a rendezvous. All zero: not begun. */
struct multicast_offer {
	struct block *block;
	bool agreed;             /* all ranks offer it */
	struct symm_err failure; /* what keeps this rank from it */
	bool made;               /* rank 0 */
	symm_phys object;
	bool exported;
	struct export export;
};

/* Why the environment keeps multicast off: the setting; NULL if it does not. */
const char *symm_multicast_veto(void);
/* What stands in the member record: the device has it, and the environment lets us. */
bool symm_multicast_offered(struct symm_device *device);

/* Before the ranks come to the rendezvous that `whole` is about. What goes wrong here all hear of in the next step. */
void symm_multicast_begin(struct multicast_offer *offer, const struct await *whole, struct block *block);
/* After all have come and before they vote. failure: what this rank will have to vote. *made stays as it is if all go
 * on without. An error only if the store does not answer. */
int symm_multicast_make(struct multicast_offer *offer, const struct await *whole, const struct symm_err *failure,
			struct multicast *made);
/* Takes back what was offered. */
void symm_multicast_end(struct multicast_offer *offer);
/* Nothing may use the address any more. */
void symm_multicast_free(struct multicast *multicast);

#endif
