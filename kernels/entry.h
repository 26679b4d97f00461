/* entry.h: what a kernel does, from its arguments to the word that it has ended. kernels/sync.cu makes kernels of it, a
 * CPU may run it too. symm_entry_barrier is for a warp, symm_entry_put_with_signal for a block, the others are for one
 * thread. */
#ifndef SYMM_KERNELS_ENTRY_H
#define SYMM_KERNELS_ENTRY_H

#include "payload.h"

SYMM_FN struct symm_sync_place symm_entry_place(const struct symm_sync_args *args)
{
	struct symm_sync_place at;

	at.sync = args->sync;
	at.group = args->group;
	at.own = args->own;
	at.world_size = args->world_size;
	return at;
}

/* By one lane, after all. Who sees the result sees that it is counted. */
SYMM_FN void symm_entry_end(const struct symm_sync_args *args, int code, uint32_t blame)
{
	struct symm_sync_result *result = args->result;

	if (args->counted)
		symm_counter_bump(&args->sync->ended);
	if (result != NULL) {
		result->code = code;
		result->peer = blame;
		symm_fence_release();
		symm_flag_publish(&result->done, 1);
	}
}

SYMM_FN void symm_entry_barrier(const struct symm_sync_args *args)
{
	struct symm_sync_place at = symm_entry_place(args);
	uint32_t blame = 0;
	int code;

	symm_stream_enter();
	code = symm_sync_barrier(&at, SYMM_WAIT_LANES, args->channel, args->timeout_ns, &blame);

	symm_lanes_meet(SYMM_WAIT_LANES);
	if (symm_lane(SYMM_WAIT_LANES) == 0)
		symm_entry_end(args, code, blame);
}

SYMM_FN void symm_entry_put_signal(const struct symm_sync_args *args)
{
	struct symm_sync_place at = symm_entry_place(args);
	uint32_t blame = 0;
	int code;

	symm_stream_enter();
	code = symm_sync_put_signal(&at, args->peer, args->channel, args->timeout_ns, &blame);

	symm_entry_end(args, code, blame);
}

SYMM_FN void symm_entry_wait_signal(const struct symm_sync_args *args)
{
	struct symm_sync_place at = symm_entry_place(args);
	uint32_t blame = 0;
	int code;

	symm_stream_enter();
	code = symm_sync_wait_signal(&at, args->peer, args->channel, args->timeout_ns, &blame);

	symm_entry_end(args, code, blame);
}

SYMM_FN void symm_entry_put_with_signal(const struct symm_sync_args *args)
{
	struct symm_sync_place at = symm_entry_place(args);
	uint32_t blame = 0;
	int code;

	symm_stream_enter();
	code = symm_payload_put(&at, &args->payload, args->peer, args->channel, args->timeout_ns, &blame);

	if (symm_block_lane() == 0)
		symm_entry_end(args, code, blame);
}

SYMM_FN void symm_entry_write_value(const struct symm_sync_args *args)
{
	const struct symm_sync_payload *payload = &args->payload;

	symm_stream_enter();
	symm_entry_end(args, symm_payload_publish(args->group, payload->dst, payload->value, payload->bytes), 0);
}

/* Work of another kind that stood before in the stream has ended. */
SYMM_FN void symm_entry_count(const struct symm_sync_args *args)
{
	symm_stream_enter();
	symm_entry_end(args, 0, 0);
}

#endif
