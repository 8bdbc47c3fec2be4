"""Measurement of time and memory: device events, contenders in turn, rotating inputs."""

import ctypes
import gc
import math
import time
from dataclasses import dataclass

import torch

# Minimum duration of a sample; number of samples that medians are taken over.
SAMPLE_SECONDS = 0.01
SAMPLES = 50
# The longest time that the host may take to enqueue one stretch of work: the stream's queue holds about a thousand kernels.
_HOST_SECONDS = 0.005


class Gpu:
    """The current CUDA device."""

    device = torch.device("cuda")
    least_seconds = SAMPLE_SECONDS

    def __init__(self):
        cycles = 50_000_000
        torch.cuda._sleep(4 * cycles)  # until the clock of an idle GPU has gone up
        self._cycles_per_second = cycles / self.seconds(lambda: torch.cuda._sleep(cycles), 0)

    def stream(self):
        return torch.cuda.current_stream().cuda_stream

    def synchronize(self):
        torch.cuda.synchronize()

    def free_bytes(self):
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    def seconds(self, work, host_seconds):
        """Device time of `work`, which the host needs `host_seconds` to enqueue.

        The device waits for about as long first, so that gaps between kernels are its own and not the host's.
        """
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if host_seconds > 0:
            torch.cuda._sleep(int(host_seconds * self._cycles_per_second))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def peak_bytes(self, work):
        """By how much PyTorch's allocations grew at their peak while `work` ran."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = work()
        torch.cuda.synchronize()
        del kept
        return torch.cuda.max_memory_allocated() - before

    def capture(self, work, calls):
        """A function that replays a CUDA graph of several calls."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                work()
        return graph.replay

    def launches(self, work):
        """How many nodes a CUDA graph of `work` has: kernels, copies, fills. None if this PyTorch cannot tell."""
        count = ctypes.c_size_t()
        try:
            graph = torch.cuda.CUDAGraph(keep_graph=True)
            with torch.cuda.graph(graph):
                work()
            handle = ctypes.c_void_p(graph.raw_cuda_graph())
            failed = ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(handle, None, ctypes.byref(count))
        except (AttributeError, OSError, TypeError):
            return None
        return None if failed else count.value


class Host:
    """The processor in place of a GPU, for a library built with GROUPGRAD_CUDA=EMULATED: a test of the benchmark, not a
    measurement."""

    device = torch.device("cpu")
    least_seconds = 0.0

    def stream(self):
        return 0

    def synchronize(self):
        pass

    def free_bytes(self):
        return 1 << 28

    def seconds(self, work, host_seconds):
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def peak_bytes(self, work):
        work()
        return None

    def capture(self, work, calls):
        def replay():
            for _ in range(calls):
                work()

        return replay

    def launches(self, work):
        return None


class Pool:
    """Rotating copies of a source, at least three. Overwritten ones are filled again before they are read."""

    def __init__(self, source, count):
        self.source = source
        self.copies = list(source.unsqueeze(0).expand(count, *source.shape).contiguous())
        self._fresh = [True] * count
        self._next = 0

    def take(self, count, writes_input, needs_output):
        """Inputs and outputs for at most `count` runs; each output is None if none is needed."""
        total = len(self.copies)
        count = min(count, total // 2 if needs_output else total)
        places = [(self._next + i) % total for i in range(2 * count if needs_output else count)]
        self._next = (self._next + len(places)) % total
        inputs, outputs = places[:count], places[count:] or [None] * count
        for place in inputs:
            if not self._fresh[place]:
                self.copies[place].copy_(self.source)
            self._fresh[place] = not writes_input
        for place in outputs:
            if place is not None:
                self._fresh[place] = False
        return [(self.copies[i], None if o is None else self.copies[o]) for i, o in zip(inputs, outputs, strict=True)]


@dataclass
class Pace:
    """Seconds of one run on the device and on the host."""

    device: float
    host: float


def pace_of(machine, prepare):
    """A first estimate, for work that has run before. `prepare`: see `sample`."""
    count, work = prepare(3)
    begin = end = 0.0

    def observed():
        nonlocal begin, end
        begin = time.perf_counter()
        work()
        end = time.perf_counter()

    seconds = machine.seconds(observed, 0)
    return Pace(seconds / count, (end - begin) / count)


def sample(machine, pace, prepare):
    """Seconds of one run: the mean over at least SAMPLE_SECONDS of work.

    `prepare(count)`: does what is not timed for at most `count` runs; gives their number and what runs them.
    """
    left = max(1, math.ceil(machine.least_seconds / pace.device))
    stretch = max(1, int(_HOST_SECONDS / pace.host))
    runs, seconds = 0, 0.0
    while left > 0:
        count, work = prepare(min(left, stretch))
        seconds += machine.seconds(work, 1.2 * count * pace.host)
        runs += count
        left -= count
    return seconds / runs


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
