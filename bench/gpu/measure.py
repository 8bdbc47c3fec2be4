"""Measures contenders: each is run once to warm up and to be checked, then all are timed in turn."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

import policy
import timing
from contenders import COPY, Absent, contenders
from problem import Problem, relative_error

LOGITS = "loss from logits (K3)"
# Total size of the copies of the logits: what in-place kernels overwrite in one sample at 5 TB/s.
_POOL_BYTES = 24 << 30


@dataclass
class Entry:
    """Work to be timed. `prepare`: see timing.sample; a run consists of `calls` calls. `facts`: fields of its row."""

    name: str
    role: str
    prepare: Callable
    calls: int = 1
    facts: dict = field(default_factory=dict)


@dataclass
class Results:
    """Rows of the table, skipped measurements with reasons, and failures."""

    rows: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    wrong: list = field(default_factory=list)

    def skip(self, operation, size, contender, reason):
        self.skipped.append({"operation": operation, "size": size, "contender": contender, "reason": reason})

    def fail(self, operation, size, contender, error):
        """Records a contender that raised. It is a failure if it is groupgrad, or if all contenders raised."""
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else ''}"
        if isinstance(error, torch.cuda.OutOfMemoryError):
            reason = "not enough GPU memory"
        elif contender.startswith(("groupgrad", "all")):
            self.wrong.append(f"{operation}, {size}, {contender}: {reason}")
        self.skip(operation, size, contender, reason)

    def check(self, operation, size, contender, error, tolerance):
        if not error <= tolerance:
            text = f"error {error:.2e}, at most {tolerance:.2e} is rounding"
            self.wrong.append(f"{operation}, {size}, {contender}: {text}")


def _time(machine, operation, size, entries, samples, results):
    """Samples the entries in turn, and adds a row for each."""
    timed = {entry.name: [] for entry in entries}
    paces = {}
    for round in range(-1, samples):  # the first sets the pace
        for entry in entries:
            if entry.name not in timed:
                continue
            try:
                if round < 0:
                    paces[entry.name] = timing.pace_of(machine, entry.prepare)
                else:
                    seconds = timing.sample(machine, paces[entry.name], entry.prepare)
                    timed[entry.name].append(seconds / entry.calls)
            except Exception as error:
                del timed[entry.name]
                results.fail(operation, size, entry.name, error)
    for entry in entries:
        if entry.name not in timed:
            continue
        median, low, high = (1e3 * timing.quantile(timed[entry.name], q) for q in (0.5, 0.1, 0.9))
        results.rows.append(
            {
                "operation": operation,
                "size": size,
                "contender": entry.name,
                "role": entry.role,
                "medianMs": median,
                "p10Ms": low,
                "p90Ms": high,
                "samples": samples,
                **entry.facts,
            }
        )


def measure_logits(machine, case, library, peers, samples, results):
    """One case of the loss from logits."""
    try:
        copies = _copies(machine, case)
        problem = Problem(case, machine.device)
        pool = timing.Pool(problem.source, copies)
        found = contenders(case, problem, library, peers)
    except MemoryError as error:
        results.skip(LOGITS, case.size, "all", str(error))
        return
    except Exception as error:  # after a fault on the GPU, all later ones fail too
        results.fail(LOGITS, case.size, "all", error)
        return
    entries = []
    for contender in found:
        if isinstance(contender, Absent):
            results.skip(LOGITS, case.size, contender.name, contender.reason)
            continue
        print(f"{LOGITS}, {case.size}: {contender.name}", file=sys.stderr, flush=True)
        try:
            entries.append(_logits_entry(machine, problem, pool, contender, results))
        except Exception as error:  # a peer's failure is a line in the table, not the end of the run
            results.fail(LOGITS, case.size, contender.name, error)
    _time(machine, LOGITS, case.size, entries, samples, results)


def _copies(machine, case):
    """How many copies of the logits fit in addition to the memory of PyTorch's contenders."""
    each = case.bytes + case.sequences * case.vocab * case.dtype.itemsize
    free = machine.free_bytes()
    held = 6 * each  # the source, and about five arrays of the logits' size in PyTorch's operations
    count = min(_POOL_BYTES, free - held) // each
    if count >= 3:
        return count
    if 5 * each > free:
        raise MemoryError(f"five arrays of {each / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free")
    return 3


def _logits_entry(machine, problem, pool, contender, results):
    def prepare(count):
        pairs = pool.take(count, contender.writes_logits, contender.needs_output)

        def work():
            for logits, output in pairs:
                contender.run(logits, output)

        return len(pairs), work

    [(logits, output)] = pool.take(1, contender.writes_logits, contender.needs_output)
    gradient = contender.run(logits, output)
    error = None
    if contender.expected is not None:
        error = contender.batch.error(gradient, contender.expected)
    del gradient
    if contender.role.startswith("groupgrad"):
        results.check(LOGITS, problem.case.size, contender.name, error, contender.batch.tolerance())
    extra = contender.extra_bytes
    if extra is None:
        _, work = prepare(1)
        extra = machine.peak_bytes(work)
    facts = {"usefulBytes": problem.useful_bytes, "error": error}
    facts["peakExtraMiB"] = None if extra is None else extra / 2**20
    return Entry(contender.name, contender.role, prepare, facts=facts)


def measure_policy(machine, sequences, length, library, compiled, samples, results):
    """The loss from rewards and log-probs at one shape, by calls and by replays of a CUDA graph. `compiled`: whether
    torch.compile is one of the contenders."""
    size = policy.by_calls(sequences, length)
    try:
        inputs = policy.PolicyInputs(sequences, length, machine.device)
        _, expected = inputs.differentiate(torch.float64)()
        ours = inputs.groupgrad_loss(library)
    except Exception as error:
        results.fail(policy.OPERATION, size, "all", error)
        return
    source = torch.ones(inputs.bytes // 2, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    torch_loss = inputs.differentiate(torch.float32)
    runs = [
        (COPY, "copy", lambda: target.copy_(source), None),
        ("groupgrad", "groupgrad", lambda: ours(), lambda: ours.gradient),
        ("PyTorch eager", "peer", torch_loss, lambda: torch_loss()[1]),
    ]
    if compiled:
        torch.compiler.reset()
        fused = inputs.differentiate(torch.float32, partial(torch.compile, dynamic=False))
        runs.append(("torch.compile", "peer", fused, lambda: fused()[1]))

    by_call, by_graph = [], []
    for name, role, run, gradient in runs:
        print(f"{policy.OPERATION}, {size}: {name}", file=sys.stderr, flush=True)
        try:
            run()
            facts = {}
            if gradient:
                facts["error"] = relative_error(gradient(), expected)
            if role == "groupgrad":
                facts["peakExtraMiB"] = ours.extra_bytes / 2**20
                results.check(policy.OPERATION, size, name, facts["error"], policy.tolerance())
            by_call.append(Entry(name, role, _repeated(run), facts=facts))
            replay = machine.capture(run, policy.CALLS_IN_GRAPH)
            facts["launches"] = machine.launches(run)
            by_graph.append(Entry(name, role, _repeated(replay), policy.CALLS_IN_GRAPH, facts))
        except Exception as error:
            results.fail(policy.OPERATION, size, name, error)
    _time(machine, policy.OPERATION, size, by_call, samples, results)
    _time(machine, policy.OPERATION, policy.by_graph(sequences, length), by_graph, samples, results)


def _repeated(run):
    def prepare(count):
        def work():
            for _ in range(count):
                run()

        return count, work

    return prepare
