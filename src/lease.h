/* lease.h: a timer on the loop thread that refreshes a group's lease in the store and hears what the store knows:
 * that the group has failed elsewhere, and which ranks of other hosts have fallen silent. */
#ifndef SYMM_LEASE_H
#define SYMM_LEASE_H

struct group;
struct lease;

int symm_lease_start(struct group *group, struct lease **lease);
/* No call about the group comes from the loop after this. */
void symm_lease_stop(struct lease *lease);
/* Refreshes now. Any thread. */
void symm_lease_hurry(struct lease *lease);

#endif
