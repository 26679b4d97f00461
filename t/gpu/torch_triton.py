#!/usr/bin/env python3
"""Kernels in Triton that meet symm's calls on other ranks, by the steps of symm-sync-words(7).

In each round every rank writes to the next rank and reads what the previous one wrote, with signals and with barriers:
in a kernel of Triton, by calls on torch's current stream, or by calls that block. Each of these meets each, on counters
that the others have moved. Then kernels wait for what never comes, and for a group that fails.

usage: symmrun -n 2 --device cuda python3 torch_triton.py [ROUNDS]        (of each pair: 100)
With TRITON_INTERPRET=1 it runs on the host device too.
"""

import os
import sys

import symm
import torch
import triton
import triton.language as tl

CALLERS = "triton", "stream", "blocking"
DATA, ANSWERS, BARRIERS, FULL, SILENT = range(5)  # channels
LOOKS = 200_000 if os.environ.get("TRITON_INTERPRET") == "1" else 10_000_000  # some 20 s
FEW = 1000
LENGTH = tl.constexpr(4096)  # words that a rank writes in a round
BLOCK = tl.constexpr(1024)


# ---- the recipe: symm-sync-words(7) quotes it ----

GAVE_UP = tl.constexpr(-1)

# What stands where in a table of 64 bits each. In both kinds:
POISON = tl.constexpr(0)
GENERATION = tl.constexpr(1)
EPOCH0 = tl.constexpr(2)
# In signal_table's:
PUT_TICKET = tl.constexpr(3)
CREDIT = tl.constexpr(4)  # the peer's, for us
SIGNAL = tl.constexpr(5)  # ours, for the peer
WAIT_TICKET = tl.constexpr(6)
ARRIVAL = tl.constexpr(7)  # the peer's signal, for us
RECEIPT = tl.constexpr(8)  # our credit, for the peer
# In barrier_table's:
BARRIER_TICKET = tl.constexpr(3)
BARRIER_DONE = tl.constexpr(4)
OTHERS = tl.constexpr(5)  # of each, our word there and its word here


@triton.jit
def address(table, index):
    return tl.load(table + index).to(tl.pointer_type(tl.int64))


@triton.jit
def poison_of(table):
    poison = tl.load(table + POISON).to(tl.pointer_type(tl.int32))
    return tl.atomic_add(poison, 0, sem="relaxed", scope="gpu")


@triton.jit
def take(ticket):
    return tl.atomic_add(ticket, 1, sem="relaxed", scope="gpu")


@triton.jit
def word_of(table, call):
    epoch = (tl.load(table + EPOCH0) + call) & 0xFFFFFFFF
    return tl.load(table + GENERATION) | epoch


@triton.jit
def is_reached(word, want):
    return ((word >> 32) == (want >> 32)) & ((word - want).to(tl.int32) >= 0)


@triton.jit
def load(word):
    return tl.atomic_add(word, 0, sem="acquire", scope="sys")


@triton.jit
def store(word, value):
    tl.debug_barrier()
    tl.atomic_xchg(word, value, sem="release", scope="sys")


@triton.jit
def reach(table, word, want, looks):
    """0, the code with which the group has failed, or GAVE_UP."""
    code = poison_of(table)
    while (code == 0) & (is_reached(load(word), want) == 0):
        looks -= 1
        code = tl.where(looks > 0, poison_of(table), GAVE_UP)
    return code


@triton.jit
def put_signal(table, looks):
    code = poison_of(table)
    if code == 0:
        ticket = take(address(table, PUT_TICKET))
        if ticket > 0:
            credit = address(table, CREDIT)
            code = reach(table, credit, word_of(table, ticket), looks)
        if code == 0:
            store(address(table, SIGNAL), word_of(table, ticket + 1))
    return code


@triton.jit
def wait_signal(table, looks):
    code = poison_of(table)
    if code == 0:
        want = word_of(table, take(address(table, WAIT_TICKET)) + 1)
        code = reach(table, address(table, ARRIVAL), want, looks)
        if code == 0:
            store(address(table, RECEIPT), want)
    return code


@triton.jit
def barrier(table, others: tl.constexpr, looks):
    code = poison_of(table)
    if code == 0:
        ticket = take(address(table, BARRIER_TICKET))
        want = word_of(table, ticket + 1)
        for other in range(others):
            store(address(table, OTHERS + 2 * other), want)
        for other in range(others):
            if code == 0:
                theirs = address(table, OTHERS + 2 * other + 1)
                code = reach(table, theirs, want, looks)
        if code == 0:
            tl.store(address(table, BARRIER_DONE), ticket + 1)
    return code


def word_at(words, offset, reader, writer, channel):
    row = channel * words.channel_stride
    return words.slots[reader] + offset + row + 8 * writer


def head_of_table(words):
    return [words.poison, words.generation << 32, words.epoch0]


def signal_table(words, peer, channel):
    ticket = peer * words.peer_stride + channel * words.ticket_stride
    return head_of_table(words) + [
        words.put_ticket + ticket,
        word_at(words, words.credit_offset, words.rank, peer, channel),
        word_at(words, words.signal_offset, peer, words.rank, channel),
        words.wait_ticket + ticket,
        word_at(words, words.signal_offset, words.rank, peer, channel),
        word_at(words, words.credit_offset, peer, words.rank, channel),
    ]


def barrier_table(words, channel):
    table = head_of_table(words) + [
        words.barrier_ticket + channel * words.barrier_stride,
        words.barrier_done + channel * words.barrier_stride,
    ]
    for rank in range(words.world_size):
        if rank != words.rank:
            for reader, writer in (rank, words.rank), (words.rank, rank):
                offset = words.barrier_offset
                table.append(word_at(words, offset, reader, writer, channel))
    return table


# ---- what uses it ----


@triton.jit
def write(blocks, value):
    theirs = address(blocks, 1)
    for start in range(0, LENGTH, BLOCK):
        index = start + tl.arange(0, BLOCK)
        tl.store(theirs + index, value + index)


@triton.jit
def count_wrong(blocks, value, wrong):
    mine = address(blocks, 0)
    for start in range(0, LENGTH, BLOCK):
        index = start + tl.arange(0, BLOCK)
        tl.atomic_add(wrong, tl.sum((tl.load(mine + index) != value + index).to(tl.int64)))


@triton.jit(do_not_specialize=["sent", "expected", "looks"])
def round_of_signals(blocks, right, left, right_answers, left_answers, sent, expected, wrong, failed, looks):
    write(blocks, sent)
    code = put_signal(right, looks)
    if code == 0:
        code = wait_signal(left, looks)
    if code == 0:
        count_wrong(blocks, expected, wrong)
        code = put_signal(left_answers, looks)
    if code == 0:
        code = wait_signal(right_answers, looks)
    if code != 0:
        tl.store(failed, code)


@triton.jit(do_not_specialize=["sent", "expected", "looks"])
def round_of_barriers(blocks, table, others: tl.constexpr, sent, expected, wrong, failed, looks):
    write(blocks, sent)
    code = barrier(table, others, looks)
    if code == 0:
        count_wrong(blocks, expected, wrong)
        code = barrier(table, others, looks)
    if code != 0:
        tl.store(failed, code)


@triton.jit(do_not_specialize=["looks"])
def only_put(table, looks, result):
    tl.store(result, put_signal(table, looks))


@triton.jit(do_not_specialize=["looks"])
def only_wait(table, looks, result):
    tl.store(result, wait_signal(table, looks))


@triton.jit(do_not_specialize=["looks"])
def only_barrier(table, others: tl.constexpr, looks, result):
    tl.store(result, barrier(table, others, looks))


class Side:
    """One rank's part, with torch's tensors on its device."""

    def __init__(self, context, group):
        tensor = group.empty(LENGTH.value, torch.int64)
        if tensor.device != "host":
            torch.cuda.set_device(tensor.device)
            torch.cuda.set_stream(torch.cuda.Stream())
        self.mem = symm.rendezvous(tensor)
        self.group, self.rank, world = group, self.mem.rank, self.mem.world_size
        self.left, self.right = (self.rank - 1) % world, (self.rank + 1) % world
        self.mine = torch.from_dlpack(tensor)
        self.theirs = torch.from_dlpack(self.mem.get_buffer(self.right, LENGTH.value, torch.int64))
        self.stream = None if self.mine.is_cuda else symm.Stream(context)
        self.index = torch.arange(LENGTH.value, device=self.mine.device)
        self.wrong, self.failed = self.numbers([0]), self.numbers([0])
        # Addresses, as Triton's interpreter copies the tensors that it is given.
        self.blocks = self.numbers([self.mem.buffer(self.rank), self.mem.buffer(self.right)])
        self.words = self.mem.sync_words()
        pairs = [(peer, channel) for channel in (DATA, ANSWERS) for peer in (self.right, self.left)]
        self.signals = [self.numbers(signal_table(self.words, *pair)) for pair in pairs]
        self.barriers = self.numbers(barrier_table(self.words, BARRIERS)), world - 1

    def numbers(self, values):
        return torch.tensor(values, device=self.mine.device)

    def settle(self):
        if self.mine.is_cuda:
            torch.cuda.current_stream().synchronize()

    def call(self, caller, name, *arguments):
        """A call of symm's: on torch's current stream, if there is one, or blocking."""
        if caller == "blocking":
            self.settle()
            getattr(self.mem, name)(*arguments)
            return
        getattr(self.mem, name + "_on_stream")(*arguments, stream=self.stream)
        if self.stream:
            self.stream.synchronize()

    def count(self, expected):
        self.wrong += (self.mine != self.index + expected).sum()

    def signal(self, caller, sent, expected):
        if caller == "triton":
            round_of_signals[1,](self.blocks, *self.signals, sent, expected, self.wrong, self.failed, LOOKS)
            return
        torch.add(self.index, sent, out=self.theirs)
        self.call(caller, "put_signal", self.right, DATA)
        self.call(caller, "wait_signal", self.left, DATA)
        self.count(expected)
        self.call(caller, "put_signal", self.left, ANSWERS)
        self.call(caller, "wait_signal", self.right, ANSWERS)

    def barrier(self, caller, sent, expected):
        if caller == "triton":
            round_of_barriers[1,](self.blocks, *self.barriers, sent, expected, self.wrong, self.failed, LOOKS)
            return
        torch.add(self.index, sent, out=self.theirs)
        self.call(caller, "barrier", BARRIERS)
        self.count(expected)
        self.call(caller, "barrier", BARRIERS)

    def silent_signal(self):
        """Nobody puts it."""
        return (self.numbers(signal_table(self.words, self.left, SILENT)),)

    def full_signal(self):
        """Nobody waits for it."""
        return (self.numbers(signal_table(self.words, self.right, FULL)),)

    def silent_barrier(self):
        """Nobody else enters it."""
        return self.numbers(barrier_table(self.words, SILENT + self.rank)), self.mem.world_size - 1

    def run(self, kernel, *arguments):
        """What the kernel returns."""
        code = self.numbers([0])
        compiled = kernel[1,](*arguments, code)
        if self.mine.is_cuda:
            check_scopes(compiled.asm["ptx"])
        return code.item()


def check_scopes(ptx):
    """What is loaded and stored for other ranks is so in the scope of the system."""
    for order in "acquire", "release":
        assert f"{order}.sys" in ptx or f"sys.{order}" in ptx, ptx
    assert "ld.global.nc" not in ptx, ptx


def exchange(side, rounds):
    """So many rounds of each pair of callers, with signals and with barriers; how many words came wrong so far."""
    for number in range(rounds * len(CALLERS) ** 2):
        caller = CALLERS[number // len(CALLERS) ** side.rank % len(CALLERS)]
        sent, expected = 10_000 * number + side.rank, 10_000 * number + side.left
        side.signal(caller, sent, expected)
        side.barrier(caller, sent + 5000, expected + 5000)
    side.settle()
    assert side.failed.item() == 0, f"a kernel of Triton returned {side.failed.item()}"
    side.group.status()
    return side.wrong.item()


def give_up(side):
    """A kernel that waits for what nobody does ends, and harms nothing but its channel. Only the first of two signals
    finds room."""
    codes = [side.run(only_put, *side.full_signal(), FEW), side.run(only_put, *side.full_signal(), FEW)]
    codes += [side.run(only_wait, *side.silent_signal(), FEW), side.run(only_barrier, *side.silent_barrier(), FEW)]
    assert codes == [0, GAVE_UP.value, GAVE_UP.value, GAVE_UP.value], f"kernels returned {codes}"
    return exchange(side, 1)


def fail(side):
    """A kernel that waits learns that rank 0 has failed the group, and later ones at once."""
    if side.rank == 0:
        try:
            side.mem.wait_signal(side.left, SILENT, timeout=0.5)
        except symm.TimeoutError:
            pass
    codes = [side.run(only_wait, *side.silent_signal(), LOOKS), side.run(only_put, *side.full_signal(), LOOKS)]
    codes += [side.run(only_barrier, *side.silent_barrier(), LOOKS)]
    try:
        side.group.status()
    except symm.Error as error:
        assert codes == [-error.code] * 3, f"kernels returned {codes}, and the group: {error.code}, {error}"
        return
    raise AssertionError("the group has not failed")


def meet(context, group, rounds):
    """How many words came wrong."""
    side = Side(context, group)
    exchange(side, rounds)
    wrong = give_up(side)
    print(f"figure triton.rank{side.rank}.wrong {wrong} words", flush=True)
    return wrong, f"rank {side.rank}: triton {triton.__version__} on {side.mine.device}"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with symm.Context() as context:
        with context.join("triton") as group:
            wrong, who = meet(context, group, rounds)
        with context.join("triton.fails") as group:
            fail(Side(context, group))
    print(f"ok - {who}", flush=True)
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
