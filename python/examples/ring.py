#!/usr/bin/env python3
"""Numbers go round a ring of ranks, each of which adds them up: symmetric memory of the host device as NumPy arrays.

usage: symmrun -n 4 python3 ring.py
"""

import numpy
import symm

LENGTH = 100_000


def sum_over_ranks(group: symm.Group, values: numpy.ndarray) -> numpy.ndarray:
    # Two halves: a rank may still read the one while its left neighbour writes the other.
    tensor = group.empty((2, *values.shape), values.dtype)
    mem = symm.rendezvous(tensor)
    mine = numpy.asarray(tensor)
    right = numpy.asarray(mem.get_buffer((mem.rank + 1) % mem.world_size, tensor.shape, values.dtype))
    total = values.copy()
    for step in range(mem.world_size - 1):
        half = step % 2
        right[half] = values
        mem.barrier()
        values = mine[half].copy()
        total += values
    return total


def main() -> None:
    with symm.Context() as context, context.join("ring") as group:
        total = sum_over_ranks(group, numpy.full(LENGTH, group.rank + 1.0))
        assert (total == group.world_size * (group.world_size + 1) / 2).all()
        print(f"rank {group.rank} of {group.world_size}: the sum is {total[0]:g}, {LENGTH} times")


if __name__ == "__main__":
    main()
