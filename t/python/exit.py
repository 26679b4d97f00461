"""One rank of t/python.sh: the interpreter exits while all that there is to close is open, and referred to by modules,
by rings, and by arrays, which something looks at even then; on rank 1 by capsules that nobody took, too."""

import atexit
import sys

arrays = []
atexit.register(lambda: [array.sum() for array in arrays])  # what was registered first runs last

import symm
import symm._handle
from world import ON_HOST, numpy, open_context

context = open_context()
group = context.join("exit")
tensor = group.empty((4, 4), "int32")
mem = symm.rendezvous(tensor)
stream = symm.Stream(context)
mem.barrier_on_stream(stream=stream)
view = mem.get_buffer((mem.rank + 1) % mem.world_size, 4, "int32")
stream.ring = tensor.ring = [context, group, tensor, mem, stream, view]
if ON_HOST and numpy is not None:
    arrays.append(numpy.asarray(view))
    arrays.append(numpy.asarray(tensor))
if mem.rank == 1:
    symm._handle.kept = sys.kept = [tensor.__dlpack__(), view.__dlpack__(max_version=(1, 0))]
mem.barrier(channel=1)
