#!/usr/bin/env python3
"""Torch writes into the next GPU's memory, and symm's barriers stand on torch's current stream between its operations.

usage: symmrun -n 2 --device cuda python3 torch_stream.py
"""

import symm
import torch

LENGTH = 1 << 20
ROUNDS = 100


def exchange(group: symm.Group) -> int:
    """How many numbers came wrong from the left neighbour."""
    tensor = group.empty(LENGTH, torch.int64)
    mem = symm.rendezvous(tensor)
    left, right = (mem.rank - 1) % mem.world_size, (mem.rank + 1) % mem.world_size
    with torch.cuda.device(tensor.device), torch.cuda.stream(torch.cuda.Stream()):
        mine = torch.from_dlpack(tensor)
        theirs = torch.from_dlpack(mem.get_buffer(right, LENGTH, torch.int64))
        index = torch.arange(LENGTH, device=tensor.device)
        wrong = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for number in range(ROUNDS):
            torch.add(index, 1000 * number + mem.rank, out=theirs)
            mem.barrier_on_stream()  # all have written
            wrong += (mine != index + (1000 * number + left)).sum()
            mem.barrier_on_stream()  # all have read
        result = int(wrong)  # waits for the stream
    group.status()  # an error on the stream would be told here
    return result


def main() -> None:
    with symm.Context() as context, context.join("torch") as group:
        wrong = exchange(group)
        print(f"rank {group.rank} of {group.world_size}: {ROUNDS} rounds, {wrong} numbers wrong")
        assert wrong == 0


if __name__ == "__main__":
    main()
